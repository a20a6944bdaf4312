"""Several poison jobs, which end their processes with `os._exit`, among 1,000 jobs that real worker processes run."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from flowli_core import Receipt
from flowli_core.stored import FinishedState
from tests.faults.app import SQLITE
from tests.faults.scene import Scene, scene
from tests.redis.server import fresh_prefix, shared_url
from tests.support.figures import note_figures

JOBS, WORKERS, SLOTS = 1000, 3, 50
STARTS = 4
"""The first start, and one after each of the three recoveries that are allowed."""

SEEDS = int(os.environ.get("FLOWLI_POISON_SEEDS", "20"))
AT_ONCE = 10
"""So many seeds run at the same time, because each waits most of the time for leases to expire."""

LEASE = "3s"
"""Long enough that no living worker loses its leases, though 30 workers share a machine that has other work too."""

LONGEST = 400
"""Seconds after which the jobs of a seed count as stuck."""


async def finished(place: Scene, state: FinishedState) -> set[str]:
    """Return the ids of all records that finished in a state."""
    found: set[str] = set()
    cursor: str | None = None
    while True:
        page = await place.jobs.inspect.find(state, limit=500, cursor=cursor)
        found |= {record.id for record in page.items}
        cursor = page.cursor
        if cursor is None:
            return found


async def run_seed(place: Scene, *, seed: int, poisons: int) -> tuple[int, int, int]:
    """Run all jobs. Return the most starts of a poison job, and of another job, and how many workers died."""
    kinds = ["poison"] * poisons + ["rest"] * (JOBS - poisons)
    random.Random(seed).shuffle(kinds)  # noqa: S311 - no secret
    receipts: list[Receipt] = []
    for kind in kinds:
        call = place.jobs.poison.enqueue("137") if kind == "poison" else place.jobs.rest.enqueue(200)
        receipts.append(await call)
    ids = {receipt.id: kind for receipt, kind in zip(receipts, kinds, strict=True)}
    async with asyncio.timeout(LONGEST), place.replaced_workers(WORKERS, concurrency=SLOTS, lease=LEASE) as deaths:
        while True:
            counts = await place.jobs.inspect.get_queue_counts()
            if counts.completed + counts.failed == JOBS:
                break
            await asyncio.sleep(0.1)
    failed = await finished(place, "failed")
    assert failed == {record_id for record_id, kind in ids.items() if kind == "poison"}
    assert await finished(place, "completed") == set(ids) - failed
    starts = Counter(record_id for _, record_id, _ in place.folder.runs())
    of_poisons = max(starts[record_id] for record_id in failed)
    assert of_poisons <= STARTS
    return of_poisons, max(starts[record_id] for record_id in set(ids) - failed), deaths.count


@pytest.mark.faults
@pytest.mark.parametrize("poisons", [5, 20])
@pytest.mark.parametrize("store", ["redis", SQLITE])
async def test_jobs_that_end_their_processes_fail_alone(tmp_path: Path, store: str, poisons: int) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    def made(seed: int) -> AbstractAsyncContextManager[Scene]:
        folder = tmp_path / str(seed)
        folder.mkdir()
        return scene(folder, SQLITE if store == SQLITE else shared_url(), fresh_prefix())

    async def run(seed: int) -> tuple[int, int, int]:
        async with gate, made(seed) as place:
            return await run_seed(place, seed=seed, poisons=poisons)

    async with asyncio.TaskGroup() as tasks:
        seeds = [tasks.create_task(run(seed)) for seed in range(SEEDS)]
    of_poisons, of_innocents, deaths = zip(*[seed.result() for seed in seeds], strict=True)
    note_figures(
        f"{store}: poisons {poisons}, innocents {JOBS - poisons}, {SEEDS} seeds, {sum(deaths)} workers died: no "
        f"innocent failed, poison started at most {max(of_poisons)} times, innocents at most {max(of_innocents)} times"
    )
