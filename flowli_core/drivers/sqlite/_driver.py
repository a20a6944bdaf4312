"""The methods of the contract.

Each transition is one function. It runs on the one thread that writes, in one BEGIN IMMEDIATE transaction. So if a
caller is cancelled or the process is killed, at any moment, the file has all of the transition or nothing. aiosqlite
would not give that: it hands each statement to its thread and holds the write lock meanwhile, and a cancellation
between two statements would leave the transaction open. Calls that only read have a thread and a connection of their
own; with a write-ahead log they never wait for a writer.

If a process dies, nothing that was answered is lost. If the machine loses power and `synchronous` is "normal", the last
commits may be lost: the file stays intact, but records may run again. With "full" every commit waits for the disk, and
nothing is lost.
"""

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from flowli_core import _checks
from flowli_core.clock import Clock, SystemClock
from flowli_core.diagnosis import Check
from flowli_core.driver import HeartbeatAnswer, Lease, Step, StepAnswer
from flowli_core.drivers._times import moment, stamp
from flowli_core.drivers._wakeups import Waiter
from flowli_core.drivers.sqlite._changes import Changes
from flowli_core.drivers.sqlite._damage import READ_ERRORS, Repairer, may_be_damage
from flowli_core.drivers.sqlite._diagnosis import diagnose
from flowli_core.drivers.sqlite._enqueue import enqueue
from flowli_core.drivers.sqlite._file import (
    OpenFiles,
    Synchronous,
    check_room,
    check_sqlite,
    connect_reader,
    connect_writer,
    has_room,
)
from flowli_core.drivers.sqlite._history import History, read_history
from flowli_core.drivers.sqlite._path import checked_path
from flowli_core.drivers.sqlite._read import read_overview, read_records
from flowli_core.drivers.sqlite._records import cancel, heartbeat, pause_queue, purge, requeue, resume_queue
from flowli_core.drivers.sqlite._reports import store_reports
from flowli_core.drivers.sqlite._schedules import find_schedules, put_schedule
from flowli_core.drivers.sqlite._step import IdleSteps, take_step
from flowli_core.drivers.sqlite._thread import Thread
from flowli_core.drivers.sqlite._transaction import Transaction, transact
from flowli_core.drivers.sqlite._wakeups import WakeUps
from flowli_core.drivers.sqlite._watcher import Watcher
from flowli_core.durations import Duration, duration
from flowli_core.errors import DefinitionError, DriverError, StoreDamaged, StoreUnavailable
from flowli_core.history import HistoryEntry, HistoryQuery
from flowli_core.new_records import Enqueued, NewRecord
from flowli_core.reports import Report
from flowli_core.stored import (
    FinishedState,
    Found,
    Overview,
    RecordQuery,
    ScheduleByKey,
    SchedulesAfter,
    SchedulesDue,
    StoredSchedule,
    Watch,
)
from flowli_core.targets import CancelAnswer, RequeueAnswer, Target, check_number

T = TypeVar("T")

_WATCH_PAUSE_SECONDS = 0.002
"""Between a commit and the search for changes: the commits of a busy time are searched together."""

_SYNCHRONOUS: tuple[Synchronous, ...] = ("normal", "full")


class _Session:
    """The threads and the waiting steps of an open driver. It belongs to the process that opened the driver."""

    def __init__(self, path: str, read_clock: Callable[[], int], synchronous: Synchronous, busy_seconds: float) -> None:
        reader = partial(connect_reader, path, busy_seconds=busy_seconds)
        writer = partial(connect_writer, path, busy_seconds=busy_seconds, synchronous=synchronous)
        self.process = os.getpid()
        self.writing = Thread("flowli-sqlite-write", path, writer)
        self.reading = Thread("flowli-sqlite-read", path, reader)
        self.wakeups = WakeUps()
        self.publishing = threading.Lock()
        self.watcher = Watcher(reader, self.wakeups, self.publishing, read_clock)
        self.files: OpenFiles | None = None

    async def open(self, path: str) -> None:
        """Open both connections, so that `open` raises if the file cannot be used."""
        await self.writing.run(lambda _: None)
        await self.reading.run(lambda _: None)
        if self.files is None:
            self.files = OpenFiles(path)

    async def close(self) -> None:
        """End the threads, which close their connections, also if the caller is cancelled while it waits for that."""
        self.wakeups.close()
        parts = (self.watcher, self.reading, self.writing)
        for part in parts:
            part.end()
        for part in parts:
            await part.ended()


_inherited: list[_Session] = []
"""The sessions of a parent process. They are never closed: that could damage the file that the parent uses."""


class SqliteDriver:
    """A driver that keeps its records in a file on a local disk, which several processes may share.

    `busy_timeout` is how long a call waits while another program writes; then it raises StoreUnavailable. The file must
    belong to Flowli alone. While it is open, SQLite keeps two more files beside it. It does not shrink: the space of
    removed records is used for new ones, and until then holds what they held.

    The file is created for this user only (mode 0600), and the two beside it get its mode. To share it with other
    users, create it first, empty and with the mode that you want, in a folder that they may write to.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Clock | None = None,
        synchronous: Synchronous = "normal",
        busy_timeout: Duration = "10s",
    ) -> None:
        self._path = checked_path(path)
        if synchronous not in _SYNCHRONOUS:
            raise DefinitionError(f'synchronous must be "normal" or "full", got {_checks.shown(synchronous)}')
        self._synchronous: Synchronous = synchronous
        self._busy_seconds = duration(busy_timeout, argument="busy_timeout", zero=True).total_seconds()
        self._clock: Clock = clock or SystemClock()
        self._idle = IdleSteps()
        self._changes = Changes()
        self._history = History()
        self._repairer = Repairer()
        self._lock = threading.Lock()
        self._session: _Session | None = None

    def __repr__(self) -> str:
        return f"SqliteDriver({self._path!r})"

    async def open(self) -> None:
        check_sqlite()
        with self._lock:
            if self._session is None:
                self._session = _Session(self._path, self._now, self._synchronous, self._busy_seconds)
        session = self._opened()
        try:
            await session.open(self._path)
        except DriverError:
            with self._lock:
                self._session = None if self._session is session else self._session
            await session.close()
            raise

    async def close(self) -> None:
        with self._lock:
            session, self._session = self._session, None
        if session is None:
            return
        if session.process != os.getpid():
            _inherited.append(session)
            return
        await session.close()

    async def enqueue(self, records: Sequence[NewRecord]) -> list[Enqueued]:
        batch = tuple(records)

        def store(transaction: Transaction) -> list[Enqueued]:
            check_room(transaction.connection, self._path)
            return enqueue(transaction, batch)

        try:
            return await self._write(store)
        except DriverError as error:
            error.ids = tuple(record.id for record in batch)
            raise

    async def step(self, step: Step) -> StepAnswer:
        def take(transaction: Transaction) -> StepAnswer:
            reports = self._that_fit(transaction, step.reports)
            taken = step if reports is step.reports else replace(step, reports=reports)
            return take_step(transaction, taken, self._idle, self._repairer)

        if not step.wait:
            return await self._write(take)
        session, waiter = self._opened(), Waiter(step.queues)
        try:
            session.wakeups.join(waiter)
            session.watcher.call()
            await waiter.wait(step.wait)
            if session.wakeups.closed:
                raise StoreUnavailable("the driver was closed during a wait")
            return await self._write(take, waiter=waiter)
        finally:
            session.wakeups.leave(waiter)

    async def heartbeat(
        self, worker: str, leases: Sequence[Lease], lease: timedelta, reports: Sequence[Report] = ()
    ) -> HeartbeatAnswer:
        held, given = tuple(leases), tuple(reports)

        def beat(transaction: Transaction) -> HeartbeatAnswer:
            store_reports(transaction, self._that_fit(transaction, given), worker)
            return heartbeat(transaction, worker, held, lease)

        return await self._write(beat)

    async def cancel(self, targets: Sequence[Target]) -> list[CancelAnswer]:
        check_number(targets)
        chosen = tuple(targets)
        return await self._write(lambda transaction: [cancel(transaction, target) for target in chosen])

    async def requeue(self, targets: Sequence[Target]) -> list[RequeueAnswer]:
        check_number(targets)
        chosen = tuple(targets)
        return await self._write(lambda transaction: [requeue(transaction, target) for target in chosen])

    async def purge(
        self, state: FinishedState, *, older_than: timedelta, limit: int, ids: Sequence[str] | None = None
    ) -> int:
        check_number(ids or ())
        chosen = None if ids is None else tuple(ids)
        return await self._write(partial(purge, state=state, older_than=older_than, limit=limit, ids=chosen))

    async def records(self, query: RecordQuery) -> Found:
        return await self._read(lambda connection: read_records(connection, query, self._now()))

    async def watch(self, watch: Watch) -> list[str]:
        session, again = self._opened(), Watch(watcher=watch.watcher)
        changed = await self._find_changes(session, watch)
        end = time.monotonic() + watch.wait.total_seconds()
        while not changed and (left := end - time.monotonic()) > 0:
            waiter = Waiter()
            session.wakeups.join_watchers(waiter)
            session.watcher.call()
            try:
                changed = await self._find_changes(session, again)
                if not changed:
                    await waiter.wait(timedelta(seconds=left))
                    await asyncio.sleep(_WATCH_PAUSE_SECONDS)
                    changed = await self._find_changes(session, again)
            finally:
                session.wakeups.leave_watchers(waiter)
        return changed

    async def _find_changes(self, session: _Session, watch: Watch) -> list[str]:
        if session.wakeups.closed:
            raise StoreUnavailable("the driver was closed during a wait")
        return await self._read(lambda connection: self._changes.find(connection, watch, self._now()))

    async def history(self, query: HistoryQuery) -> tuple[datetime, list[HistoryEntry]]:
        return await self._read(lambda connection: read_history(connection, query, self._now()))

    async def pause_queue(self, queue: str, *, paused: bool) -> bool:
        change = pause_queue if paused else resume_queue
        return await self._write(lambda transaction: change(transaction, queue))

    async def overview(self) -> Overview:
        return await self._read(lambda connection: read_overview(connection, self._now()))

    async def diagnose(self, *, quick: bool = False) -> list[Check]:
        """Examine the file; unless `quick`, it reads all of it."""
        path, synchronous, now = self._path, self._synchronous, self._now()
        return await self._read(lambda connection: diagnose(connection, path, synchronous, now, quick=quick))

    async def put_schedule(
        self, key: str, schedule: StoredSchedule | None, *, revision: int, records: Sequence[NewRecord] = ()
    ) -> bool:
        batch = tuple(records)

        def put(transaction: Transaction) -> bool:
            if batch:
                check_room(transaction.connection, self._path)
            return put_schedule(transaction, key, schedule, revision=revision, records=batch)

        return await self._write(put)

    async def schedules(
        self, query: ScheduleByKey | SchedulesDue | SchedulesAfter
    ) -> tuple[datetime, list[StoredSchedule]]:
        now = self._now()
        return moment(now), await self._read(lambda connection: find_schedules(connection, query, now))

    def _that_fit(self, transaction: Transaction, reports: tuple[Report, ...]) -> tuple[Report, ...]:
        """Return the reports, or none if they would take the room that is kept for settling and purging."""
        return reports if not reports or has_room(transaction.connection, self._path) else ()

    async def _write(self, work: Callable[[Transaction], T], *, waiter: Waiter | None = None) -> T:
        session = self._opened()

        def commit(transaction: Transaction) -> None:
            self._history.write(transaction)
            changed = transaction.changed
            first_due = {queue: transaction.first_due(queue) for queue in changed | transaction.left}
            with session.publishing:
                transaction.connection.execute("COMMIT")
                if waiter is not None:
                    session.wakeups.stepped(waiter)
                for queue, first in first_due.items():
                    session.wakeups.wake_for_due(queue, first, transaction.now, suspects=queue in changed)
                if transaction.tick_moved is not None:
                    session.wakeups.wake(transaction.tick_moved)
                if transaction.has_written():
                    session.wakeups.wake_watchers()

        def transition(connection: sqlite3.Connection) -> T:
            if session.files is not None:
                session.files.check(connection)
            try:
                return transact(connection, self._now, work, commit)
            except READ_ERRORS as error:
                self._repair(connection, error)
            return transact(connection, self._now, work, commit)

        return await session.writing.run(transition)

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        session = self._opened()
        try:
            return await session.reading.run(work)
        except READ_ERRORS as error:
            found = error
        await session.writing.run(lambda connection: self._repair(connection, found))
        return await session.reading.run(work)

    def _repair(self, connection: sqlite3.Connection, error: Exception) -> None:
        """Repair the file after an error that a damaged row may have raised; raise the error if it did not."""
        if not may_be_damage(error):
            raise error
        if not self._repairer.repair(connection, self._now()):
            if isinstance(error, OverflowError):
                raise error
            raise StoreDamaged(f"{self._path} holds data that cannot be read; run `flowli doctor`") from error

    def _opened(self) -> _Session:
        session = self._session
        if session is None:
            raise DriverError(f"the driver of {self._path} is not open; await its open() first")
        if session.process != os.getpid():
            raise DriverError(
                f"the driver of {self._path} was opened in process {session.process}, and this one was forked from it; "
                "open a driver in each process, after the fork"
            )
        return session

    def _now(self) -> int:
        return stamp(self._clock.now())
