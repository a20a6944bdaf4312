"""A run that is cancelled, or whose `async with` block fails, still returns its jobs to the queue."""

import asyncio
from dataclasses import replace

import pytest

from flowli_core import RunCounts, Runner
from flowli_core.driver import Step, StepAnswer
from flowli_core.testing import ManualClock
from tests.support.faulty import FaultyDriver
from tests.support.running import Duties, Hold, Work, breathe, soon, until


async def test_a_cancelled_run_returns_its_jobs_to_the_queue() -> None:
    work = Work()
    started: list[int] = []
    cleaned: list[int] = []

    async def act(number: int) -> None:
        started.append(number)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(number)

    work.deeds.act = act
    ids = await work.add(1, 2, 3)
    task = asyncio.create_task(Runner(work.jobs, concurrency=2).run())
    await until(lambda: len(started) == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(task)
    assert sorted(cleaned) == sorted(started)
    for record_id in ids:
        record = await work.job(record_id)
        assert (record.state, record.attempts_made, record.recoveries) == ("queued", 0, 0)


async def test_a_run_cancelled_while_it_reserves_returns_the_reserved_jobs() -> None:
    """The answer is lost with the cancelled call. The step is sent again to get it."""
    work = Work()
    ids = await work.add(*range(5))
    gate = work.driver.hold("step")
    task = asyncio.create_task(Runner(work.jobs).run())
    await soon(gate.reached.wait())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(task)
    assert [step.sequence for step in work.driver.steps[:2]] == [1, 1]
    for record_id in ids:
        record = await work.job(record_id)
        assert (record.state, record.attempts_made, record.recoveries) == ("queued", 0, 0)


async def test_a_run_that_is_cancelled_twice_ends_at_once() -> None:
    """The jobs that it still held are recovered when their leases expire."""
    clock = ManualClock()
    work = Work(clock=clock)
    started, release = asyncio.Event(), asyncio.Event()

    async def act(_: int) -> None:
        started.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    work.deeds.act = act
    (record_id,) = await work.add(1)
    task = asyncio.create_task(Runner(work.jobs, cancel_grace="1h").run())
    await soon(started.wait())
    for _ in range(2):
        assert not task.done()
        task.cancel()
        await breathe()
    with pytest.raises(asyncio.CancelledError):
        await soon(task)
    release.set()
    assert await work.states([record_id]) == ["active"]
    clock.advance("31s")
    assert await work.run() == RunCounts(completed=1, recovered=1)


async def test_an_error_in_the_block_stops_the_runner() -> None:
    work = Work()
    runner = Runner(work.jobs)
    with pytest.raises(ValueError, match="inside"):
        async with runner:
            raise ValueError("inside")
    assert not runner.health().is_running


async def test_a_block_that_is_cancelled_ends_its_runner() -> None:
    work = Work()
    hold = work.deeds.act = Hold()
    (record_id,) = await work.add(1)
    runner = Runner(work.jobs)

    async def block() -> None:
        async with runner:
            await hold.started.wait()

    task = asyncio.create_task(block())
    await soon(hold.started.wait())
    await breathe()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(task)
    assert not runner.health().is_running
    assert await work.states([record_id]) == ["queued"]


async def test_an_error_that_ended_a_runner_is_raised_at_the_end_of_its_block() -> None:
    work = Work()

    class Babbling(FaultyDriver):
        async def step(self, step: Step) -> StepAnswer:
            return replace(await super().step(step), acks=("ok",) * 9)

    runner = Runner(Duties(context=work.deeds, driver=Babbling(work.driver)))
    with pytest.raises(ValueError, match="zip"):
        async with runner:
            await until(lambda: not runner.health().is_running)
