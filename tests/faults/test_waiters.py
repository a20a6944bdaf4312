"""A thousand callers of one process that wait for a thousand jobs, through the faults of a server."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.faults.scene import Scene, scene
from tests.redis.server import Server, connect, forget_scripts
from tests.support.figures import note_figures

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from flowli_core import Receipt

WAITERS = int(os.environ.get("FLOWLI_WAITERS", "1000"))
PATIENCE = 120
IDLE_SECONDS = 12


async def milliseconds_until_known(place: Scene, receipt: Receipt[int]) -> float:
    """Wait for a job, and return the time from its end in the store to its update here."""
    known = 0.0
    async with aclosing(place.jobs.quick.watch(receipt)) as updates:
        async for update in updates:
            known = 1000 * (time.time() - update.updated_at.timestamp())
            if update.is_finished:
                assert update.state == "completed"
    return known


@contextmanager
def monitored(server: Server) -> Generator[list[str]]:
    """Collect the commands that clients send, apart from those of scripts."""
    seen: list[str] = []
    admin = connect(server.url)
    with admin.monitor() as monitor:

        def listen() -> None:
            try:
                seen.extend(entry["command"] for entry in monitor.listen() if entry["client_type"] != "lua")
            except Exception:
                return

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield seen
    thread.join(5)
    admin.close()


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


@pytest.mark.faults
async def test_a_thousand_waiters_share_one_wait_and_survive_the_faults_of_the_server(tmp_path: Path) -> None:
    """Nobody polls while nothing happens, and nobody waits for ever after a crash or a flush of the scripts."""
    with Server("--appendonly", "yes", "--appendfsync", "always", "--dir", str(tmp_path)) as server:
        async with asyncio.timeout(PATIENCE), scene(tmp_path, server.url, "waiters") as place:
            receipts = [await place.jobs.quick.enqueue(number) for number in range(WAITERS)]
            waiters = [asyncio.create_task(milliseconds_until_known(place, one)) for one in receipts]
            await asyncio.sleep(2)
            with monitored(server) as commands:
                await asyncio.sleep(IDLE_SECONDS)
            blocking = [one for one in commands if one.startswith("BZPOPMIN")]
            async with place.worker(concurrency=50):
                delays = await asyncio.gather(*waiters)
            p50, p99 = percentile(delays, 0.5), percentile(delays, 0.99)
            note_figures(
                f"{WAITERS} waiters: {len(commands)} commands in {IDLE_SECONDS} s without changes, {len(blocking)} "
                f"of them waits; a change was known after {p50:.1f} ms (p50), {p99:.1f} ms (p99), "
                f"{max(delays):.1f} ms at most"
            )
            # A wait of 5 s, and after each one all records are read again, 250 in one call.
            assert len(commands) <= (IDLE_SECONDS / 5 + 1) * (2 + 2 * WAITERS / 250)
            assert len(blocking) <= IDLE_SECONDS / 5 + 1

            again = [await place.jobs.quick.delay("2s", number) for number in range(WAITERS)]
            waiters = [asyncio.create_task(milliseconds_until_known(place, one)) for one in again]
            await asyncio.sleep(1)
            async with place.worker(concurrency=50):
                await asyncio.sleep(1.2)
                forget_scripts(server.url)
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
                delays = await asyncio.gather(*waiters)
            note_figures(
                f"{WAITERS} waiters through kill -9 of the server and a flush of its scripts: none lost, "
                f"a change was known after {percentile(delays, 0.5):.1f} ms (p50), {max(delays):.1f} ms at most"
            )
