"""Who is told that something is due: one waiter, or the next one who waits."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping

from flowli_core.drivers.sqlite._transaction import Heads, News

LEASES = ""
"""Stands for the ends of all leases and the ticks of schedules, beside the names of queues, of which none is empty."""

_NOTHING = Heads(None, None)


class Waiter:
    """One call of `wait`, on its own event loop. `woken_by` is the queue whose wake-up it was given."""

    def __init__(self, queues: Iterable[str]) -> None:
        self.queues: tuple[str, ...] = (*queues, LEASES)
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self.loop.create_future()
        self.woken_by: str | None = None

    def wake(self) -> bool:
        """End the wait, from any thread. False where its loop is closed, so that nobody waits there."""
        try:
            self.loop.call_soon_threadsafe(self._release)
        except RuntimeError:
            return False
        return True

    def _release(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class WakeUps:
    """For each queue a marker and a line of waiters. There is never both: a marker goes to the first in line.

    What the watcher sees may have been told before, by the transition that made it or by the watcher itself, so what
    was told last of each queue is kept: one piece of news wakes one waiter. Safe against threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._markers: set[str] = set()
        self._lines: dict[str, OrderedDict[Waiter, None]] = {}
        self._told: dict[str, Heads] = {}
        self._told_lease: tuple[int, int] | None = None
        self._told_tick: int | None = None
        self._closed = False

    def join(self, waiter: Waiter) -> bool:
        """Take a marker if one is there, else stand in line; answer whether there is nothing to wait for."""
        with self._lock:
            if self._closed:
                return True
            for queue in waiter.queues:
                if queue in self._markers:
                    self._markers.discard(queue)
                    waiter.woken_by = queue
                    return True
            for queue in waiter.queues:
                self._lines.setdefault(queue, OrderedDict())[waiter] = None
            return False

    def leave(self, waiter: Waiter) -> None:
        """Stand in no line any more."""
        with self._lock:
            self._leave(waiter)

    def pass_on(self, waiter: Waiter) -> None:
        """Give the wake-up of a waiter who was cancelled to the next one, because no step will follow it."""
        with self._lock:
            if waiter.woken_by is not None:
                self._arm(waiter.woken_by)

    def release_all(self) -> None:
        """End every wait."""
        with self._lock:
            for waiter in self._lines.get(LEASES, ()):
                waiter.wake()
            self._lines.clear()

    def close(self) -> None:
        """End every wait, also those to come."""
        with self._lock:
            self._closed = True
        self.release_all()

    def queues(self) -> list[str]:
        """Answer the queues that somebody waits for; with LEASES where there is anybody."""
        with self._lock:
            return list(self._lines)

    def publish(self, news: Iterable[News], now: int) -> None:
        """Tell of what a transition has left: wake somebody, or take the marker away where nothing is due."""
        with self._lock:
            for queue, heads, wake in news:
                due = _due(heads, now)
                if wake:
                    self._told[queue] = due
                    self._arm(queue)
                elif due == _NOTHING:
                    self._told.pop(queue, None)
                    self._markers.discard(queue)

    def announce(self, first: Mapping[str, Heads], lease: tuple[int, int] | None, tick: int | None, now: int) -> None:
        """Tell of what the watcher has seen, where it was not told before."""
        with self._lock:
            for queue, heads in first.items():
                due, told = _due(heads, now), self._told.get(queue, _NOTHING)
                if due.ordinary not in {None, told.ordinary} or due.suspect not in {None, told.suspect}:
                    self._arm(queue)
                if due == _NOTHING:
                    self._told.pop(queue, None)
                else:
                    self._told[queue] = due
            if lease is not None and lease[0] <= now and lease != self._told_lease:
                self._told_lease = lease
                self._arm(LEASES)
            if tick is not None and tick <= now and tick != self._told_tick:
                self._told_tick = tick
                self._arm(LEASES)

    def _arm(self, queue: str) -> None:
        while line := self._lines.get(queue):
            waiter = next(iter(line))
            self._leave(waiter)
            if waiter.wake():
                waiter.woken_by = queue
                return
        self._markers.add(queue)

    def _leave(self, waiter: Waiter) -> None:
        for queue in waiter.queues:
            line = self._lines.get(queue)
            if line is not None:
                line.pop(waiter, None)
                if not line:
                    del self._lines[queue]


def _due(heads: Heads, now: int) -> Heads:
    ordinary, suspect = heads
    return Heads(
        ordinary if ordinary is not None and ordinary.due <= now else None,
        suspect if suspect is not None and suspect.due <= now else None,
    )
