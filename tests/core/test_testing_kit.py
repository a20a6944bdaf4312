"""What a user's tests stand on: the clock, and draining."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flowli_core import DefinitionError, Jobs, SchedulingError, job
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import ManualClock, drain


@job(int, queue="first")
async def count_down(input: int, ctx: AppJobsBox) -> int:
    if input:
        await ctx.jobs.count_down.enqueue(input - 1, queue=f"q{input}")
    return input


@job(int)
async def go_to_and_fro(input: int, ctx: AppJobsBox) -> None:
    if input:
        await ctx.jobs.go_to_and_fro.enqueue(input - 1, queue="here" if input % 2 else "there")


class AppJobsBox:
    """Lets a job enqueue the next one."""

    jobs: AppJobs


class AppJobs(Jobs[AppJobsBox]):
    count_down = count_down
    go_to_and_fro = go_to_and_fro


async def test_drain_runs_what_is_due_in_any_queue() -> None:
    """Also in queues that no job declares, and in those that come into being while it drains."""
    box = AppJobsBox()
    async with AppJobs(context=box, driver=MemoryDriver()) as jobs:
        box.jobs = jobs
        await jobs.count_down.enqueue(3, queue="elsewhere")
        assert (await drain(jobs)).completed == 4
        assert set((await jobs.inspect.get_queue_counts()).by_queue) == {"elsewhere", "q3", "q2", "q1"}


async def test_drain_comes_back_to_a_queue_that_it_has_emptied() -> None:
    box = AppJobsBox()
    async with AppJobs(context=box, driver=MemoryDriver()) as jobs:
        box.jobs = jobs
        await jobs.go_to_and_fro.enqueue(6, queue="here")
        assert (await drain(jobs)).completed == 7


async def test_drain_with_nothing_to_do_does_nothing() -> None:
    async with AppJobs(context=AppJobsBox(), driver=MemoryDriver()) as jobs:
        assert (await drain(jobs)).completed == 0


def test_a_clock_stands_still_until_it_is_moved() -> None:
    clock = ManualClock(datetime(2026, 6, 1, 12, tzinfo=UTC))
    clock.advance("90s")
    clock.advance(timedelta(minutes=1))
    clock.back("30s")
    assert clock.now() == datetime(2026, 6, 1, 12, 2, tzinfo=UTC)


def test_a_clock_needs_a_zone_and_durations() -> None:
    with pytest.raises(DefinitionError, match="start must be an aware datetime"):
        ManualClock(datetime(2026, 1, 1))  # noqa: DTZ001 - what is refused
    with pytest.raises((DefinitionError, SchedulingError), match="by is not a duration"):
        ManualClock().advance("soon")
