"""The next due time of each queue. No wake-up announces it, so a wait must end by itself at that time."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime, timedelta

from flowli_core.clock import Clock
from flowli_core.drivers._times import milliseconds, stamp


class DueTimes:
    """The next due time of each queue, as far as this process knows. `clock` replaces the server's time in tests."""

    def __init__(self, clock: Clock | None) -> None:
        self._clock = clock
        self._due: dict[str, int] = {}
        self._server_time = (0, 0.0)

    def add(self, queue: str, due: datetime) -> None:
        """Note the due time of a stored record."""
        ms = stamp(due)
        self._due[queue] = min(ms, self._due.get(queue, ms))

    def replace(self, queues: Iterable[str], now: datetime, next_due: timedelta | None) -> None:
        """Note what the answer to a step says of its queues."""
        now_ms = self.note_time(now)
        for queue in queues:
            if next_due is None:
                self._due.pop(queue, None)
            else:
                self._due[queue] = now_ms + milliseconds(next_due)

    def note_time(self, now: datetime) -> int:
        """Note the server's time, and return it in ms."""
        ms = stamp(now)
        self._server_time = (ms, time.monotonic())
        return ms

    def ms_until(self, queues: Iterable[str], at_most: timedelta) -> int:
        """Return the ms until the next record of the queues is due, at most `at_most`; 0 or less if it is due now."""
        due = [self._due[queue] for queue in queues if queue in self._due]
        limit = milliseconds(at_most)
        return min(limit, min(due) - self._now()) if due else limit

    def _now(self) -> int:
        if self._clock is not None:
            return stamp(self._clock.now())
        server_time, noted_at = self._server_time
        return server_time + int((time.monotonic() - noted_at) * 1000)
