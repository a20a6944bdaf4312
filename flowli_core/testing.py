"""Tools for tests of your own jobs: a clock that you advance, and a function that runs all due jobs."""

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
    """A clock that stands still until you advance it. Pass it to a driver: `MemoryDriver(clock=clock)`."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = _checks.aware(start, argument="start", error=DefinitionError)

    def now(self) -> datetime:
        """Return the time of the clock, as an aware datetime in UTC."""
        return self._now

    def advance(self, by: Duration) -> None:
        """Move the time forward."""
        self._now += duration(by, argument="by", zero=True)

    def back(self, by: Duration) -> None:
        """Move the time backward, as a corrected machine clock does."""
        self._now -= duration(by, argument="by", zero=True)


async def drain(jobs: Jobs[Any], *, concurrency: int = 10) -> RunCounts:
    """Run all jobs of all queues that are due, and those that these make due at once. Return the counts.

    With a ManualClock no other job becomes due until the clock is advanced, so a test never sleeps.
    """
    total, declared = RunCounts(), Runner(jobs).queues
    waiting = await _waiting(jobs)
    while True:
        ran = await Runner(jobs, concurrency=concurrency, queues=[*declared, *sorted(waiting)]).run_once()
        total += ran
        served, waiting = waiting, await _waiting(jobs)
        # A job or a schedule may have enqueued to a queue that was not served this time.
        if ran == RunCounts() and waiting <= served:
            return total


async def _waiting(jobs: Jobs[Any]) -> set[str]:
    """Return the queues that have due jobs."""
    by_queue = (await jobs.inspect.get_queue_counts()).by_queue
    return {name for name, counts in by_queue.items() if counts.queued}
