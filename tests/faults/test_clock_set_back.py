"""A server whose clock is set back again and again while worker processes hold jobs."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.clocks import server_with_clock
from tests.faults.scene import scene, stopped
from tests.support.figures import note_figures

TIMES = int(os.environ.get("FLOWLI_CLOCK_TIMES", "20"))
HELD, LEASE = 10, "8s"
"""A lease is renewed every 2.7 s, and a waiting step lasts for 5 s, so a heartbeat often sees the new time first."""


@pytest.mark.faults
async def test_no_lease_ends_early_and_no_due_job_waits_while_the_clock_of_the_server_is_set_back(
    tmp_path: Path,
) -> None:
    """Three workers hold ten jobs each. Others become due just before and after the clock is set back."""
    rng = random.Random(15)  # noqa: S311 - no secret
    with server_with_clock(tmp_path) as (server, clock):
        async with scene(tmp_path, server.url, "clock") as place:
            workers = [await place.spawn("--concurrency", str(HELD + 2), "--lease", LEASE) for _ in range(3)]
            try:
                held = [(await place.jobs.slow.enqueue(number)).id for number in range(3 * HELD)]
                await place.started(len(held))
                others: list[str] = []
                for number in range(TIMES):
                    await asyncio.sleep(rng.uniform(1, 5))
                    others += [receipt.id for receipt in await place.jobs.quick.enqueue_many(range(10))]
                    clock.move(-rng.randint(1, 3600))
                    others.append((await place.jobs.quick.enqueue(number)).id)
                await place.started(len(held) + len(others))
                starts = Counter(record_id for _, record_id, _ in place.folder.runs())
                assert starts == dict.fromkeys(held + others, 1)
                for record_id in held:
                    assert (await place.job(record_id)).state == "active"
                place.folder.gate.touch()
                await place.until_finished()
            finally:
                codes = [await stopped(worker) for worker in workers]
            assert codes == [0, 0, 0]
            for record_id in held + others:
                record = await place.job(record_id)
                assert (record.state, record.recoveries, place.starts(record_id)) == ("completed", 0, 1)
    note_figures(
        f"clock set back {TIMES} times, by {-clock.added / 3600:.1f} h in all: {len(held)} running jobs, none "
        f"recovered; {len(others)} other jobs, each started once"
    )
