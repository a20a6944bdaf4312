"""Enqueues that are made while another is under way travel together, in one call of the driver."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from flowli_core.driver import Driver, Enqueued, NewRecord
from flowli_core.errors import DriverError

MOST_TOGETHER = 1_000
MOST_BYTES = 1024 * 1024
"""Of the inputs and metas that travel together; the first of a batch may be larger."""


@dataclass(slots=True, eq=False)
class _Letter:
    """A record that waits, and what its caller waits for: an answer, or its turn to send what has gathered (None)."""

    record: NewRecord
    answer: asyncio.Future[Enqueued | None]


class _Lane:
    """The letters of one event loop."""

    def __init__(self) -> None:
        self.is_busy = False
        self.waiting: list[_Letter] = []

    def take(self) -> list[_Letter]:
        """Take what may travel together."""
        size = count = 0
        for letter in self.waiting[:MOST_TOGETHER]:
            size += len(letter.record.input) + len(letter.record.meta or b"")
            if count and size > MOST_BYTES:
                break
            count += 1
        taken, self.waiting = self.waiting[:count], self.waiting[count:]
        return taken

    def pass_on(self) -> None:
        """Let the next one send, now that a call has ended."""
        while self.waiting:
            first = self.waiting[0]
            if not first.answer.done():
                first.answer.set_result(None)
                return
            del self.waiting[0]
        self.is_busy = False


class Outbox:
    """Sends records to a driver, one call at a time for each event loop.

    A caller that finds the lane free calls the driver itself, so nothing is added to a lone call. Those who come while
    it is under way wait, and the first of them sends for all. There is no task behind it: where the sender is
    cancelled, the next one sends again, which adds nothing twice because a driver is idempotent by id.
    """

    def __init__(self) -> None:
        self._lanes: WeakKeyDictionary[asyncio.AbstractEventLoop, _Lane] = WeakKeyDictionary()

    async def enqueue(self, driver: Driver, records: Sequence[NewRecord]) -> list[Enqueued]:
        """Store the records as `Driver.enqueue` does. Several are a batch already, and travel alone."""
        if len(records) != 1:
            return await driver.enqueue(records)
        loop = asyncio.get_running_loop()
        lane = self._lanes.get(loop)
        if lane is None:
            lane = self._lanes[loop] = _Lane()
        if lane.is_busy:
            return [await _wait(lane, _Letter(records[0], loop.create_future()), driver)]
        lane.is_busy = True
        try:
            return await driver.enqueue(records)
        finally:
            lane.pass_on()


async def _wait(lane: _Lane, letter: _Letter, driver: Driver) -> Enqueued:
    lane.waiting.append(letter)
    try:
        answer = await letter.answer
    except asyncio.CancelledError:
        if letter in lane.waiting:
            lane.waiting.remove(letter)
        if not letter.answer.cancelled() and letter.answer.exception() is None and letter.answer.result() is None:
            lane.pass_on()  # It was its turn.
        raise
    return await _send(lane, letter, driver) if answer is None else answer


async def _send(lane: _Lane, own: _Letter, driver: Driver) -> Enqueued:
    """Send what has gathered, and tell the others what became of theirs."""
    others = lane.take()[1:]
    try:
        answers = await driver.enqueue([own.record, *(letter.record for letter in others)])
    except asyncio.CancelledError:
        lane.waiting[:0] = others
        raise
    except Exception as error:
        for letter in others:
            _tell(letter, _for_one(error, letter.record))
        if isinstance(error, DriverError):
            error.ids = (own.record.id,)
        raise
    else:
        for letter, answer in zip(others, answers[1:], strict=True):
            _tell(letter, answer)
        return answers[0]
    finally:
        lane.pass_on()


def _tell(letter: _Letter, answer: Enqueued | Exception) -> None:
    if letter.answer.done():
        return  # Its caller was cancelled.
    if isinstance(answer, Exception):
        letter.answer.set_exception(answer)
    else:
        letter.answer.set_result(answer)


def _for_one(error: Exception, record: NewRecord) -> Exception:
    """The error of a call for many, as one of those sees it: tasks that share one would share its traceback."""
    try:
        own = copy.copy(error)
    except Exception:  # noqa: BLE001 - a class that wants more than its `args`
        own = DriverError(f"{type(error).__name__}: {error}")
    own.__cause__ = error
    if isinstance(own, DriverError):
        own.ids = (record.id,)
    return own
