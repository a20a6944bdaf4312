"""Notices what other processes write and what becomes due by time alone, for the calls that wait.

Why data_version: SQLite counts in shared memory the commits that a connection sees of others. So polling it costs no
disk access, and it never changes before the commit can be read. The time stamps of the files are too coarse, and the
log keeps its size when it is restarted. inotify exists only on Linux, does not see writes to a log that is mapped into
memory, and reports them before the commit can be read.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing

from flowli_core._logger import logger
from flowli_core.drivers.sqlite._transaction import FirstDue, first_due, first_lease, first_tick, snapshot
from flowli_core.drivers.sqlite._wakeups import WakeUps

_POLL_SECONDS = 0.03
_LINGER_SECONDS = 1.0
_AFTER_FAILURE_SECONDS = 1.0
_THREAD = "flowli-sqlite-watcher"


class Watcher:
    """A thread that polls with a connection of its own, for as long as somebody waits.

    It polls only whether anything was committed. Only then, or when a known time has come, it reads what is due: an
    idle process does not read the tables. `publishing` is held from each commit of this process until it has woken a
    waiter, so that the watcher does not wake another for the same record.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        wakeups: WakeUps,
        publishing: threading.Lock,
        read_clock: Callable[[], int],
    ) -> None:
        self._connect = connect
        self._wakeups = wakeups
        self._publishing = publishing
        self._read_clock = read_clock
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._ended: Future[None] | None = None
        self._called = False
        self._closed = False
        self._seen: dict[str, int] = {}
        """The data_version of the last look at each queue, on the connection of this thread."""

    def call(self) -> None:
        """Read what is due at once, because somebody has begun to wait."""
        with self._changed:
            self._called = True
            if self._ended is None and not self._closed:
                self._ended = Future()
                self._thread = threading.Thread(target=self._run, args=(self._ended,), name=_THREAD, daemon=True)
                self._thread.start()
            self._changed.notify()

    def end(self) -> None:
        """End the thread soon."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    async def ended(self) -> None:
        """Wait until the thread has ended."""
        with self._changed:
            thread, ended = self._thread, self._ended
        if ended is not None:
            await asyncio.shield(asyncio.wrap_future(ended))
        if thread is not None:
            thread.join()  # it has nothing left to do, so this does not block

    def _run(self, ended: Future[None]) -> None:
        try:
            while not self._retire_if_idle():
                try:
                    with closing(self._connect()) as connection:
                        self._watch(connection)
                except (sqlite3.Error, UnicodeDecodeError) as error:
                    # The steps of the waiters will raise the error.
                    logger.warning(
                        "watching an SQLite file failed (%s), retrying",
                        type(error).__name__,
                    )
                    self._wakeups.wake_all()
                    with self._changed:
                        self._changed.wait_for(lambda: self._closed, _AFTER_FAILURE_SECONDS)
        finally:
            with self._changed:
                if self._ended is ended:  # else another thread was started after this one gave up
                    self._ended = None
            ended.set_result(None)

    def _retire_if_idle(self) -> bool:
        """Return True if nobody waits. Then this thread ends, and the next `call` starts another."""
        with self._changed:
            if self._closed or not (self._called or self._wakeups.has_waiters()):
                self._ended = None
                return True
            return False

    def _watch(self, connection: sqlite3.Connection) -> None:
        """Poll until nobody has waited for a while."""
        seen = -1
        self._seen.clear()
        read_at = self._read_clock()
        next_time: int | None = None
        while (called := self._pause(next_time)) is not None:
            version: int = connection.execute("PRAGMA data_version").fetchone()[0]
            if called or version != seen or (next_time is not None and next_time <= self._read_clock()):
                if version != seen:
                    self._wakeups.wake_watchers()
                seen = version
                read_at, next_time = self._wake_for_due(connection, read_at, version, is_called=called)

    def _pause(self, next_time: int | None) -> bool | None:
        """Wait until the next poll. Return True if `call` ended the wait, and None if the thread should end."""
        with self._changed:
            if not (self._called or self._closed or self._wakeups.has_waiters()):
                self._changed.wait_for(lambda: self._called or self._closed, _LINGER_SECONDS)
                if not self._called:
                    return None
            if not (self._called or self._closed):
                left = _POLL_SECONDS if next_time is None else (next_time - self._read_clock()) / 1000
                self._changed.wait(max(min(left, _POLL_SECONDS), 0))
            called, self._called = self._called, False
            return None if self._closed else called

    def _wake_for_due(
        self, connection: sqlite3.Connection, read_at: int, version: int, *, is_called: bool
    ) -> tuple[int, int | None]:
        """Wake waiters for what is due. Return the current time, and when more will be due.

        That somebody has begun to wait is no reason to wake anybody for suspects that are due: something must have
        changed since the last look at their queue. A tick wakes a waiter only when its time comes, because it stays due
        if this process cannot fire it.
        """
        times: list[int] = []
        with self._publishing, snapshot(connection):
            now = self._read_clock()
            for queue in self._wakeups.queues():
                first = first_due(connection, queue)
                suspects = not is_called or self._seen.get(queue) != version
                self._seen[queue] = version
                self._wakeups.wake_for_due(queue, first, now, suspects=suspects, by_watcher=True)
                times += _later(connection, queue, first, now)
            lease, tick = first_lease(connection), first_tick(connection)
            if (lease is not None and lease <= now) or (tick is not None and read_at < tick <= now):
                self._wakeups.wake_any()
        times += [time for time in (lease, tick) if time is not None and time > now]
        return now, min(times, default=None)


def _later(connection: sqlite3.Connection, queue: str, first: FirstDue, now: int) -> list[int]:
    """Return when the first records of a queue will be due that are not due yet."""
    known = [time for time in first if time is not None]
    if any(time <= now for time in known):
        known = [time for time in first_due(connection, queue, after=now) if time is not None]
    return known
