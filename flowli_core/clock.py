"""Clocks, which are passed to a driver, so that a test can set the time."""

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """The source of the time for a driver whose store has no clock of its own."""

    def now(self) -> datetime:
        """Return the time, aware and in UTC."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """Return the time, aware and in UTC."""
        return datetime.now(UTC)
