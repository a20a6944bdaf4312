"""The outcomes and records that one step carries, bounded by bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from flowli_core import RunCounts, Runner
from flowli_core._running import batches
from flowli_core._running.batches import Batches
from flowli_core.driver import Completed, Step
from flowli_core.drivers.redis import RedisDriver
from flowli_core.limits import MAX_BATCH_BYTES
from tests.redis.server import Server
from tests.support.running import Work

RESULT = "x" * 250 * 1024


@pytest.fixture
def server() -> Iterator[Server]:
    """Start a server that only this test uses."""
    with Server() as own:
        yield own


def bytes_of_acks(step: Step) -> int:
    return sum(len(ack.outcome.result) for ack in step.acks if isinstance(ack.outcome, Completed))


async def finish_together(work: Work, count: int) -> RunCounts:
    """Run jobs with large results that all end at the same time."""
    together = asyncio.Barrier(count)

    async def act(_: int) -> str:
        await together.wait()
        return RESULT

    work.deeds.act = act
    await work.add(*range(count))
    async with asyncio.timeout(120):
        return await Runner(work.jobs, concurrency=count).run_once()


async def test_many_outcomes_are_settled_over_several_steps_of_a_thousand() -> None:
    work = Work()
    together = asyncio.Barrier(2500)

    async def act(_: int) -> None:
        await together.wait()

    work.deeds.act = act
    await work.add(*range(2500))
    assert await Runner(work.jobs, concurrency=2500).run_once() == RunCounts(completed=2500)
    assert max(len(step.acks) for step in work.driver.steps) == 1000


async def test_large_outcomes_are_settled_over_several_steps_and_none_is_lost() -> None:
    work = Work()
    assert await finish_together(work, 100) == RunCounts(completed=100)
    sizes = [bytes_of_acks(step) for step in work.driver.steps]
    assert max(sizes) <= MAX_BATCH_BYTES
    assert sum(1 for size in sizes if size) >= 100 * len(RESULT) / MAX_BATCH_BYTES


async def test_an_outcome_that_is_larger_than_the_limit_is_sent_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_BATCH_BYTES", 1000)
    work = Work()
    assert await finish_together(work, 3) == RunCounts(completed=3)
    assert max(len(step.acks) for step in work.driver.steps) == 1


async def test_a_runner_takes_no_more_work_while_outcomes_wait_to_be_sent() -> None:
    work = Work()
    await finish_together(work, 60)
    by_step = [(bytes_of_acks(step), step.want) for step in work.driver.steps]
    full = [want for size, want in by_step if size > MAX_BATCH_BYTES - 2 * len(RESULT)]
    assert full
    assert set(full) == {0}


async def test_steps_carry_less_after_each_failure_and_more_after_quick_answers() -> None:
    """A batch that takes longer than the time limit of the store would be sent again for ever."""
    limits = Batches(40)
    assert (limits.records, limits.ack_bytes) == (40, MAX_BATCH_BYTES)
    for _ in range(3):
        limits.note_failure()
    assert (limits.records, limits.ack_bytes) == (5, MAX_BATCH_BYTES // 8)
    limits.note_answer(3.0)
    assert limits.records == 5
    for _ in range(3):
        limits.note_answer(0.01)
    assert (limits.records, limits.ack_bytes) == (40, MAX_BATCH_BYTES)
    for _ in range(50):
        limits.note_failure()
    assert limits.records == 1


@pytest.mark.parametrize("count", [400, pytest.param(5000, marks=pytest.mark.faults)])
async def test_large_results_that_end_together_are_settled_on_redis(server: Server, count: int) -> None:
    """Four hundred results of 250 KiB are 100 MB."""
    driver = RedisDriver.from_url(server.url)
    await driver.open()
    try:
        work = Work(driver)
        assert await finish_together(work, count) == RunCounts(completed=count)
        assert max(bytes_of_acks(step) for step in work.driver.steps) <= MAX_BATCH_BYTES
    finally:
        await driver.close()
