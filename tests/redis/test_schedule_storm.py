"""Schedules with many runners, some of which are killed."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flowli_core import Runner
from flowli_core._schedules.spec import tick_id
from flowli_core.drivers.redis import RedisDriver
from tests.redis.ticking import Ticking
from tests.sqlite.processes import Peer
from tests.support.figures import note_figures
from tests.support.running import soon
from tests.support.store import find_schedule, put

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.redis.server import Server

_ROOT = Path(__file__).parents[2]
SECONDS = float(os.environ.get("FLOWLI_STORM_SECONDS", "60"))
RUNNERS = 20


@asynccontextmanager
async def program(*arguments: str) -> AsyncGenerator[Peer]:
    """Start a process of `ticking`; at the end it is killed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.redis.ticking", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
    )
    try:
        yield Peer(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def records_by_tick(jobs: Ticking) -> dict[str, list[str]]:
    """Return the job names of the records by id; the id of a tick's record names schedule and tick."""
    found: dict[str, list[str]] = {}
    for state in ("queued", "scheduled", "active", "completed", "failed", "cancelled"):
        cursor = None
        while True:
            page = await jobs.inspect.find(state, limit=1000, cursor=cursor)
            for record in page.items:
                found.setdefault(record.id, []).append(record.name)
            cursor = page.cursor
            if cursor is None:
                break
    return found


@pytest.mark.faults
async def test_each_tick_has_one_record_while_runners_are_killed(server: Server) -> None:
    """20 runners, ticks each second and each minute, a kill each second: no tick is missed, none fires twice."""
    rng = random.Random(7)  # noqa: S311
    jobs = Ticking(context=None, driver=RedisDriver.from_url(server.url, prefix="storm"))
    kills = 0
    async with jobs, AsyncExitStack() as stack:
        peers: list[Peer] = []
        for _ in range(RUNNERS):  # one at a time: together they would take longer than a peer may take to answer
            peers.append(await stack.enter_async_context(program("run", server.url, "storm")))
            assert await peers[-1].line() == "ready"
        begun = time.monotonic()
        while time.monotonic() - begun < SECONDS:
            victim = rng.randrange(RUNNERS)
            await peers[victim].kill()
            kills += 1
            peers[victim] = await stack.enter_async_context(program("run", server.url, "storm"))
            await asyncio.sleep(rng.uniform(0.3, 1.5))
        for peer in peers:
            await peer.kill()
        await soon(Runner(jobs).run_once())  # the jobs that the last ones had in flight
        found = await records_by_tick(jobs)
        for key, step in (("second", timedelta(seconds=1)), ("minute", timedelta(minutes=1))):
            schedule = await jobs.inspect.get_schedule(key)
            assert schedule is not None
            assert schedule.last_tick is not None
            ticks = sorted(record_id for record_id in found if record_id.startswith(f"{key}@"))
            assert all(len(found[record_id]) == 1 for record_id in ticks)
            expected = [schedule.last_tick - index * step for index in range(len(ticks))]
            assert set(ticks) == {tick_id(key, tick) for tick in expected}
            if key == "second":
                assert len(ticks) >= SECONDS
        note_figures(f"{kills} kills, {len(found)} ticks, each with one record")
        assert await jobs.inspect.find("failed") == await jobs.inspect.find("cancelled")


async def test_a_deploy_while_a_tick_is_due_fires_it_exactly_once(server: Server) -> None:
    """Five processes store a schedule at once while its tick is due: first the same rule, then another."""
    driver = RedisDriver.from_url(server.url, prefix="deploy")
    async with Ticking(context=None, driver=driver) as jobs, AsyncExitStack() as stack:
        same, other = "0 0 * * *", "0 1 * * *"  # so that hardly ever a tick comes due during the test
        await jobs.minute.schedule("deployed", cron=same)
        stored = await find_schedule(driver, "deployed")
        assert stored is not None
        due = (stored.next_tick or datetime.now(UTC)) - timedelta(days=1)
        assert await put(driver, replace(stored, next_tick=due))
        peers = [
            await stack.enter_async_context(program("upsert", server.url, "deploy", same, other)) for _ in range(5)
        ]
        for peer in peers:
            assert await peer.line() == "ready"
        await asyncio.gather(*[peer.send() for peer in peers])
        assert [await peer.line() for peer in peers] == ["unchanged"] * 5
        unchanged = await jobs.inspect.get_schedule("deployed")
        assert unchanged is not None
        assert unchanged.next_tick == due
        await asyncio.gather(*[peer.send() for peer in peers])
        assert sorted([await peer.line() for peer in peers]) == ["unchanged"] * 4 + ["updated"]
        changed = await jobs.inspect.get_schedule("deployed")
        assert changed is not None
        assert (changed.cron, changed.last_tick) == (other, due)
        assert [*await records_by_tick(jobs)] == [tick_id("deployed", due)]
