"""The embedded runner of an application: it is restarted after a crash, and stops with the application."""

from __future__ import annotations

import asyncio
import threading

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from flowli_core import Hooks, Runner
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.embedded import embedded
from flowli_fastapi import jobs_lifespan
from tests.adapters.apps import PATIENCE, BuggyDriver, EventJobs, Events
from tests.adapters.test_fastapi import make_app


async def soon(event: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE):
        await event.wait()


async def test_a_runner_that_crashes_is_restarted_and_its_health_says_so() -> None:
    crashed_twice = asyncio.Event()

    class Driver(BuggyDriver):
        def on_crash(self) -> None:
            if self.crashes == 2:
                crashed_twice.set()

    events, driver = Events(), Driver()
    jobs = EventJobs(context=events, driver=driver)
    async with embedded(jobs, runner=Runner(jobs)) as beside:
        assert beside is not None
        assert (beside.health().restarts, beside.health().last_error) == (0, None)
        await soon(crashed_twice)
        health = beside.health()
        assert 1 <= health.restarts <= driver.crashes
        assert health.last_error is not None
        assert "ValueError" in health.last_error
        driver.is_buggy = False
        receipt = await jobs.double.enqueue(21)
        await soon(events.done)
        assert beside.health().runner.is_running
        assert beside.health().restarts == driver.crashes
    async with EventJobs(context=events, driver=driver) as later:
        record = await later.inspect.get_job(receipt.id)
    assert record is not None
    assert (record.state, record.attempts_made, record.recoveries) == ("completed", 1, 0)


def test_requests_are_answered_while_the_runner_crashes_again_and_again() -> None:
    crashed, is_done = threading.Semaphore(0), threading.Event()

    class Driver(BuggyDriver):
        def on_crash(self) -> None:
            crashed.release()

    driver = Driver()
    jobs = EventJobs(context=Events(), driver=driver)
    runner = Runner(jobs, hooks=Hooks(on_job_completed=lambda _: is_done.set()))
    with TestClient(make_app(jobs_lifespan(jobs, runner=runner))) as client:
        assert crashed.acquire(timeout=PATIENCE)
        job_id = client.post("/double/21").json()
        assert crashed.acquire(timeout=PATIENCE)
        assert client.get("/ping").json() == "pong"
        assert client.get(f"/job/{job_id}").json() == "queued"
        driver.is_buggy = False
        assert is_done.wait(PATIENCE)
        assert client.get(f"/job/{job_id}").json() == "completed"


async def test_an_application_stops_while_its_runner_is_down() -> None:
    crashed = asyncio.Event()

    class Driver(BuggyDriver):
        def on_crash(self) -> None:
            crashed.set()

    jobs = EventJobs(context=Events(), driver=Driver())
    runner = Runner(jobs)
    async with asyncio.timeout(PATIENCE), jobs_lifespan(jobs, runner=runner)(FastAPI()):
        await crashed.wait()
    assert not runner.health().is_running


async def test_a_job_that_finishes_within_the_drain_completes() -> None:
    events, driver = Events(), MemoryDriver()
    jobs = EventJobs(context=events, driver=driver)
    lifespan = jobs_lifespan(jobs, runner=Runner(jobs), drain="1m")(FastAPI())
    await lifespan.__aenter__()
    receipt = await jobs.held.enqueue()
    await soon(events.started)
    leaving = asyncio.create_task(lifespan.__aexit__(None, None, None))
    for _ in range(50):  # iterations of the loop, in which a runner that does not wait would end the job
        await asyncio.sleep(0)
    await jobs.double.enqueue(1)  # a request that is still being answered
    events.done.clear()
    events.release.set()
    async with asyncio.timeout(PATIENCE):
        await leaving
    assert events.done.is_set()
    assert events.log == []  # a job enqueued after the stop began waits for the next runner
    async with EventJobs(context=events, driver=driver) as later:
        record = await later.inspect.get_job(receipt.id)
        counts = await later.inspect.get_queue_counts()
    assert record is not None
    assert (record.state, record.result, record.attempts_made) == ("completed", "held", 1)
    assert (counts.queued, counts.completed) == (1, 1)


@pytest.mark.parametrize("drain", ["0s", "20ms"])
async def test_an_unfinished_job_returns_to_the_queue_and_runs_in_the_next_application(drain: str) -> None:
    driver = MemoryDriver()
    first = Events()
    jobs = EventJobs(context=first, driver=driver)
    async with asyncio.timeout(PATIENCE), jobs_lifespan(jobs, runner=Runner(jobs), drain=drain)(FastAPI()):
        receipt = await jobs.held.enqueue()
        await first.started.wait()
    assert not first.done.is_set()

    async with EventJobs(context=Events(), driver=driver) as between:
        record = await between.inspect.get_job(receipt.id)
    assert record is not None
    assert (record.state, record.attempts_made, record.failure_count, record.recoveries) == ("queued", 0, 0, 0)
    assert record.last_error is None

    second = Events()
    second.release.set()
    jobs = EventJobs(context=second, driver=driver)
    async with jobs_lifespan(jobs, runner=Runner(jobs))(FastAPI()):
        await soon(second.done)
    async with EventJobs(context=Events(), driver=driver) as after:
        record = await after.inspect.get_job(receipt.id)
    assert record is not None
    assert (record.state, record.attempts_made, record.recoveries) == ("completed", 1, 0)


async def test_an_error_in_the_application_also_stops_the_runner() -> None:
    events = Events()
    jobs = EventJobs(context=events, driver=MemoryDriver())
    runner = Runner(jobs)

    async def serve() -> None:
        async with jobs_lifespan(jobs, runner=runner)(FastAPI()):
            await jobs.double.enqueue(1)
            await soon(events.done)
            raise RuntimeError("the application failed")

    with pytest.raises(RuntimeError, match="the application failed"):
        await serve()
    assert not runner.health().is_running


async def test_an_application_whose_context_cannot_be_made_does_not_start() -> None:
    def context() -> Events:
        raise LookupError("no configuration")

    log: list[str] = []
    jobs = EventJobs(context=context, driver=MemoryDriver())
    runner = Runner(jobs)
    with pytest.raises(LookupError, match="no configuration"):
        async with jobs_lifespan(jobs, runner=runner)(FastAPI()):
            log.append("served")
    assert log == []
    assert not runner.health().is_running
