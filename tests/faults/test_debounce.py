"""Keys under load: many callers debounce the same keys while workers are killed, or enqueue the same unique key."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.faults.app import FaultJobs, make_jobs
from tests.faults.leases import holds, most_at_once, polling
from tests.faults.run_log import RunLog
from tests.faults.scene import Scene
from tests.faults.test_lanes import STORES, repeated, scene_on
from tests.support.figures import note_figures

KEYS, CALLERS, WORKERS, SLOTS, LEASE = 10, 8, 4, 20, "1s"
DEBOUNCE, MAX_WAIT = timedelta(milliseconds=100), timedelta(milliseconds=300)
LONGEST = 120
"""Seconds after which unfinished jobs count as stuck."""


class Callers:
    """Registries on one store, as other processes would have them, that debounce the same keys."""

    def __init__(self, registries: list[FaultJobs]) -> None:
        self._registries = registries
        self.dispositions: Counter[str] = Counter()
        self.answers: list[tuple[str, datetime, datetime]] = []
        """The id, the due time and the time of the answer of each call."""

    async def call(self, key: str, input: str) -> None:
        """Debounce a key once."""
        jobs = random.choice(self._registries)  # noqa: S311 - no secret
        receipt = await jobs.reindex.options(key=key, debounce=DEBOUNCE, max_wait=MAX_WAIT).enqueue(f"{key} {input}")
        self.dispositions[receipt.disposition] += 1
        self.answers.append((receipt.id, receipt.scheduled_for, datetime.now(UTC)))

    def ids(self) -> set[str]:
        """Return the ids of all records that the calls have stored or replaced."""
        return {record_id for record_id, _, _ in self.answers}

    async def type(self, until: float) -> None:
        """Debounce random keys until a time."""
        number = 0
        while time.monotonic() < until:
            number += 1
            await self.call(f"key-{random.randrange(KEYS)}", str(number))  # noqa: S311 - no secret
            await asyncio.sleep(random.uniform(0, 0.04))  # noqa: S311 - no secret


async def debounce(place: Scene, *, seconds: float, harm_every: float) -> None:
    """Debounce keys from many callers, and check that the last call of each has run, and no two runs at once."""
    async with AsyncExitStack() as stack:
        registries = [make_jobs(place.folder, place.url, place.prefix) for _ in range(4)]
        callers = Callers([await stack.enter_async_context(jobs) for jobs in registries])
        polled = stack.enter_context(polling(place))
        deaths = await stack.enter_async_context(
            place.replaced_workers(WORKERS, concurrency=SLOTS, lease=LEASE, harm_every=harm_every)
        )
        until = time.monotonic() + seconds
        await asyncio.gather(*[callers.type(until) for _ in range(CALLERS)])
        for number in range(KEYS):
            await callers.call(f"key-{number}", "last")
        async with asyncio.timeout(LONGEST):
            while (await place.jobs.inspect.get_queue_counts()).completed < len(callers.ids()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    records = {record_id: await place.job(record_id) for record_id in callers.ids()}
    assert {record.state for record in records.values()} == {"completed"}
    assert {f"key-{number} last" for number in range(KEYS)} <= {record.input for record in records.values()}
    for record_id, due, answered in callers.answers:
        assert due <= max(min(answered + DEBOUNCE, records[record_id].created_at + MAX_WAIT), answered)
    held = holds(RunLog(place.folder.path), polled)
    assert set(most_at_once(held).values()) == {1}
    note_figures(
        f"{place.url[:6]}: debounce of {KEYS} keys: {dict(callers.dispositions)}, {deaths.count} workers died, "
        f"{repeated(held)} leases repeated"
    )


@pytest.mark.parametrize("store", STORES)
async def test_the_last_call_of_a_debounced_key_runs_alone(store: str, tmp_path: Path) -> None:
    async with scene_on(store, tmp_path) as place:
        await debounce(place, seconds=1, harm_every=0)


@pytest.mark.faults
@pytest.mark.parametrize("store", STORES)
async def test_a_storm_of_debounced_keys_and_kills_loses_no_last_call(store: str, tmp_path: Path) -> None:
    async with scene_on(store, tmp_path) as place:
        await debounce(place, seconds=20, harm_every=0.5)


@pytest.mark.parametrize("store", STORES)
async def test_a_unique_key_is_accepted_once_by_fifty_callers(store: str, tmp_path: Path) -> None:
    """Half of them call again after the job has completed."""
    async with scene_on(store, tmp_path) as place, AsyncExitStack() as stack:
        registries = [
            await stack.enter_async_context(make_jobs(place.folder, place.url, place.prefix)) for _ in range(10)
        ]

        async def call(number: int) -> str:
            unique = registries[number % 10].reindex.options(key="digest", unique_for="1h")
            return (await unique.enqueue(f"digest {number}")).disposition

        async with place.replaced_workers(1, concurrency=1, lease=LEASE):
            answers = await asyncio.gather(*[call(number) for number in range(25)])
            await place.until_finished()
            answers += await asyncio.gather(*[call(number) for number in range(25)])
    assert Counter(answers) == {"accepted": 1, "existing": 49}
