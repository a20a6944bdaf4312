"""A soak test: load, killed workers, server restarts and cut connections, for FLOWLI_SOAK_SECONDS."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from asyncio.subprocess import Process
from pathlib import Path
from random import Random
from typing import Any

import pytest

from flowli_core import FlowliError
from tests.faults.scene import Scene, scene, stopped
from tests.redis.server import Server, connect
from tests.support.figures import note_figures

SECONDS = float(os.environ.get("FLOWLI_SOAK_SECONDS", "600"))
KEEPS = ("--appendonly", "yes")
WORKERS = 3
WARM = 0.25
"""The part of the run after which the server's memory must no longer grow."""


class Soak:
    """Three workers under load, and the faults injected so far."""

    def __init__(self, place: Scene, server: Server) -> None:
        self.scene = place
        self.server = server
        self.random = Random(time.time_ns())  # noqa: S311 - no secret
        self.workers: list[Process] = []
        self.accepted: list[str] = []
        self.levels: list[int] = []
        self.happened = {"kill": 0, "restart": 0, "cut": 0}

    async def load(self, until: float) -> None:
        """Enqueue 50 jobs at a time. Jobs that the store refuses do not count as accepted."""
        while time.monotonic() < until:
            try:
                receipts = await self.scene.jobs.quick.enqueue_many(range(50))
                self.accepted += [receipt.id for receipt in receipts]
            except FlowliError:
                pass
            await asyncio.sleep(0.2)

    async def harm(self, until: float) -> None:
        """Inject a fault every other second."""
        while time.monotonic() < until:
            await asyncio.sleep(2)
            what = self.random.choice(["kill"] * 4 + ["cut"] * 4 + ["restart"])
            self.happened[what] += 1
            if what == "kill":
                victim = self.workers.pop(self.random.randrange(WORKERS))
                victim.kill()
                await victim.wait()
                await self.start()
            elif what == "restart":
                await asyncio.to_thread(self.random.choice([self.server.kill, self.server.terminate]))
                await asyncio.to_thread(self.server.start)
            else:
                self._admin("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            self.levels.append(int(self._admin("INFO", "memory")["used_memory"]))

    async def start(self) -> None:
        """Start a worker."""
        self.workers.append(await self.scene.spawn("--concurrency", "20", "--lease", "3s", FLOWLI_KEEP="500"))

    async def has_finished(self) -> bool:
        """Return True if all jobs have finished."""
        counts = await self.scene.jobs.inspect.get_queue_counts()
        return counts.queued + counts.scheduled + counts.active == 0

    def _admin(self, *words: str) -> Any:
        client = connect(self.server.url)
        try:
            return client.execute_command(*words)
        finally:
            client.close()


@pytest.mark.soak
async def test_no_job_is_lost_during_a_long_run_of_faults(tmp_path: Path) -> None:
    """Every accepted job was started, none is left, memory does not grow, and the audit finds nothing."""
    with Server(*KEEPS) as server:
        async with scene(tmp_path, server.url, "soak") as place:
            soak, began = Soak(place, server), time.monotonic()
            try:
                for _ in range(WORKERS):
                    await soak.start()
                await asyncio.gather(soak.load(began + SECONDS), soak.harm(began + SECONDS))
                async with asyncio.timeout(300):
                    while not await soak.has_finished():  # noqa: ASYNC110 - other processes do it
                        await asyncio.sleep(0.2)
                assert [await stopped(worker, signal.SIGTERM) for worker in soak.workers] == [0] * WORKERS
            finally:
                for worker in soak.workers:
                    if worker.returncode is None:
                        worker.kill()
                        await worker.wait()
            started = {record_id for _, record_id, _ in place.folder.runs()}
            assert set(soak.accepted) - started == set()
            counts = await place.jobs.inspect.get_queue_counts()
            assert (counts.active, counts.failed, counts.cancelled) == (0, 0, 0)
            warm = soak.levels[int(len(soak.levels) * WARM) :]
            summary = f"{len(soak.accepted)} jobs in {SECONDS:.0f} s, {soak.happened}, bytes {warm[:1]} .. {warm[-1:]}"
            note_figures(f"soak: {summary}")
            assert max(warm[len(warm) // 2 :]) < 1.5 * max(warm[: len(warm) // 2 + 1])
