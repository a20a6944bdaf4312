"""Which waiting call of this process is woken when something is due, or has changed."""

import threading

from flowli_core.drivers._wakeups import Lines, Waiter
from flowli_core.drivers.sqlite._transaction import FirstDue


class WakeUps:
    """The waiting steps of this process, and the waiting calls of its watchers. Thread-safe.

    A waiter that was woken is in `_woken` until it has stepped. Until then the watcher wakes no other waiter, because
    it still sees the records that this step will reserve.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines = Lines()
        self._woken: set[Waiter] = set()
        self._watchers: set[Waiter] = set()
        self.closed = False

    def join(self, waiter: Waiter) -> None:
        """Let a waiter be woken."""
        with self._lock:
            if not self.closed:
                self._lines.join(waiter)
                if waiter.woken_by is not None:
                    self._woken.add(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Let a waiter no longer be woken. If it was woken and has not stepped, wake another in its place."""
        with self._lock:
            self._lines.leave(waiter)
            if waiter in self._woken and waiter.woken_by is not None:
                self._woken.discard(waiter)
                self._wake(waiter.woken_by, keep=True)

    def stepped(self, waiter: Waiter) -> None:
        """Note that a waiter has stepped."""
        with self._lock:
            self._woken.discard(waiter)

    def join_watchers(self, waiter: Waiter) -> None:
        """Let a waiter be woken by the next commit of any process."""
        with self._lock:
            if self.closed:
                waiter.wake()
            else:
                self._watchers.add(waiter)

    def leave_watchers(self, waiter: Waiter) -> None:
        """Let a waiter no longer be woken by a commit."""
        with self._lock:
            self._watchers.discard(waiter)

    def wake_watchers(self) -> None:
        """Wake the waiters that wait for a commit."""
        if self._watchers:
            with self._lock:
                self._wake_watchers()

    def has_waiters(self) -> bool:
        """Return True if somebody waits."""
        with self._lock:
            return bool(self._watchers or self._lines.queues())

    def queues(self) -> list[str]:
        """Return the queues that somebody waits for."""
        with self._lock:
            return self._lines.queues()

    def wake(self, queue: str) -> None:
        """Wake a waiter of a queue."""
        with self._lock:
            self._wake(queue)

    def wake_for_due(self, queue: str, first: FirstDue, now: int, *, suspects: bool, by_watcher: bool = False) -> None:
        """Wake a waiter of a queue if something is due there. Its suspects count only if `suspects` is set.

        No waiting step reserves them. So while they stay due, only a change may wake a waiter for them.
        """
        ordinary, suspect = [time is not None and time <= now for time in first]
        with self._lock:
            if not (ordinary or suspect):
                self._lines.forget(queue)
            elif (ordinary or suspects) and not (by_watcher and any(queue in waiter.queues for waiter in self._woken)):
                self._wake(queue, keep=suspect)

    def wake_any(self) -> None:
        """Wake a waiter of any queue, unless one was woken that has not stepped yet."""
        with self._lock:
            for queue in self._lines.queues() if not self._woken else ():
                self._wake(queue)
                return

    def wake_all(self) -> None:
        """Wake every waiter."""
        with self._lock:
            self._wake_all()

    def close(self) -> None:
        """Wake every waiter, and let nobody wait any more."""
        with self._lock:
            self.closed = True
            self._wake_all()

    def _wake_all(self) -> None:
        self._lines.wake_all()
        self._wake_watchers()

    def _wake_watchers(self) -> None:
        while self._watchers:
            self._watchers.pop().wake()

    def _wake(self, queue: str, *, keep: bool = False) -> None:
        waiter = self._lines.wake(queue, keep=keep)
        if waiter is not None:
            self._woken.add(waiter)
