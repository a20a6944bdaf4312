"""Servers that end, come back, come back empty, or forget their scripts, under workers that go on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from flowli_core import FlowliError, Receipt, Runner
from flowli_core.drivers.redis import RedisDriver
from tests.faults.scene import Scene, scene, stopped
from tests.redis.server import Server, connect
from tests.support.running import Work, running, until

KEEPS = ("--appendonly", "yes", "--appendfsync", "everysec")


@pytest.mark.parametrize("end", [Server.terminate, Server.kill], ids=["SIGTERM", "kill -9"])
async def test_no_job_is_lost_when_the_server_restarts(tmp_path: Path, end: Callable[[Server], None]) -> None:
    """The same worker finishes all jobs accepted before and after the restart."""
    with Server(*KEEPS) as server:
        async with scene(tmp_path, server.url, "faults") as place:
            ids = [receipt.id for receipt in await place.jobs.slow.enqueue_many(range(20))]
            async with place.worker(concurrency=10) as process:
                await place.started(10)
                await asyncio.to_thread(end, server)
                place.folder.gate.touch()
                await asyncio.to_thread(server.start)
                ids.append((await _patiently(place)).id)
                counts = await place.until_finished()
                assert process.returncode is None
                assert await stopped(process) == 0
            assert (counts.completed, counts.failed) == (21, 0)
            await place.all_completed(ids)


async def test_a_worker_survives_a_server_that_restarts_empty(tmp_path: Path) -> None:
    """The stored jobs are lost, and the same worker runs new ones."""
    with Server() as server:
        async with scene(tmp_path, server.url, "faults") as place:
            lost = await place.jobs.slow.enqueue(1)
            async with place.worker() as process:
                await place.started(1)
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
                place.folder.gate.touch()
                fresh = await _patiently(place)
                counts = await place.until_finished()
                assert await stopped(process) == 0
            assert counts.completed == 1
            assert (await place.job(fresh.id)).state == "completed"
            assert await place.jobs.inspect.get_job(lost.id) is None


async def test_repeated_flushall_does_not_flood_the_log_of_a_worker(tmp_path: Path) -> None:
    with Server() as server:
        async with scene(tmp_path, server.url, "faults") as place, place.worker() as process:
            admin = connect(server.url)
            for number in range(5):
                receipt = await place.jobs.quick.enqueue(number)
                await until(lambda one=receipt.id: place.starts(one) == 1)  # type: ignore[misc]
                admin.flushall()
            receipt = await place.jobs.quick.enqueue(6)
            await place.until_finished()
            assert await stopped(process) == 0
            admin.close()
            assert (await place.job(receipt.id)).state == "completed"
            assert b"Traceback" not in (tmp_path / "stderr").read_bytes()


async def test_jobs_are_enqueued_and_run_while_the_scripts_are_flushed_every_10_ms(server: Server) -> None:
    driver = RedisDriver.from_url(server.url)
    await driver.open()
    work, admin, done = Work(driver), connect(server.url), threading.Event()

    flushes: list[bool] = []

    def flush() -> None:
        while not done.wait(0.01):
            flushes.append(admin.script_flush())

    flushing = asyncio.create_task(asyncio.to_thread(flush))
    try:
        async with running(Runner(work.jobs)):
            ids: list[str] = []
            while len(ids) < 40 or len(flushes) < 20:
                ids += await work.add(len(ids))
            for record_id in ids:
                await work.until(record_id, "completed")
        assert await driver.fsck() == ()
    finally:
        done.set()
        await flushing
        await driver.close()
        admin.close()


async def _patiently(place: Scene) -> Receipt:
    """Enqueue a job, trying again until the store accepts it. The id makes it one job."""
    job = place.jobs.quick.options(id="after")
    async with asyncio.timeout(30):
        while True:
            try:
                return await job.enqueue(1)
            except FlowliError:
                await asyncio.sleep(0.02)
