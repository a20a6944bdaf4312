"""A runner of a paused queue: it idles, settles what it holds, and goes on when the queue is resumed."""

import asyncio

import pytest

from flowli_core import Retry, Runner, fixed
from flowli_core.drivers.memory import MemoryDriver
from tests.support.faulty import FaultyDriver
from tests.support.running import Work, breathe, running, soon, until


@pytest.fixture
def driver() -> FaultyDriver:
    return FaultyDriver(MemoryDriver())


@pytest.fixture
def work(driver: FaultyDriver) -> Work:
    return Work(driver)


async def test_a_runner_idles_while_jobs_wait_in_a_paused_queue(work: Work, driver: FaultyDriver) -> None:
    """It sends no steps for them. When the queue is resumed, they run."""
    async with running(Runner(work.jobs)):
        await until(lambda: driver.is_waiting)
        await work.jobs.control.pause_queue("default")
        sent = len(driver.steps)
        jobs = await work.add(*range(20))
        await work.add(20)
        await breathe()
        assert driver.is_waiting
        assert len(driver.steps) == sent
        await work.jobs.control.resume_queue("default")
        for job in jobs:
            await work.until(job, "completed")


async def test_a_running_job_of_a_paused_queue_is_settled(work: Work, driver: FaultyDriver) -> None:
    """If it fails, its retry waits until the queue is resumed."""
    began, may_end = asyncio.Event(), asyncio.Event()
    attempts = 0

    async def act(number: int) -> None:
        nonlocal attempts
        attempts += 1
        began.set()
        await may_end.wait()
        if attempts == 1:
            raise ValueError(number)

    work.deeds.act = act
    async with running(Runner(work.jobs)):
        receipt = await work.jobs.act.options(retry=Retry(max_attempts=2, backoff=fixed("1ms"))).enqueue(1)
        await soon(began.wait())
        await work.jobs.control.pause_queue("default")
        may_end.set()
        await work.until(receipt.id, "queued")
        await breathe()
        assert attempts == 1
        await work.jobs.control.resume_queue("default")
        await work.until(receipt.id, "completed")
