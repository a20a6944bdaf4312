"""The first use of a registry by several event loops at once: in threads, and in servers under a burst of requests."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Literal

import httpx2
import pytest

from flowli_core import Receipt
from flowli_core.driver import Driver
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.drivers.redis import RedisDriver
from flowli_core.drivers.sqlite import SqliteDriver
from tests.adapters.servers import PATIENCE, serving
from tests.faults.app import FaultJobs
from tests.redis.server import Server, fresh_prefix, shared_url
from tests.running.workers_app import Folder
from tests.support.figures import note_figures
from tests.support.running import soon
from tests.support.threads import THREADS, in_threads

pytestmark = pytest.mark.faults

ROUNDS = int(os.environ.get("FLOWLI_FIRST_USES", "100"))
CALLS = 50
SERVERS, REQUESTS = 5, 40


def make_driver(kind: str, path: Path) -> Driver:
    if kind == "memory":
        return MemoryDriver()
    if kind == "sqlite":
        return SqliteDriver(path)
    return RedisDriver.from_url(shared_url(), prefix=fresh_prefix())


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis"])
def test_the_first_calls_of_eight_threads_succeed_in_each_of_many_registries(tmp_path: Path, kind: str) -> None:
    """None fails, and none hangs. Afterwards the threads enqueue as fast as they can."""
    rate = 0.0
    for number in range(ROUNDS):
        jobs = FaultJobs(context=Folder(tmp_path), driver=make_driver(kind, tmp_path / f"{number}.db"))
        receipts = in_threads(lambda jobs=jobs: jobs.quick.enqueue(1))  # type: ignore[misc]
        assert [type(receipt) for receipt in receipts] == [Receipt] * THREADS
        if number == 0:

            async def enqueue_many_times(jobs: FaultJobs = jobs) -> None:
                for call in range(CALLS):
                    await jobs.quick.enqueue(call)

            began = time.monotonic()
            assert in_threads(enqueue_many_times) == [None] * THREADS
            rate = THREADS * CALLS / (time.monotonic() - began)
        counts = asyncio.run(soon(jobs.inspect.get_overview())).counts
        assert counts.queued == THREADS * (1 + CALLS if number == 0 else 1)
        asyncio.run(soon(jobs.aclose()))
    note_figures(f"{kind}: {ROUNDS} registries, {THREADS} threads: no first call failed, then {rate:.0f} calls/s")


def test_eight_threads_share_a_context_that_the_first_of_them_makes_in_each_of_many_registries(tmp_path: Path) -> None:
    for _ in range(ROUNDS):
        made: list[Folder] = []

        async def make(made: list[Folder] = made) -> Folder:
            await asyncio.sleep(0)
            made.append(Folder(tmp_path))
            return made[-1]

        jobs = FaultJobs(context=make)
        assert in_threads(lambda jobs=jobs: jobs.quick.run(1)) == [1] * THREADS  # type: ignore[misc]
        assert len(made) == 1
        asyncio.run(soon(jobs.aclose()))
    note_figures(f"context: {ROUNDS} registries, {THREADS} threads: each context was made once")


@pytest.mark.parametrize("store", ["sqlite", "redis"])
@pytest.mark.parametrize("route", ["opened-elsewhere", "opened-here"])
async def test_plain_routes_accept_a_burst_of_first_requests(
    tmp_path: Path, server: Server, store: str, route: Literal["opened-elsewhere", "opened-here"]
) -> None:
    """A plain route runs in a thread, each with an event loop of its own. 40 requests come at once to a new server."""
    longest = 0.0
    for number in range(SERVERS):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "go").touch()
        url = server.url if store == "redis" else None
        limits = httpx2.Limits(max_connections=REQUESTS)
        async with (
            serving("uvicorn", "fastapi", folder, redis=url) as service,
            httpx2.AsyncClient(
                base_url=service.client.base_url, timeout=PATIENCE, limits=limits, trust_env=False
            ) as client,
        ):
            began = time.monotonic()
            async with asyncio.TaskGroup() as tasks:
                sent = [
                    tasks.create_task(client.post(f"/{route}/{number * REQUESTS + one}")) for one in range(REQUESTS)
                ]
            longest = max(longest, time.monotonic() - began)
            assert [one.result().status_code for one in sent] == [200] * REQUESTS
            await service.stop()
    note_figures(f"{store}, {route}: {SERVERS} servers, {REQUESTS} requests at once: accepted within {longest:.1f} s")
