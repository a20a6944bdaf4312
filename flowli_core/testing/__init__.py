"""Tools for tests of your own jobs: a clock that you advance, and a function that runs all due jobs.

`flowli_core.testing.pytest_plugin` has fixtures for pytest.
"""

import asyncio
import sys
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from flowli_core import _checks
from flowli_core._jobs.registry import Jobs
from flowli_core._running.events import RunCounts
from flowli_core._running.hooks import EventKind, JobEvent
from flowli_core._running.runner import Runner
from flowli_core.durations import Duration, duration
from flowli_core.errors import DefinitionError, StrategyError

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


async def drain(jobs: Jobs[Any], *, concurrency: int = 10, at_most: int = 10_000) -> RunCounts:
    """Run all jobs of all queues that are due, and those that these make due at once. Return the counts.

    The jobs of a paused queue stay, as with a worker.

    With a ManualClock no other job becomes due until the clock is advanced, so a test never sleeps. Raises
    StrategyError after `at_most` attempts, because a job that enqueues itself, or is always retried at once, never
    ends.
    """
    limit = _Limit(_checks.whole_number(at_most, argument="at_most", low=1, high=sys.maxsize))
    total, declared = RunCounts(), Runner(jobs).queues
    waiting = await _waiting(jobs)
    while True:
        queues = [*declared, *sorted(waiting)]
        ran = await limit.run_once(Runner(jobs, concurrency=concurrency, queues=queues, observers=[limit]))
        total += ran
        served, waiting = waiting, await _waiting(jobs)
        # A job or a schedule may have enqueued to a queue that was not served this time.
        if ran == RunCounts() and waiting <= served:
            return total


class _Limit:
    """Observes runs, and stops one when more attempts than the limit have begun."""

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._attempts: Counter[str] = Counter()
        self._exceeded = asyncio.Event()

    async def run_once(self, runner: Runner) -> RunCounts:
        """Run the due jobs. Raises StrategyError beyond the limit."""
        stopping = asyncio.create_task(self._stop(runner))
        try:
            counts = await runner.run_once()
        finally:
            stopping.cancel()
        if self._exceeded.is_set():
            ((name, count),) = self._attempts.most_common(1)
            raise StrategyError(
                f"drain() has begun {self._at_most:,} attempts, {count:,} of them of {name}, and jobs are still due: "
                "does it enqueue itself, or retry at once, without an end? at_most= raises the limit"
            )
        return counts

    def observe(self, kind: EventKind, event: JobEvent) -> None:
        """Count an attempt that begins."""
        if kind != "started":
            return
        if self._attempts.total() >= self._at_most:
            self._exceeded.set()
        else:
            self._attempts[event.name] += 1

    async def _stop(self, runner: Runner) -> None:
        await self._exceeded.wait()
        await runner.stop(drain="0s")


async def _waiting(jobs: Jobs[Any]) -> set[str]:
    """Return the queues that have due jobs."""
    by_queue = (await jobs.inspect.get_queue_counts()).by_queue
    return {name for name, counts in by_queue.items() if counts.queued}
