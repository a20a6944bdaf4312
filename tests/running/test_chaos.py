"""Runners that start and stop at random, on a store that fails at random: no job is lost, none runs twice."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

import pytest

from flowli_core import Hooks, JobEvent, Retry, Runner, StoreUnavailable, current_job, fixed
from flowli_core.driver import Driver
from flowli_core.testing import ManualClock
from tests.conformance.builders import assert_consistent
from tests.support.faulty import FaultyDriver, Method
from tests.support.running import Deeds, Duties, Work, soon

T = TypeVar("T")

JOBS = 60
FAILING = 7
"""Each seventh job fails at its first attempt."""


class Flaky(FaultyDriver):
    """A driver that loses one call in ten and one answer in ten, and answers after a random delay."""

    def __init__(self, inner: Driver, random: Random) -> None:
        super().__init__(inner)
        self._random = random
        self.is_flaky = True

    async def _call(self, method: Method, ask: Callable[[], Awaitable[T]]) -> T:
        if not self.is_flaky or method in {"open", "close"}:
            return await super()._call(method, ask)
        for _ in range(self._random.randrange(4)):
            await asyncio.sleep(0)
        luck = self._random.random()
        if luck < 0.1:
            raise StoreUnavailable("the call was lost")
        answer = await super()._call(method, ask)
        for _ in range(self._random.randrange(4)):
            await asyncio.sleep(0)
        if luck > 0.9:
            raise StoreUnavailable("the answer was lost")
        return answer


class Chaos:
    """Three runners on one store, each with its own driver, started and ended at random."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)  # noqa: S311 - no secret
        self.clock = ManualClock()
        self.work = Work(clock=self.clock)
        self.done: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.completed_hooks: Counter[str] = Counter()
        self.drivers = [Flaky(self.work.driver.inner, self.random) for _ in range(3)]
        self.runners = [self._runner(driver) for driver in self.drivers]
        self.runs: list[asyncio.Task[None] | None] = [None] * 3

    def _runner(self, driver: Flaky) -> Runner:
        async def note(event: JobEvent) -> None:
            self.completed_hooks[event.id] += 1

        hooks = Hooks(on_job_completed=note)
        return Runner(Duties(context=Deeds(self._act), driver=driver), concurrency=4, hooks=hooks)

    async def _act(self, number: int) -> None:
        me = current_job()
        for _ in range(self.random.randrange(12)):
            await asyncio.sleep(0)
        if number % FAILING == 0 and me.attempt == 1:
            self.failed[me.id] += 1
            raise ValueError("the first time")
        self.done[me.id] += 1

    async def enqueue(self) -> list[str]:
        job = self.work.jobs.act.options(retry=Retry(max_attempts=2, backoff=fixed("0s")))
        return [receipt.id for receipt in await job.enqueue_many(range(JOBS))]

    async def shake(self, *, brutal: bool) -> None:
        """Start or end a random runner."""
        index = self.random.randrange(3)
        task = self.runs[index]
        if task is None:
            self.runs[index] = asyncio.create_task(self.runners[index].run())
            await asyncio.sleep(0)  # A task that has not begun cannot stop its runner.
            return
        self.runs[index] = None
        how = self.random.choice(["stop", "drain", "cancel", "leave"] if brutal else ["stop", "drain", "cancel"])
        if how in {"stop", "drain"}:
            await soon(self.runners[index].stop(drain="0s" if how == "stop" else "1s"))
        for _ in range({"cancel": 1, "leave": 2}.get(how, 0)):
            task.cancel()
            for _ in range(self.random.randrange(4)):
                await asyncio.sleep(0)
        with contextlib.suppress(asyncio.CancelledError):
            await soon(task)

    async def end(self) -> None:
        """Stop all runners, then let one of them run the remaining jobs without faults."""
        for runner, task in zip(self.runners, self.runs, strict=True):
            await soon(runner.stop(drain="0s"))
            if task is not None:
                await soon(task)
        for driver in self.drivers:
            driver.is_flaky = False
        while (await self.work.driver.overview()).counts.completed < JOBS:
            self.clock.advance("31s")
            await soon(self.runners[0].run_once())


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses between two calls of a failing store."""
    monkeypatch.setattr("flowli_core._pauses.FIRST_PAUSE", 0.0002)
    monkeypatch.setattr("flowli_core._pauses.LONGEST_PAUSE", 0.001)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("brutal", [False, True], ids=["orderly", "brutal"])
async def test_each_job_is_done_once_although_runners_and_store_fail(seed: int, *, brutal: bool) -> None:
    """An orderly end returns unfinished jobs to the queue. After a brutal one, jobs in flight may run twice."""
    chaos = Chaos(seed)
    ids = await chaos.enqueue()
    for _ in range(40):
        await chaos.shake(brutal=brutal)
        for _ in range(chaos.random.randrange(30)):
            await asyncio.sleep(0)
    await chaos.end()
    await assert_consistent(chaos.work.driver.inner)
    records = [await chaos.work.job(record_id) for record_id in ids]
    assert {record.state for record in records} == {"completed"}
    for number, record in enumerate(records):
        runs = chaos.done[record.id]
        assert runs == 1 if not brutal else runs >= 1
        assert runs <= 1 + record.recoveries
        assert chaos.completed_hooks[record.id] <= 1
        assert record.failure_count == (number % FAILING == 0)
        if not brutal:
            assert record.recoveries == 0
            assert chaos.failed[record.id] == (number % FAILING == 0)
    assert sum(chaos.done.values()) >= JOBS
