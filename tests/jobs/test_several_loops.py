"""One registry that threads use, each with an event loop of its own."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowli_core import Jobs, Runner, StrategyError, job
from flowli_core._loops import LoopLock
from flowli_core.driver import Driver
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.drivers.redis import RedisDriver
from flowli_core.drivers.sqlite import SqliteDriver
from tests.redis.server import clean_up, fresh_prefix, shared_url
from tests.support.running import Hold, Work, running, soon
from tests.support.threads import THREADS, in_threads


@job(int)
async def work(input: int, ctx: str) -> str:
    return f"{ctx} {input}"


class LoopJobs(Jobs[str]):
    work = work


class SlowToOpen(MemoryDriver):
    """A driver that counts how often it is opened and closed, and takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = self.closed = 0

    async def open(self) -> None:
        self.opened += 1
        await asyncio.sleep(0.05)
        await super().open()

    async def close(self) -> None:
        self.closed += 1
        await super().close()


@pytest.fixture(params=["memory", "sqlite", "redis"])
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Driver]:
    if request.param == "memory":
        yield SlowToOpen()
    elif request.param == "sqlite":
        yield SqliteDriver(tmp_path / "jobs.db")
    else:
        yield RedisDriver.from_url(shared_url(), prefix=fresh_prefix())
        clean_up()


def test_threads_may_use_a_registry_that_nobody_has_opened(driver: Driver) -> None:
    jobs = LoopJobs(context="hello", driver=driver)
    receipts = in_threads(lambda: jobs.work.enqueue(1))
    assert [type(receipt).__name__ for receipt in receipts] == ["Receipt"] * THREADS
    assert asyncio.run(soon(jobs.inspect.get_overview())).counts.queued == THREADS
    asyncio.run(soon(jobs.aclose()))


def test_threads_share_a_context_that_the_first_of_them_makes() -> None:
    made: list[str] = []

    async def make() -> str:
        await asyncio.sleep(0.05)
        made.append("hello")
        return "hello"

    jobs = LoopJobs(context=make)
    assert in_threads(lambda: jobs.work.run(1)) == ["hello 1"] * THREADS
    assert made == ["hello"]


def test_a_driver_is_opened_and_closed_once_whatever_the_threads_do() -> None:
    driver = SlowToOpen()
    jobs = LoopJobs(context="hello", driver=driver)

    async def enqueue_and_close() -> None:
        await jobs.work.enqueue(1)
        await jobs.aclose()

    results = in_threads(enqueue_and_close)
    assert all(one is None or isinstance(one, StrategyError) for one in results), results
    assert (driver.opened, driver.closed) == (1, 1)


def test_a_thread_that_is_cancelled_while_it_opens_holds_up_no_other() -> None:
    driver = SlowToOpen()
    jobs = LoopJobs(context="hello", driver=driver)

    async def impatient() -> object:
        async with asyncio.timeout(0.02):
            return await jobs.work.enqueue(1)

    assert [type(result) for result in in_threads(impatient)] == [TimeoutError] * THREADS
    assert in_threads(lambda: jobs.work.enqueue(1), threads=1)[0] is not None
    assert asyncio.run(soon(jobs.inspect.get_overview())).counts.queued == 1


def test_a_lock_of_an_event_loop_that_was_closed_is_free() -> None:
    """A loop that is closed with its tasks unfinished never runs them again."""
    lock = LoopLock()
    abandoned = asyncio.new_event_loop()
    abandoned.run_until_complete(_enter(lock))
    abandoned.close()

    async def enter() -> str:
        async with lock:
            return "entered"

    assert in_threads(enter) == ["entered"] * THREADS


def test_a_lock_of_an_event_loop_that_does_not_run_is_refused_with_the_reason() -> None:
    lock = LoopLock()
    paused = asyncio.new_event_loop()
    paused.run_until_complete(_enter(lock))

    async def enter() -> None:
        async with lock:
            pass

    (error,) = in_threads(enter, threads=1)
    assert isinstance(error, StrategyError)
    assert "event loop that does not run" in str(error)
    paused.close()


async def _enter(lock: LoopLock) -> None:
    await lock.__aenter__()


def test_a_context_factory_that_calls_its_own_registry_is_refused() -> None:
    """It would wait for itself for ever."""

    async def make() -> str:
        return await jobs.work.run(1)

    jobs = LoopJobs(context=make)
    with pytest.raises(StrategyError, match="waits for itself"):
        asyncio.run(soon(jobs.work.run(1)))


async def test_a_runner_may_be_stopped_from_another_event_loop() -> None:
    duties = Work()
    hold = duties.deeds.act = Hold()
    await duties.add(1)
    runner = Runner(duties.jobs)
    async with running(runner) as run:
        await soon(hold.started.wait())
        stopping = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(runner.stop(drain="1h"))))
        await asyncio.sleep(0.1)
        hold.release.set()
        await soon(run)
        await soon(stopping)
    assert not runner.health().is_running
