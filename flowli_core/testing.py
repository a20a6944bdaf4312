"""What a user's own tests need: a clock to turn, and a way to run everything that is due."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flowli_core.durations import Duration, duration

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = ["ManualClock"]


class ManualClock:
    """A clock that stands still until it is advanced. Give it to a driver: `MemoryDriver(clock=clock)`."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start.astimezone(UTC)

    def now(self) -> datetime:
        """The moment, aware and in UTC."""
        return self._now

    def advance(self, by: Duration) -> None:
        """Move the time forward."""
        self._now += duration(by, argument="by", zero=True)

    def back(self, by: timedelta) -> None:
        """Move the time backward, as a corrected machine clock does."""
        self._now -= by
