"""The tools for users' tests: ManualClock and drain."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flowli_core import DefinitionError, Jobs, RetryAfter, SchedulingError, StrategyError, job
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import ManualClock, drain


@job(int, queue="first")
async def count_down(input: int, ctx: AppJobsBox) -> int:
    if input:
        await ctx.jobs.count_down.enqueue(input - 1, queue=f"q{input}")
    return input


@job(int)
async def alternate(input: int, ctx: AppJobsBox) -> None:
    if input:
        await ctx.jobs.alternate.enqueue(input - 1, queue="here" if input % 2 else "there")


class AppJobsBox:
    """Lets a job enqueue the next one."""

    jobs: AppJobs
    polling: PollingJobs


class AppJobs(Jobs[AppJobsBox]):
    count_down = count_down
    alternate = alternate
    queues = ("elsewhere", "q1", "q2", "q3", "here", "there")


async def test_drain_runs_the_due_jobs_of_all_queues() -> None:
    """This includes queues that first appear while it drains."""
    box = AppJobsBox()
    async with AppJobs(context=box, driver=MemoryDriver()) as jobs:
        box.jobs = jobs
        await jobs.count_down.enqueue(3, queue="elsewhere")
        assert (await drain(jobs)).completed == 4
        assert set((await jobs.inspect.get_queue_counts()).by_queue) == {"elsewhere", "q3", "q2", "q1"}


async def test_drain_serves_a_queue_again_that_it_has_emptied() -> None:
    box = AppJobsBox()
    async with AppJobs(context=box, driver=MemoryDriver()) as jobs:
        box.jobs = jobs
        await jobs.alternate.enqueue(6, queue="here")
        assert (await drain(jobs)).completed == 7


async def test_drain_without_due_jobs_does_nothing() -> None:
    async with AppJobs(context=AppJobsBox(), driver=MemoryDriver()) as jobs:
        assert (await drain(jobs)).completed == 0


@job()
async def poll(ctx: AppJobsBox) -> None:
    await ctx.polling.poll.enqueue()


@job()
def give_way() -> None:
    raise RetryAfter("0s")


class PollingJobs(Jobs[AppJobsBox]):
    poll = poll
    give_way = give_way


@pytest.mark.parametrize("name", ["poll", "give_way"])
async def test_drain_names_the_job_that_never_lets_it_end(name: str) -> None:
    box = AppJobsBox()
    async with PollingJobs(context=box, driver=MemoryDriver()) as jobs:
        box.polling = jobs
        await getattr(jobs, name).enqueue()
        with pytest.raises(StrategyError, match=f"begun 20 attempts, 20 of them of {name}, and jobs are still due"):
            await drain(jobs, at_most=20)
        assert (await jobs.inspect.get_queue_counts()).queued == 1


async def test_drain_allows_exactly_as_many_attempts_as_given() -> None:
    async with AppJobs(context=AppJobsBox(), driver=MemoryDriver()) as jobs:
        await jobs.count_down.enqueue_many([0, 0, 0])
        assert (await drain(jobs, at_most=3)).completed == 3
        with pytest.raises(DefinitionError, match="at_most"):
            await drain(jobs, at_most=0)


def test_a_clock_stands_still_until_it_is_advanced() -> None:
    clock = ManualClock(datetime(2026, 6, 1, 12, tzinfo=UTC))
    clock.advance("90s")
    clock.advance(timedelta(minutes=1))
    clock.back("30s")
    assert clock.now() == datetime(2026, 6, 1, 12, 2, tzinfo=UTC)


def test_a_clock_needs_a_zone_and_durations() -> None:
    with pytest.raises(DefinitionError, match="start must be an aware datetime"):
        ManualClock(datetime(2026, 1, 1))  # noqa: DTZ001 - refused
    with pytest.raises((DefinitionError, SchedulingError), match="by is not a duration"):
        ManualClock().advance("soon")
