"""The next due time of each queue that this process serves. A wait ends at that time, because nothing else ends it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from datetime import datetime, timedelta

from flowli_core.clock import Clock
from flowli_core.drivers._times import milliseconds, stamp


class DueTimes:
    """The next due time of each queue that this process has sent a step for, as far as it knows.

    `clock` replaces the server's time in tests.
    """

    def __init__(self, clock: Clock | None) -> None:
        self._clock = clock
        self._due: dict[str, float] = {}
        """In ms; infinite if nothing is known to become due."""
        self._server_time = (0, 0.0)

    def add(self, queue: str, due: datetime) -> None:
        """Note the due time of a stored record, if this process serves its queue."""
        if queue in self._due:
            self._due[queue] = min(stamp(due), self._due[queue])

    def replace(self, queues: Iterable[str], now: datetime, next_due: timedelta | None) -> None:
        """Note what the answer to a step says of its queues."""
        now_ms = self.note_time(now)
        due = math.inf if next_due is None else now_ms + milliseconds(next_due)
        self._due.update(dict.fromkeys(queues, due))

    def note_time(self, now: datetime) -> int:
        """Note the server's time, and return it in ms."""
        ms = stamp(now)
        self._server_time = (ms, time.monotonic())
        return ms

    def ms_until(self, queues: Iterable[str], at_most: timedelta) -> int:
        """Return the ms until the next record of the queues is due, at most `at_most`; 0 or less if it is due now."""
        due = min((self._due.get(queue, math.inf) for queue in queues), default=math.inf)
        limit = milliseconds(at_most)
        return limit if due == math.inf else min(limit, int(due) - self._now())

    def _now(self) -> int:
        if self._clock is not None:
            return stamp(self._clock.now())
        server_time, noted_at = self._server_time
        return server_time + int((time.monotonic() - noted_at) * 1000)
