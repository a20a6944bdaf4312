"""Notices what other processes and the passing of time bring, for those who wait.

Why data_version: SQLite counts the commits that a connection sees of others in its shared memory, so one look costs no
disk access and is never too early. The time stamps of the files are too coarse, and the log keeps its size when it is
begun anew; inotify is Linux only, knows nothing of a log that is mapped into memory, and speaks before the commit can
be read.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing

from flowli_core.drivers.sqlite._transaction import Heads, first_after, first_lease, first_tick, heads, snapshot
from flowli_core.drivers.sqlite._wakeups import LEASES, WakeUps

_LOOK_SECONDS = 0.03
_LINGER_SECONDS = 1.0
_AFTER_FAILURE_SECONDS = 1.0
_THREAD = "flowli-sqlite-watcher"

_log = logging.getLogger("flowli.sqlite")


class Watcher:
    """A thread that looks, with its own connection, for as long as somebody waits.

    It looks whether anything was committed, and only then, or when a known time has come, at what is due: an idle
    process does not read the tables. `publishing` is held by those who commit until the waiters have been told, so that
    the watcher does not tell them first.
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

    def call(self) -> None:
        """Have it look at once, because somebody has come to wait."""
        with self._changed:
            self._called = True
            if self._ended is None and not self._closed:
                self._ended = Future()
                self._thread = threading.Thread(target=self._run, args=(self._ended,), name=_THREAD, daemon=True)
                self._thread.start()
            self._changed.notify()

    def end(self) -> None:
        """Have the thread end; it takes no longer than one look."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    async def ended(self) -> None:
        """Wait for that."""
        with self._changed:
            thread, ended = self._thread, self._ended
        if ended is not None:
            await asyncio.shield(asyncio.wrap_future(ended))
        if thread is not None:
            thread.join()  # it has nothing left to do, so this does not block

    def _run(self, ended: Future[None]) -> None:
        try:
            while self._goes_on():
                try:
                    with closing(self._connect()) as connection:
                        self._watch(connection)
                except sqlite3.Error as error:
                    # Those who wait take a step, and it tells them what is wrong.
                    _log.warning("watching an SQLite file failed (%s); trying again", type(error).__name__)
                    self._wakeups.release_all()
                    with self._changed:
                        self._changed.wait_for(lambda: self._closed, _AFTER_FAILURE_SECONDS)
        finally:
            with self._changed:
                if self._ended is ended:  # else another thread has been started since this one gave up
                    self._ended = None
            ended.set_result(None)

    def _goes_on(self) -> bool:
        """Whether there is somebody to look for. Without, the thread is given up, and the next call starts another."""
        with self._changed:
            if self._closed or not (self._called or self._wakeups.queues()):
                self._ended = None
                return False
            return True

    def _watch(self, connection: sqlite3.Connection) -> None:
        """Look, until nobody has waited for a while."""
        seen = -1
        next_time: int | None = None
        while (called := self._pause(next_time)) is not None:
            version: int = connection.execute("PRAGMA data_version").fetchone()[0]
            if called or version != seen or (next_time is not None and next_time <= self._read_clock()):
                seen = version
                next_time = self._look(connection)

    def _pause(self, next_time: int | None) -> bool | None:
        """Wait until it is time to look; answer whether somebody called, or None where it is time to end."""
        with self._changed:
            if not (self._called or self._closed or self._wakeups.queues()):
                self._changed.wait_for(lambda: self._called or self._closed, _LINGER_SECONDS)
                if not self._called:
                    return None
            if not (self._called or self._closed):
                left = _LOOK_SECONDS if next_time is None else (next_time - self._read_clock()) / 1000
                self._changed.wait(max(min(left, _LOOK_SECONDS), 0))
            called, self._called = self._called, False
            return None if self._closed else called

    def _look(self, connection: sqlite3.Connection) -> int | None:
        """Tell the waiters what is due, and answer when there will be more."""
        first: dict[str, Heads] = {}
        times: list[int] = []
        with self._publishing, snapshot(connection):
            now = self._read_clock()
            for queue in self._wakeups.queues():
                if queue != LEASES:
                    first[queue] = heads(connection, queue)
                    times += _later(connection, queue, first[queue], now)
            lease = first_lease(connection)
            tick = first_tick(connection)
            self._wakeups.announce(first, lease, tick, now)
        times += [time for time in (lease and lease[0], tick) if time is not None and time > now]
        return min(times, default=None)


def _later(connection: sqlite3.Connection, queue: str, first: Heads, now: int) -> list[int]:
    """When the next records of a queue will be due that are not yet."""
    times: list[int] = []
    for place, suspect in ((first.ordinary, False), (first.suspect, True)):
        later = place
        if place is not None and place.due <= now:
            later = first_after(connection, queue, suspect=suspect, after=now)
        times += [] if later is None else [later.due]
    return times
