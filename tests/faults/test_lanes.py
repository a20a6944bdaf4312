"""Lanes while worker processes are killed and stopped: an oracle counts the leases of each lane at each moment."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.faults.app import SQLITE, make_driver
from tests.faults.leases import Hold, holds, most_at_once, most_starts, polling
from tests.faults.run_log import RunLog
from tests.faults.scene import Scene, scene
from tests.redis.server import fresh_prefix, shared_url
from tests.support.figures import note_figures

STORES = ("redis", SQLITE)
LANES, WORKERS, SLOTS, LEASE = 50, 4, 35, "1s"
LONGEST = 300
"""Seconds after which unfinished jobs count as stuck."""


@pytest.fixture(autouse=True)
def many_recoveries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no job of these tests fail because it has lost too many workers."""
    monkeypatch.setenv("FLOWLI_MAX_RECOVERIES", "50")


@asynccontextmanager
async def scene_on(store: str, path: Path) -> AsyncGenerator[Scene]:
    """Open a scene on a store."""
    async with scene(path, SQLITE if store == SQLITE else shared_url(), fresh_prefix()) as made:
        yield made


async def until_over(place: Scene, jobs: int) -> None:
    """Wait until so many jobs have completed. Fails if one has failed, or if they take too long."""
    async with asyncio.timeout(LONGEST):
        while True:
            counts = await place.jobs.inspect.get_queue_counts()
            assert (counts.failed, counts.cancelled) == (0, 0)
            if counts.completed == jobs:
                break
            await asyncio.sleep(0.1)
    assert counts.queued + counts.scheduled + counts.active == 0


async def leaves_nothing_behind(place: Scene) -> None:
    """Fail if the store still has a lane."""
    driver = make_driver(place.folder, place.url, place.prefix)
    await driver.open()
    try:
        overview = await driver.overview()
    finally:
        await driver.close()
    assert (overview.lane_count, overview.lanes) == (0, ())


def repeated(held: list[Hold]) -> int:
    """Return the number of leases that were not the first of their record."""
    return len(held) - len({hold.id for hold in held})


async def run_in_lanes(place: Scene, *, name: str, jobs: int, harm_every: float) -> Counter[str]:
    """Run jobs in 50 lanes, and return the most leases at once of each lane."""
    inputs = [f"lane-{number % LANES} {number}" for number in range(jobs)]
    random.shuffle(inputs)
    job = place.jobs.in_pairs if name == "in_pairs" else place.jobs.in_threes
    began = time.monotonic()
    workers = place.replaced_workers(WORKERS, concurrency=SLOTS, lease=LEASE, harm_every=harm_every)
    with polling(place) as polled:
        async with workers as deaths:
            for first in range(0, jobs, 500):
                await job.enqueue_many(inputs[first : first + 500])
            await until_over(place, jobs)
    await leaves_nothing_behind(place)
    held = holds(RunLog(place.folder.path), polled)
    assert len({hold.id for hold in held}) == jobs
    most = most_at_once(held, polled)
    note_figures(
        f"{place.url[:6]}: {jobs} jobs in {LANES} lanes in {time.monotonic() - began:.0f} s, "
        f"{deaths.count} workers died, {repeated(held)} leases repeated, "
        f"at most {max(most.values())} at once ({len(polled.shown)} polls)"
    )
    return most


@pytest.mark.parametrize("store", STORES)
async def test_a_lane_has_at_most_two_leases_while_workers_are_killed(store: str, tmp_path: Path) -> None:
    async with scene_on(store, tmp_path) as place:
        most = await run_in_lanes(place, name="in_pairs", jobs=400, harm_every=0.3)
    assert max(most.values()) == 2


async def test_the_oracle_sees_three_leases_in_lanes_that_allow_three(tmp_path: Path) -> None:
    async with scene_on("redis", tmp_path) as place:
        most = await run_in_lanes(place, name="in_threes", jobs=400, harm_every=0)
    assert max(most.values()) == 3


@pytest.mark.faults
@pytest.mark.parametrize("store", STORES)
async def test_a_storm_of_kills_never_exceeds_a_lane(store: str, tmp_path: Path) -> None:
    """All jobs complete, no lane has more than two leases, and no lane remains."""
    async with scene_on(store, tmp_path) as place:
        most = await run_in_lanes(place, name="in_pairs", jobs=10_000, harm_every=0.5)
    assert set(most.values()) == {2}


async def run_at_a_rate(place: Scene, *, jobs: int, harm_every: float) -> list[Hold]:
    """Run jobs at 100 a second, and return their leases. No window of a second has more than 100 of them."""
    with polling(place) as polled:
        workers = place.replaced_workers(WORKERS, concurrency=SLOTS, lease=LEASE, harm_every=harm_every)
        async with workers as deaths:
            await place.jobs.rated.enqueue_many([f"all {number}" for number in range(jobs)])
            await until_over(place, jobs)
    await leaves_nothing_behind(place)
    held = holds(RunLog(place.folder.path), polled)
    first = min(hold.start for hold in held)
    within = sum(hold.start < first + 10_000 for hold in held)
    most = most_starts(held, 1000)
    note_figures(
        f"{place.url[:6]}: rate 100/s: at most {most} starts in a second, {within} in the first 10 s, "
        f"{deaths.count} workers died, {repeated(held)} leases repeated"
    )
    assert most == 100
    return held


@pytest.mark.parametrize("store", STORES)
async def test_no_second_has_more_starts_than_the_rate(store: str, tmp_path: Path) -> None:
    async with scene_on(store, tmp_path) as place:
        await run_at_a_rate(place, jobs=250, harm_every=0.5)


@pytest.mark.faults
@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("harm_every", [0, 0.5])
async def test_a_rate_is_used_fully_and_never_exceeded(store: str, harm_every: float, tmp_path: Path) -> None:
    """At least 950 of the 1,000 starts happen that 10 seconds allow, also while workers are killed."""
    async with scene_on(store, tmp_path) as place:
        held = await run_at_a_rate(place, jobs=1200, harm_every=harm_every)
    first = min(hold.start for hold in held)
    assert 950 <= sum(hold.start < first + 10_000 for hold in held) <= 1000
