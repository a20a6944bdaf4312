"""The way from an outbox to the store: records are sent after their commit, and those that were left behind later."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from weakref import WeakKeyDictionary

from flowli_core._jobs.collector import count_batch
from flowli_core._logger import logger
from flowli_core._loops import run_on
from flowli_core._sync import background_loop
from flowli_core.driver import Driver
from flowli_core.errors import DriverError, FlowliError, StoreUnavailable
from flowli_core.new_records import NewRecord
from flowli_core.outbox import MOST_ROWS, Outbox, Transaction

_SEARCHES = (0.002, 0.01, 0.05, 0.2)
"""Seconds until each search for rows whose commit is under way. After the last, the runners search on."""

_END_WITHIN = 5.0
"""Seconds that the end of a registry allows for the records that are being sent."""


class _Sender:
    """The records that are sent on one event loop, and the task that sends them.

    `accepted` are the ids of records that the store has, and whose rows are not removed yet. `is_stored` is set while
    the store has all that was committed, as far as this process knows. `timers` begin searches for rows.
    """

    def __init__(self) -> None:
        self.records: deque[NewRecord] = deque()
        self.accepted: list[str] = []
        self.timers: list[asyncio.TimerHandle] = []
        self.must_search = False
        self.is_stored = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class Deliveries:
    """Sends the records of an outbox to the store, and then removes their rows.

    The records of one transaction are sent in the order of their calls. If the store is unreachable, the rows stay. If
    it refuses a record, its row is left alone for a minute, and the others are sent.
    """

    def __init__(self, outbox: Outbox, store: Callable[[], Awaitable[Driver]]) -> None:
        self._outbox = outbox
        self._store = store
        self._senders: WeakKeyDictionary[asyncio.AbstractEventLoop, _Sender] = WeakKeyDictionary()
        self.count = 0
        """The number of records that the store has accepted here."""

    async def add(self, session: Transaction, records: Sequence[NewRecord]) -> None:
        """Store records with the transaction of a session. They are sent after its commit."""
        await self._outbox.add(session, records, on_commit=self._send_soon)

    async def relay(self) -> int:
        """Send committed records that were left behind, up to MOST_ROWS. Return how many were found.

        Raises OutboxUnavailable if the database fails, and StoreUnavailable if the store does.
        """
        await self._store()  # Claim nothing for a registry that is closed.
        found = rest = await self._outbox.claim()
        while rest:
            batch = rest[: count_batch(rest)]
            try:
                accepted = await self._accept(batch)
            except StoreUnavailable:
                await self._outbox.release([record.id for record in rest])
                raise
            await self._remove(accepted)
            rest = rest[len(batch) :]
        return len(found)

    async def stored(self) -> None:
        """Wait until the store has what was committed on this event loop, or has failed."""
        sender = self._senders.get(asyncio.get_running_loop())
        if sender is not None and (sender.timers or _is_busy(sender)):
            await sender.is_stored.wait()

    async def finish(self) -> None:
        """Wait until all that was committed in this process is sent, or has failed."""
        here = asyncio.get_running_loop()
        for loop in list(self._senders):
            if loop is here:
                await self._finish_here()
            elif loop.is_running():
                await run_on(loop, self._finish_here())

    async def close(self) -> None:
        """Wait for what is being sent on this event loop, but only for seconds: the rows of the rest stay."""
        sender = self._senders.get(asyncio.get_running_loop())
        for timer in [] if sender is None else sender.timers:
            timer.cancel()
        task = await self._finish_here(timeout=_END_WITHIN)
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))

    async def _finish_here(self, timeout: float | None = None) -> asyncio.Task[None] | None:
        """Wait for the task of this event loop. Return it if it has not ended."""
        sender = self._senders.get(asyncio.get_running_loop())
        if sender is None or sender.task is None:
            return None
        task = sender.task
        _, unfinished = await asyncio.wait((task,), timeout=timeout)
        return task if unfinished else None

    def _send_soon(self, records: Sequence[NewRecord]) -> None:
        """Send the records of a transaction that was committed in this thread, or search for them if there are none.

        It raises no error: the transaction is committed.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            try:
                loop = background_loop()
                sender = self._senders.setdefault(loop, _Sender())
                loop.call_soon_threadsafe(self._start, sender, records)
            except RuntimeError as error:  # Python ends, and starts no thread.
                _log_failure(error, f"committed jobs stay in the outbox ({len(records)}), and are sent later")
        else:
            self._start(self._senders.setdefault(loop, _Sender()), records)

    def _start(self, sender: _Sender, records: Sequence[NewRecord]) -> None:
        sender.is_stored.clear()
        sender.records += records
        if records:
            self._wake(sender)
            return
        for timer in sender.timers:
            timer.cancel()
        loop = asyncio.get_running_loop()
        sender.timers = [loop.call_later(seconds, self._start_search, sender) for seconds in _SEARCHES]

    def _start_search(self, sender: _Sender) -> None:
        del sender.timers[0]
        sender.must_search = True
        self._wake(sender)

    def _wake(self, sender: _Sender) -> None:
        if not _is_busy(sender):
            sender.task = asyncio.get_running_loop().create_task(self._send(sender))

    async def _send(self, sender: _Sender) -> None:
        try:
            while sender.records or sender.accepted or sender.must_search:
                if sender.records and len(sender.accepted) < MOST_ROWS:
                    await self._send_batch(sender)
                elif sender.accepted:
                    await self._remove_accepted(sender)
                else:
                    await self._search(sender)
        finally:
            if not sender.timers:
                sender.is_stored.set()
            sender.task = None

    async def _send_batch(self, sender: _Sender) -> None:
        batch = [sender.records.popleft() for _ in range(count_batch(sender.records))]
        try:
            sender.accepted += await self._accept(batch)
        except Exception as error:  # noqa: BLE001 - logged: a runner sends them
            # Those behind it are not tried, because they may be of the same transaction.
            count = len(batch) + len(sender.records)
            _log_failure(error, f"committed jobs stay in the outbox ({count}), and are sent later")
            sender.records.clear()
        if not (sender.records or sender.timers or sender.must_search):
            sender.is_stored.set()

    async def _remove_accepted(self, sender: _Sender) -> None:
        ids, sender.accepted = sender.accepted, []
        try:
            await self._remove(ids)
        except Exception as error:  # noqa: BLE001 - logged: a runner sends them again, and the store has their ids
            _log_failure(error, f"jobs that were sent stay in the outbox ({len(ids)}), and are removed later")

    async def _search(self, sender: _Sender) -> None:
        sender.must_search = False
        try:
            while await self.relay():
                sender.is_stored.set()
        except Exception as error:  # noqa: BLE001 - logged: a runner sends them
            _log_failure(error, "jobs that connections have committed could not be searched for, and are sent later")

    async def _remove(self, ids: list[str]) -> None:
        if ids:
            await self._outbox.remove(ids)

    async def _accept(self, batch: list[NewRecord]) -> list[str]:
        """Store a batch. Return the ids that the store has accepted, or had before, and postpone the others."""
        driver = await self._store()
        try:
            await driver.enqueue(batch)
        except StoreUnavailable:
            raise
        except DriverError as error:
            if len(batch) > 1:
                return list(chain.from_iterable([await self._accept([record]) for record in batch]))
            (record,) = batch
            described = (record.id, record.name, error)
            logger.error("the store refuses the job %s (%s) of the outbox: %s", *described)  # noqa: TRY400 - a refusal
            await self._outbox.postpone([record.id])
            return []
        self.count += len(batch)
        return [record.id for record in batch]


def _is_busy(sender: _Sender) -> bool:
    return sender.task is not None and not sender.task.done()


def _log_failure(error: BaseException, what: str) -> None:
    # When a process ends, Python starts no more threads, and says so by a RuntimeError.
    is_expected = isinstance(error, FlowliError) or "interpreter shutdown" in str(error)
    logger.warning("%s: %s", what, error, exc_info=None if is_expected else error)
