"""A storm test: workers are killed one after the other while 50,000 jobs run."""

from __future__ import annotations

import asyncio
import os
import time
from asyncio.subprocess import Process
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.faults.scene import Scene, scene, stopped
from tests.redis.server import Server, connect
from tests.support.figures import note_figures

JOBS = int(os.environ.get("FLOWLI_STORM_JOBS", "50000"))
WORKERS, SLOTS, LEASE = 3, 20, "3s"
SECONDS = float(os.environ.get("FLOWLI_STORM_SECONDS", "60"))
LONGEST = 600
"""Seconds after which unfinished jobs count as stuck."""


class Storm:
    """Kills a random worker every second, and starts another one."""

    def __init__(self, place: Scene) -> None:
        self.scene = place
        self.admin: Any = connect(place.url)
        self.random = Random(time.time_ns())  # noqa: S311 - no secret
        self.workers: list[Process] = []
        self.all_added = False
        self.kills = 0
        self.in_flight: set[str] = set()

    def key(self, name: str) -> str:
        """Return the name of a key in the store."""
        return f"{{{self.scene.prefix}}}:1:{name}"

    async def start(self) -> None:
        """Start a worker."""
        self.workers.append(await self.scene.spawn("--concurrency", str(SLOTS), "--lease", LEASE))

    async def rage(self, until: float) -> None:
        """Kill workers until the given time, and collect the ids that each of them held."""
        while time.monotonic() < until and not await self.is_over():
            await asyncio.sleep(1)
            busy = [worker for worker in self.workers if self._mark(worker) in b" ".join(self._tokens().values())]
            if not busy:
                continue  # Workers start slowly on a slow machine, and only a busy one is worth killing.
            victim = self.random.choice(busy)
            self.workers.remove(victim)
            victim.kill()
            await victim.wait()
            self.kills += 1
            self.in_flight.update(one.decode() for one, text in self._tokens().items() if self._mark(victim) in text)
            await self.start()

    def _tokens(self) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = self.admin.hgetall(self.key("token"))
        return found

    @staticmethod
    def _mark(worker: Process) -> bytes:
        return f":{worker.pid}:".encode()

    async def is_over(self) -> bool:
        """Return True if all jobs have finished."""
        counts = await self.scene.jobs.inspect.get_queue_counts()
        return self.all_added and counts.queued + counts.scheduled + counts.active == 0

    async def stop(self) -> None:
        """Kill all workers."""
        for worker in self.workers:
            if worker.returncode is None:
                worker.kill()
                await worker.wait()
        self.admin.close()


@pytest.mark.faults
async def test_a_storm_of_kills_loses_no_job_and_repeats_only_jobs_in_flight(tmp_path: Path) -> None:
    """All accepted jobs complete, only those of killed workers start twice, and the counts are exact."""
    with Server() as server:
        async with scene(tmp_path, server.url, "storm") as place:
            storm, began = Storm(place), time.monotonic()
            try:
                for _ in range(WORKERS):
                    await storm.start()
                producing = asyncio.create_task(_produce(storm))
                await storm.rage(began + SECONDS)
                ids = await producing
                async with asyncio.timeout(LONGEST):
                    while not await storm.is_over():  # noqa: ASYNC110 - other processes do it
                        await asyncio.sleep(0.1)
                took = time.monotonic() - began
                assert [await stopped(worker) for worker in storm.workers] == [0] * WORKERS
                _check(storm, ids)
            finally:
                await storm.stop()
            starts = Counter(record_id for _, record_id, _ in place.folder.runs())
            counts = await place.jobs.inspect.get_queue_counts()
            assert (counts.completed, counts.failed, counts.cancelled, counts.active) == (JOBS, 0, 0, 0)
            again = sum(one > 1 for one in starts.values())
            note_figures(f"storm: {JOBS} jobs in {took:.0f} s, {storm.kills} kills, {again} jobs started again")


async def _produce(storm: Storm) -> list[str]:
    """Enqueue the first half of the jobs at once and the rest during the storm, so that the workers stay busy."""
    ids: list[str] = []
    for first in range(0, JOBS, 500):
        ids += [receipt.id for receipt in await storm.scene.jobs.quick.enqueue_many(range(first, first + 500))]
        if first >= JOBS / 2:
            await asyncio.sleep(SECONDS / (JOBS / 1000))
    storm.all_added = True
    return ids


def _check(storm: Storm, ids: list[str]) -> None:
    completed = {one.decode() for one, _ in storm.admin.zscan_iter(storm.key("completed"), count=1000)}
    assert completed == set(ids)
    assert len(ids) == JOBS
    recoveries = {one.decode(): int(number) for one, number in storm.admin.hscan_iter(storm.key("recoveries"))}
    starts = Counter(record_id for _, record_id, _ in storm.scene.folder.runs())
    repeated = {record_id for record_id, number in starts.items() if number > 1}
    assert set(starts) == set(ids)
    assert repeated - storm.in_flight == set(), "a job was started twice, though no killed worker held it"
    assert all(starts[one] <= 1 + recoveries.get(one, 0) for one in repeated)
