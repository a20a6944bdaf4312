"""What a user's own tests need: a clock to turn, and a way to run everything that is due."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flowli_core import _checks
from flowli_core._jobs.registry import Jobs
from flowli_core._running.events import RunCounts
from flowli_core._running.runner import Runner
from flowli_core.durations import Duration, duration
from flowli_core.errors import DefinitionError

__all__ = ["ManualClock", "drain"]


class ManualClock:
    """A clock that stands still until it is advanced. Give it to a driver: `MemoryDriver(clock=clock)`."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = _checks.aware(start, argument="start", error=DefinitionError)

    def now(self) -> datetime:
        """The moment, aware and in UTC."""
        return self._now

    def advance(self, by: Duration) -> None:
        """Move the time forward."""
        self._now += duration(by, argument="by", zero=True)

    def back(self, by: Duration) -> None:
        """Move the time backward, as a corrected machine clock does."""
        self._now -= duration(by, argument="by", zero=True)


async def drain(jobs: Jobs[Any], *, concurrency: int = 10) -> RunCounts:
    """Run every job that is due now, in whatever queue, and what becomes due at once because of it.

    Answers what came of them. With a ManualClock nothing else becomes due until the clock is advanced, so a test never
    waits.
    """
    total, declared = RunCounts(), Runner(jobs).queues
    waiting = await _waiting(jobs)
    while True:
        ran = await Runner(jobs, concurrency=concurrency, queues=[*declared, *sorted(waiting)]).run_once()
        total += ran
        looked, waiting = waiting, await _waiting(jobs)
        # A job, or the tick of a schedule, may have put something where nobody looked this time.
        if ran == RunCounts() and waiting <= looked:
            return total


async def _waiting(jobs: Jobs[Any]) -> set[str]:
    """The queues in which something is due."""
    by_queue = (await jobs.inspect.get_queue_counts()).by_queue
    return {name for name, of_queue in by_queue.items() if of_queue.queued}
