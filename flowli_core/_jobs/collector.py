"""The collector: sends single enqueues that are made while another is in flight together, in one call of the driver."""

import asyncio
import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from weakref import WeakKeyDictionary

from flowli_core.driver import Driver
from flowli_core.errors import DriverError
from flowli_core.limits import MAX_ENQUEUE_BYTES, MAX_ENQUEUE_RECORDS
from flowli_core.new_records import Enqueued, NewRecord


def count_batch(records: Iterable[NewRecord]) -> int:
    """Return how many of these records, from the first on, are sent in one call: at least one, if there is any."""
    size = count = 0
    for record in islice(records, MAX_ENQUEUE_RECORDS):
        size += len(record.input) + len(record.meta or b"")
        if count and size > MAX_ENQUEUE_BYTES:
            break
        count += 1
    return count


@dataclass(slots=True, eq=False)
class _Waiting:
    """A record whose caller waits for `turn`: its result is the driver's answer, or None if the caller is to send."""

    record: NewRecord
    turn: asyncio.Future[Enqueued | None]


class _Queue:
    """The records that wait in one event loop. `is_busy` while a call of the driver is in flight there."""

    def __init__(self) -> None:
        self.is_busy = False
        self.waiting: list[_Waiting] = []

    def take_batch(self) -> list[_Waiting]:
        """Remove the next batch from the queue and return it."""
        count = count_batch(entry.record for entry in self.waiting)
        taken, self.waiting = self.waiting[:count], self.waiting[count:]
        return taken

    def wake_next(self) -> None:
        """Let the caller of the first waiting record send the next batch. Call this when a call has ended."""
        while self.waiting:
            first = self.waiting[0]
            if not first.turn.done():
                first.turn.set_result(None)
                return
            del self.waiting[0]
        self.is_busy = False


class Collector:
    """Sends records to a driver, one call at a time for each event loop.

    If no call is in flight, a caller calls the driver itself, so a single enqueue is not delayed. Callers that arrive
    during a call wait, and the first of them sends the records of all. No task is needed for this. If the sender is
    cancelled, the next caller sends the batch again: the driver is idempotent by id, so nothing is stored twice.
    """

    def __init__(self) -> None:
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue] = WeakKeyDictionary()

    async def enqueue(self, driver: Driver, records: Sequence[NewRecord]) -> list[Enqueued]:
        """Store records as `Driver.enqueue` does. Only single records are collected into batches."""
        if len(records) != 1:
            return await driver.enqueue(records)
        loop = asyncio.get_running_loop()
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues[loop] = _Queue()
        if queue.is_busy:
            return [await _wait(queue, _Waiting(records[0], loop.create_future()), driver)]
        queue.is_busy = True
        try:
            return await driver.enqueue(records)
        finally:
            queue.wake_next()


async def _wait(queue: _Queue, own: _Waiting, driver: Driver) -> Enqueued:
    queue.waiting.append(own)
    try:
        answer = await own.turn
    except asyncio.CancelledError:
        if own in queue.waiting:
            queue.waiting.remove(own)
        if not own.turn.cancelled() and own.turn.exception() is None and own.turn.result() is None:
            queue.wake_next()  # This caller was chosen to send the next batch, so another must.
        raise
    return await _send_batch(queue, own, driver) if answer is None else answer


async def _send_batch(queue: _Queue, own: _Waiting, driver: Driver) -> Enqueued:
    """Send the next batch, whose first record is `own`, and pass the answers or the error to the other callers."""
    others = queue.take_batch()[1:]
    try:
        answers = await driver.enqueue([own.record, *(entry.record for entry in others)])
    except asyncio.CancelledError:
        queue.waiting[:0] = others
        raise
    except Exception as error:
        for entry in others:
            _resolve(entry, _copy_error(error, entry.record))
        if isinstance(error, DriverError):
            error.ids = (own.record.id,)
        raise
    else:
        for entry, answer in zip(others, answers[1:], strict=True):
            _resolve(entry, answer)
        return answers[0]
    finally:
        queue.wake_next()


def _resolve(entry: _Waiting, answer: Enqueued | Exception) -> None:
    if entry.turn.done():
        return  # The caller was cancelled.
    if isinstance(answer, Exception):
        entry.turn.set_exception(answer)
    else:
        entry.turn.set_result(answer)


def _copy_error(error: Exception, record: NewRecord) -> Exception:
    """Return a copy of the error of a batch for the caller of one record, with that record's id.

    If several tasks raised the same exception object, each would append to its traceback.
    """
    try:
        own = copy.copy(error)
    except Exception:  # noqa: BLE001 - the constructor takes more than the error's `args`
        own = DriverError(f"{type(error).__name__}: {error}")
    own.__cause__ = error
    if isinstance(own, DriverError):
        own.ids = (record.id,)
    return own
