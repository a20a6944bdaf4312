"""Who is told that something is due: one waiter, or the next one who waits."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import timedelta


class Waiter:
    """One call of `wait`, on its own event loop. `woken_by` is the queue whose wake-up it was given."""

    def __init__(self, queues: tuple[str, ...], timeout: timedelta) -> None:
        self.queues = queues
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self.loop.create_future()
        self.deadline = self.loop.time() + timeout.total_seconds()
        self.woken_by: str | None = None
        self.alarm: asyncio.TimerHandle | None = None
        self.alarm_for: int | None = None

    def call(self, callback: Callable[[], None]) -> bool:
        """Have its loop call back soon, from any thread. False where the loop is closed, so that nobody waits there."""
        try:
            self.loop.call_soon_threadsafe(callback)
        except RuntimeError:
            return False
        return True

    def set_alarm(self, seconds: float, callback: Callable[[], None]) -> None:
        """Have its loop call back in time, instead of when it was to before."""
        self.stop_alarm()
        self.alarm = self.loop.call_later(seconds, callback)

    def stop_alarm(self) -> None:
        """Have its loop not call back."""
        if self.alarm is not None:
            self.alarm.cancel()

    def release(self) -> None:
        """End the wait. Only on its own loop."""
        if not self.future.done():
            self.future.set_result(None)


class WakeUps:
    """For each queue a marker and a line of waiters. There is never both: a marker goes to the first in line.

    Not safe against threads: the driver's lock is held around each call.
    """

    def __init__(self) -> None:
        self._markers: set[str] = set()
        self._lines: dict[str, OrderedDict[Waiter, None]] = {}

    def line(self, queue: str) -> Iterable[Waiter]:
        """The waiters of a queue, first come first."""
        return self._lines.get(queue, ())

    def arm(self, queue: str) -> None:
        """Wake the first in line; where there is none leave the marker for the next one who comes."""
        while line := self._lines.get(queue):
            waiter = next(iter(line))
            self.leave(waiter)
            if waiter.call(waiter.release):
                waiter.woken_by = queue
                return
        self._markers.add(queue)

    def disarm(self, queue: str) -> None:
        """Take the marker away, because nothing is due."""
        self._markers.discard(queue)

    def join(self, waiter: Waiter) -> bool:
        """Take a marker if one is there, else stand in line; answer whether it was there."""
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
        for queue in waiter.queues:
            line = self._lines.get(queue)
            if line is not None:
                line.pop(waiter, None)
                if not line:
                    del self._lines[queue]

    def release_all(self) -> None:
        """End every wait."""
        for waiter in {waiter for line in self._lines.values() for waiter in line}:
            self.leave(waiter)
            waiter.call(waiter.release)
