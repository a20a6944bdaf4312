"""Turns for suspects: the records that run alone, because they may be what kills their workers."""

import time
from collections.abc import Callable

_SHORTEST = 1.0
"""Seconds for which a run first waits for its jobs to end, to make room for a suspect."""


class SuspectTurns:
    """Decides when a run makes room for a suspect. Until then it goes on with other jobs.

    While a suspect is due, the run reserves nothing else, so that it is idle soon. If its jobs take too long, it goes
    on for as long as it has waited, and then waits for twice as long. After a suspect it goes on with other jobs for as
    long as that took. So suspects, which may be many and slow, cost at most half of the time if there are other jobs.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.is_due = False
        """True if the last step said that a suspect is the next due record."""
        self._limit = _SHORTEST
        self._began: float | None = None
        """When the run began to make room for a suspect, or to run it."""
        self._is_running = False
        self._pause_until = 0.0

    def after_step(self, *, suspect_due: bool) -> None:
        """Note whether the answer to a step says that a suspect is due."""
        self.is_due = suspect_due
        if not suspect_due and not self._is_running:
            self._began, self._limit = None, _SHORTEST

    def started(self) -> None:
        """Note that a suspect was reserved."""
        self._is_running = True
        self._began = self._began or self._clock()

    def ended(self) -> None:
        """Note that the suspect has an outcome, or was lost."""
        now = self._clock()
        self._pause_until = now + now - (self._began or now)
        self._began, self._limit, self._is_running = None, _SHORTEST, False

    def may_take(self, *, has_other_work: bool) -> bool:
        """Return True if an idle run may reserve a suspect."""
        return not has_other_work or self._clock() >= self._pause_until

    def makes_room(self) -> bool:
        """Return True if the run should reserve nothing, so that it is idle soon."""
        now = self._clock()
        if not self.is_due or now < self._pause_until:
            return False
        self._began = self._began or now
        if now < self._began + self._limit:
            return True
        self._pause_until = now + self._limit
        self._began, self._limit = None, 2 * self._limit
        return False

    def seconds_until_change(self) -> float | None:
        """Return the seconds until `makes_room` or `may_take` may change without a call, None if they cannot."""
        if not self.is_due or self._is_running:
            return None
        end = self._pause_until if self._began is None else self._began + self._limit
        left = end - self._clock()
        return left if left > 0 else None
