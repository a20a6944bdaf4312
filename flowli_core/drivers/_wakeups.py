"""The calls that wait, and how they are woken: for the drivers that wait in this process."""

import asyncio
import contextlib
from collections import OrderedDict
from datetime import timedelta


class Waiter:
    """A waiting call, on its own event loop. `woken_by` is the queue whose wake-up it has taken, if it is a step."""

    def __init__(self, queues: tuple[str, ...] = ()) -> None:
        self.queues = queues
        self.woken_by: str | None = None
        self._loop = asyncio.get_running_loop()
        self._woken: asyncio.Future[None] = self._loop.create_future()

    async def wait(self, limit: timedelta) -> None:
        """Return when the waiter is woken, or when the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit.total_seconds()):
                await self._woken

    def wake(self) -> bool:
        """End the wait, from any thread. Return False if its event loop is closed."""
        try:
            self._loop.call_soon_threadsafe(self._release)
        except RuntimeError:
            return False
        return True

    def _release(self) -> None:
        if not self._woken.done():
            self._woken.set_result(None)


class Lines:
    """For each queue the waiters, in the order in which they came, or the wake-up that is kept for the next one.

    It is kept for a suspect that is due. A waiter finds other due records when it begins to wait. Not thread-safe.
    """

    def __init__(self) -> None:
        self._lines: dict[str, OrderedDict[Waiter, None]] = {}
        self._kept: set[str] = set()

    def queues(self) -> list[str]:
        """Return the queues that somebody waits for."""
        return list(self._lines)

    def join(self, waiter: Waiter) -> None:
        """Add a waiter to the end of the line of each of its queues. Wake it if a wake-up is kept for it."""
        for queue in waiter.queues:
            self._lines.setdefault(queue, OrderedDict())[waiter] = None
        for queue in self._kept.intersection(waiter.queues):
            self._kept.discard(queue)
            self.wake(queue)

    def leave(self, waiter: Waiter) -> None:
        """Remove a waiter from the lines that it may be in."""
        for queue in waiter.queues:
            line = self._lines.get(queue)
            if line is not None:
                line.pop(waiter, None)
                if not line:
                    del self._lines[queue]

    def wake(self, queue: str, *, keep: bool = False) -> Waiter | None:
        """Wake the first waiter of a queue and return it. If there is none, `keep` the wake-up for the next one."""
        for waiter in list(self._lines.get(queue, ())):
            self.leave(waiter)
            if waiter.wake():
                waiter.woken_by = queue
                return waiter
        if keep:
            self._kept.add(queue)
        return None

    def forget(self, queue: str) -> None:
        """Keep no wake-up for a queue, because nothing is due there."""
        self._kept.discard(queue)

    def wake_all(self) -> None:
        """Wake every waiter."""
        for queue in self.queues():
            while self.wake(queue):
                pass
