"""Several poison jobs among others: each fails after its last allowed start, and no other job fails with them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from flowli_core import Defaults, Runner, current_job
from flowli_core.driver import Driver
from flowli_core.drivers.redis import RedisDriver
from flowli_core.drivers.sqlite import SqliteDriver
from tests.redis.server import fresh_prefix, shared_url
from tests.support.faulty import FaultyDriver
from tests.support.figures import note_figures
from tests.support.running import Deeds, Duties, breathe

JOBS = 1000
STARTS = 4
"""The first start, and one after each of the three recoveries that are allowed."""

SEEDS = int(os.environ.get("FLOWLI_POISON_SEEDS", "20"))
AT_ONCE = 4
"""So many seeds run at the same time, because each waits most of the time for leases to expire."""


class Town:
    """Three workers on one store, each restarted when a poison job kills it. Positive numbers are innocent jobs."""

    def __init__(self, driver: Driver, *, slots: int, rng: random.Random) -> None:
        self._inner = driver
        self._slots = slots
        self._rng = rng
        self.starts: Counter[str] = Counter()
        self.jobs = Duties(context=Deeds(), driver=driver, defaults=Defaults(max_recoveries=STARTS - 1))

    async def work(self) -> None:
        """Run workers one after the other, without end."""
        while True:
            driver = FaultyDriver(self._inner)
            died = asyncio.Event()
            jobs = Duties(context=Deeds(act=self._act(driver, died)), driver=driver)
            life = asyncio.create_task(Runner(jobs, concurrency=self._slots, lease="1s").run())
            try:
                await died.wait()
            finally:
                # After the first cancellation it tries to return its jobs; the second one ends it at once.
                for _ in range(2):
                    life.cancel()
                    await breathe()
                with contextlib.suppress(asyncio.CancelledError):
                    await life

    async def until_finished(self, jobs: int) -> None:
        """Wait until so many jobs are completed or failed."""
        finished = 0
        while finished < jobs:
            await asyncio.sleep(0.05)
            counts = await self.jobs.inspect.get_queue_counts()
            finished = counts.completed + counts.failed

    def _act(self, driver: FaultyDriver, died: asyncio.Event) -> Callable[[int], Awaitable[object]]:
        async def act(number: int) -> None:
            self.starts[current_job().id] += 1
            await asyncio.sleep(self._rng.uniform(0, 0.2))
            if number < 0:
                driver.fail("step", "heartbeat", "wait")
                died.set()
                await asyncio.Event().wait()

        return act


async def run_town(driver: Driver, *, seed: int, jobs: int, poisons: int, slots: int) -> int:
    """Run all jobs, and check how each ended. Return the most starts of a poison job."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    numbers = [*range(jobs - poisons), *[-1] * poisons]
    rng.shuffle(numbers)
    town = Town(driver, slots=slots, rng=rng)
    async with town.jobs:
        receipts = await town.jobs.act.enqueue_many(numbers)
        ids = [receipt.id for receipt in receipts]
        workers = [asyncio.create_task(town.work()) for _ in range(3)]
        try:
            async with asyncio.timeout(240):
                await town.until_finished(jobs)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.wait(workers)
        states = {record_id: await town.jobs.inspect.get_job(record_id) for record_id in ids}
    failed = {record_id for record_id, record in states.items() if record is not None and record.state == "failed"}
    assert failed == {record_id for record_id, number in zip(ids, numbers, strict=True) if number < 0}
    most = max(town.starts[record_id] for record_id in failed)
    assert most <= STARTS
    return most


def make(kind: str, path: Path, seed: int) -> Driver:
    if kind == "redis":
        return RedisDriver.from_url(shared_url(), prefix=fresh_prefix())
    return SqliteDriver(path / f"{seed}.sqlite3")


@pytest.mark.faults
@pytest.mark.parametrize("poisons", [5, 20])
@pytest.mark.parametrize("kind", ["redis", "sqlite"])
async def test_many_poison_jobs_fail_alone(tmp_path: Path, kind: str, poisons: int) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def run(seed: int) -> int:
        async with gate:
            return await run_town(make(kind, tmp_path, seed), seed=seed, jobs=JOBS, poisons=poisons, slots=50)

    async with asyncio.TaskGroup() as tasks:
        seeds = [tasks.create_task(run(seed)) for seed in range(SEEDS)]
    most = max(seed.result() for seed in seeds)
    note_figures(
        f"{kind}, in one process: poisons {poisons}, innocents {JOBS - poisons}, {SEEDS} seeds: no innocent failed, "
        f"poison started at most {most} times"
    )
