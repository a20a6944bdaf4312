"""The driver over one file.

Each transition is one function, run on the one thread that writes, in one BEGIN IMMEDIATE transaction: a caller who is
cancelled, or a process that is killed, at whatever moment, leaves all of it or nothing. aiosqlite is not used for that
reason: it goes to its thread and back for each statement, with the write lock held all the while, and a cancellation
between two statements would leave a transaction open. What only reads has a thread and a connection of its own, and
with a write-ahead log it never waits for those who write.

What a crash costs: when a process dies, nothing that was answered is lost. When the machine loses power, the last
commits may be, as long as `synchronous` is "normal": the file stays sound, but records may run again, and the last
tokens may be given out again. "full" waits for the disk at every commit, and loses nothing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from flowli_core.clock import Clock, SystemClock
from flowli_core.driver import (
    CancelAnswer,
    Check,
    Enqueued,
    HeartbeatAnswer,
    Lease,
    NewRecord,
    RequeueAnswer,
    Step,
    StepAnswer,
)
from flowli_core.drivers._times import moment, stamp
from flowli_core.drivers._wakeups import Waiter
from flowli_core.drivers.sqlite import _read as reading
from flowli_core.drivers.sqlite import _records as control
from flowli_core.drivers.sqlite import _schedules as schedules
from flowli_core.drivers.sqlite._diagnosis import diagnose
from flowli_core.drivers.sqlite._enqueue import enqueue
from flowli_core.drivers.sqlite._file import Synchronous, check_sqlite, connect_reader, connect_writer, identity
from flowli_core.drivers.sqlite._lane import Lane
from flowli_core.drivers.sqlite._step import IdleSteps, take_step
from flowli_core.drivers.sqlite._transaction import Transaction, transact
from flowli_core.drivers.sqlite._wakeups import WakeUps
from flowli_core.drivers.sqlite._watcher import Watcher
from flowli_core.durations import Duration, duration
from flowli_core.errors import DefinitionError, DriverError, StoreUnavailable
from flowli_core.stored import (
    FinishedState,
    Overview,
    RecordById,
    RecordsInState,
    ScheduleByKey,
    SchedulesAfter,
    SchedulesDue,
    StoredRecord,
    StoredSchedule,
)

if TYPE_CHECKING:
    import sqlite3

T = TypeVar("T")

_SYNCHRONOUS: tuple[Synchronous, ...] = ("normal", "full")


class _Session:
    """What is there between `open` and `close`: the lanes, the watcher, and who waits. It belongs to one process."""

    def __init__(self, path: str, read_clock: Callable[[], int], synchronous: Synchronous, busy_seconds: float) -> None:
        reader = partial(connect_reader, path, busy_seconds=busy_seconds)
        writer = partial(connect_writer, path, busy_seconds=busy_seconds, synchronous=synchronous)
        self.process = os.getpid()
        self.writing = Lane("flowli-sqlite-write", path, writer)
        self.reading = Lane("flowli-sqlite-read", path, reader)
        self.wakeups = WakeUps()
        self.publishing = threading.Lock()
        self.watcher = Watcher(reader, self.wakeups, self.publishing, read_clock)
        self.file: tuple[int, int] | None = None

    async def open(self, path: str) -> None:
        """Open both connections now, so that what is wrong with the file is said now."""
        await self.writing.run(_nothing)
        await self.reading.run(_nothing)
        if self.file is None:
            self.file = identity(path)

    async def close(self) -> None:
        """End the threads, which close what they have opened: also where the caller is cancelled while he waits."""
        self.wakeups.close()
        parts = (self.watcher, self.reading, self.writing)
        for part in parts:
            part.end()
        for part in parts:
            await part.ended()


_inherited: list[_Session] = []
"""Sessions of a parent process. They are kept for ever: to close one here would harm the file under the parent."""


class SqliteDriver:
    """A driver that keeps its records in a file on a local disk, which several processes may share.

    `busy_timeout` is how long a call waits while another program writes; then it raises StoreUnavailable. The file is
    Flowli's own, and two more stand beside it while it is open. Removed records leave room in it for the next ones; it
    does not shrink.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Clock | None = None,
        synchronous: Synchronous = "normal",
        busy_timeout: Duration = "10s",
    ) -> None:
        self._path = _checked_path(path)
        if synchronous not in _SYNCHRONOUS:
            raise DefinitionError(f'synchronous must be "normal" or "full", got {synchronous!r}')
        self._synchronous: Synchronous = synchronous
        self._busy_seconds = duration(busy_timeout, argument="busy_timeout", zero=True).total_seconds()
        self._clock: Clock = clock or SystemClock()
        self._idle = IdleSteps()
        self._lock = threading.Lock()
        self._session: _Session | None = None

    def __repr__(self) -> str:
        return f"SqliteDriver({self._path!r})"

    async def open(self) -> None:
        """Open the file, make it where there is none, and check that it is ours and can be written."""
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
        """Let the waiters return, finish what was asked for, and close the file."""
        with self._lock:
            session, self._session = self._session, None
        if session is None:
            return
        if session.process != os.getpid():
            _inherited.append(session)
            return
        await session.close()

    async def enqueue(self, records: Sequence[NewRecord]) -> list[Enqueued]:
        """Store the records, all or none, and answer for each in its place."""
        batch = tuple(records)
        try:
            return await self._write(lambda transaction: enqueue(transaction, batch))
        except DriverError as error:
            error.ids = tuple(record.id for record in batch)
            raise

    async def step(self, step: Step) -> StepAnswer:
        def take(transaction: Transaction) -> StepAnswer:
            return take_step(transaction, step, self._idle)

        if not step.wait:
            return await self._write(take)
        session, waiter = self._opened(), Waiter(step)
        try:
            session.wakeups.join(waiter)
            session.watcher.call()
            await waiter.wait(step.wait)
            if session.wakeups.closed:
                raise StoreUnavailable("the driver was closed during a wait")
            return await self._write(take, waiter=waiter)
        finally:
            session.wakeups.leave(waiter)

    async def heartbeat(self, worker: str, leases: Sequence[Lease], lease: timedelta) -> HeartbeatAnswer:
        """Extend the leases that are still the worker's."""
        held = tuple(leases)
        return await self._write(lambda transaction: control.heartbeat(transaction, worker, held, lease))

    async def cancel(self, record_id: str) -> CancelAnswer:
        """Cancel a waiting record at once; ask for an active one."""
        return await self._write(lambda transaction: control.cancel(transaction, record_id))

    async def requeue(self, record_id: str, *, progress: bytes | None = None) -> RequeueAnswer:
        """Make a finished or scheduled record due now, as if no worker had ever been lost with it."""
        return await self._write(lambda transaction: control.requeue(transaction, record_id, progress))

    async def purge(self, state: FinishedState, *, older_than: timedelta, limit: int) -> int:
        """Remove up to `limit` records that finished in this state more than `older_than` ago, the oldest first."""
        return await self._write(
            lambda transaction: control.purge(transaction, state, older_than=older_than, limit=limit)
        )

    async def records(self, query: RecordById | RecordsInState) -> list[StoredRecord]:
        return await self._opened().reading.run(lambda connection: reading.records(connection, query, self._now()))

    async def overview(self) -> Overview:
        return await self._opened().reading.run(lambda connection: reading.overview(connection, self._now()))

    async def diagnose(self) -> list[Check]:
        """Tell how the file is: for `flowli doctor`. Reads all of it."""
        return await self._opened().reading.run(
            lambda connection: diagnose(connection, self._path, self._synchronous, self._now())
        )

    async def put_schedule(
        self, key: str, schedule: StoredSchedule | None, *, revision: int, records: Sequence[NewRecord] = ()
    ) -> bool:
        batch = tuple(records)
        return await self._write(
            lambda transaction: schedules.put(transaction, key, schedule, revision=revision, records=batch)
        )

    async def schedules(
        self, query: ScheduleByKey | SchedulesDue | SchedulesAfter
    ) -> tuple[datetime, list[StoredSchedule]]:
        now = self._now()
        return moment(now), await self._opened().reading.run(lambda connection: schedules.find(connection, query, now))

    async def _write(self, work: Callable[[Transaction], T], *, waiter: Waiter | None = None) -> T:
        session = self._opened()

        def commit(transaction: Transaction) -> None:
            first_due = {queue: transaction.first_due(queue) for queue in transaction.changed}
            with session.publishing:
                transaction.connection.execute("COMMIT")
                if waiter is not None:
                    session.wakeups.stepped(waiter)
                for queue, first in first_due.items():
                    session.wakeups.wake_for_due(queue, first, transaction.now)
                if transaction.tick_moved is not None:
                    session.wakeups.wake(transaction.tick_moved)

        def transition(connection: sqlite3.Connection) -> T:
            if session.file not in {None, identity(self._path)}:
                raise DriverError(
                    f"{self._path} was removed or replaced while it was open; close the driver and open it again"
                )
            return transact(connection, self._now, work, commit)

        return await session.writing.run(transition)

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


def _checked_path(path: str | os.PathLike[str]) -> str:
    try:
        given: str | bytes = os.fspath(path)
    except TypeError:
        raise DefinitionError(f"path must be the path of a file, got {type(path).__name__}") from None
    if isinstance(given, bytes) or not given or given.startswith(":") or "\0" in given:
        raise DefinitionError(
            f"path must be the path of a file, got {given!r}; to keep records in memory use MemoryDriver"
        )
    return str(Path(given).absolute())


def _nothing(_: sqlite3.Connection) -> None:
    """Nothing but what a lane does before its first work: open the connection."""
