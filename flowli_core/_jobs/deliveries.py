"""The way from an outbox to the store: records are sent after their commit, and those that were left behind later."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from weakref import WeakKeyDictionary

from flowli_core._jobs.collector import count_batch
from flowli_core._logger import logger
from flowli_core._sync import background_loop
from flowli_core.driver import Driver, NewRecord
from flowli_core.errors import DriverError, FlowliError, StoreUnavailable
from flowli_core.outbox import Outbox, Transaction

_SEARCHES = (0.001, 0.02, 0.2)
"""Seconds before each search for rows whose commit was under way. After the last, the runners search on."""

_END_WITHIN = 5.0
"""Seconds that the end of a registry allows for the records that are being sent."""


class _Sender:
    """The records that are sent on one event loop, and the task that sends them."""

    def __init__(self) -> None:
        self.records: deque[NewRecord] = deque()
        self.searches: deque[float] = deque()
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

    async def add(self, session: Transaction, records: Sequence[NewRecord]) -> None:
        """Store records with the transaction of a session. They are sent after its commit."""
        await self._outbox.add(session, records, on_commit=self._send_soon)

    async def relay(self) -> int:
        """Send committed records that were left behind, up to MOST_ROWS. Return how many were found.

        Raises OutboxUnavailable if the database fails, and StoreUnavailable if the store does.
        """
        records = await self._outbox.claim()
        await self._deliver(records)
        return len(records)

    async def sent(self) -> None:
        """Wait until what was committed on this event loop is sent, or has failed."""
        task = self._task_here()
        if task is not None:
            await asyncio.wait((task,))

    async def close(self) -> None:
        """Wait for what is being sent on this event loop, but only for seconds: the rows of the rest stay."""
        task = self._task_here()
        if task is not None:
            await asyncio.wait((task,), timeout=_END_WITHIN)
            task.cancel()
            await asyncio.wait((task,))

    def _task_here(self) -> asyncio.Task[None] | None:
        sender = self._senders.get(asyncio.get_running_loop())
        return None if sender is None else sender.task

    def _send_soon(self, records: Sequence[NewRecord]) -> None:
        """Send the records of a transaction that was committed in this thread, or search for them if there are none."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = background_loop()
            loop.call_soon_threadsafe(self._start, loop, records)
        else:
            self._start(loop, records)

    def _start(self, loop: asyncio.AbstractEventLoop, records: Sequence[NewRecord]) -> None:
        sender = self._senders.setdefault(loop, _Sender())
        sender.records += records
        if not records:
            sender.searches = deque(_SEARCHES)
        if sender.task is None:
            sender.task = loop.create_task(self._send(sender))

    async def _send(self, sender: _Sender) -> None:
        batch: list[NewRecord] = []
        try:
            while sender.records or sender.searches:
                if sender.records:
                    batch = [sender.records.popleft() for _ in range(count_batch(sender.records))]
                    await self._deliver(batch)
                    batch = []
                else:
                    await asyncio.sleep(sender.searches.popleft())
                    while await self.relay():
                        pass
        except FlowliError as error:
            count = len(batch) + len(sender.records)
            sender.records.clear()
            sender.searches.clear()
            logger.warning("committed jobs stay in the outbox (%d), and are sent later: %s", count, error)
        finally:
            sender.task = None

    async def _deliver(self, records: Sequence[NewRecord]) -> None:
        """Send records in batches, and remove the rows of each batch that the store has accepted."""
        driver, rest = await self._store(), list(records)
        while rest:
            batch, rest = rest[: (count := count_batch(rest))], rest[count:]
            accepted = await self._accept(driver, batch)
            if accepted:
                await self._outbox.remove([record.id for record in accepted])

    async def _accept(self, driver: Driver, batch: list[NewRecord]) -> list[NewRecord]:
        """Store a batch. Return its records that the store has accepted, or had before, and postpone the others."""
        try:
            await driver.enqueue(batch)
        except StoreUnavailable:
            raise
        except DriverError as error:
            if len(batch) > 1:
                return list(chain.from_iterable([await self._accept(driver, [record]) for record in batch]))
            (record,) = batch
            described = (record.id, record.name, error)
            logger.error("the store refuses the job %s (%s) of the outbox: %s", *described)  # noqa: TRY400 - a refusal
            await self._outbox.postpone([record.id])
            return []
        return batch
