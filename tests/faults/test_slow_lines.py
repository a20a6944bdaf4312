"""Worker processes behind a slow line: no lease is lost, and no job runs twice."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.scene import scene, stopped
from tests.redis.proxy import Proxy
from tests.redis.server import Server
from tests.support.figures import note_figures

JOBS = 10


@pytest.mark.faults
@pytest.mark.parametrize(
    ("round_trip", "lease"), [(0.3, 3.0), (0.1, 1.0), (0.2, 3.0)], ids=["300 ms, 3 s", "100 ms, 1 s", "200 ms, 3 s"]
)
async def test_jobs_longer_than_the_lease_run_once_on_a_slow_line(
    tmp_path: Path, server: Server, round_trip: float, lease: float
) -> None:
    """A worker nearby would recover a job whose lease has expired."""
    async with scene(tmp_path, server.url, "slow") as place, Proxy(server.socket, tmp_path) as proxy:
        proxy.delay = round_trip / 2
        ids = [receipt.id for receipt in await place.jobs.rest.enqueue_many([int(1500 * lease)] * JOBS)]
        length = f"{lease:.0f}s"
        async with (
            place.worker(queues="elsewhere", lease=length) as near,
            place.worker(concurrency=JOBS, lease=length, url=proxy.url) as far,
        ):
            await place.started(JOBS)
            began = time.monotonic()
            await place.until_finished()
            took = time.monotonic() - began
            assert (await stopped(far), await stopped(near)) == (0, 0)
        for record_id in ids:
            record = await place.job(record_id)
            assert (record.state, record.attempts_made, record.recoveries) == ("completed", 1, 0)
            assert place.starts(record_id) == 1
    note_figures(
        f"round trip {round_trip} s, lease {lease:.0f} s: {JOBS} of {JOBS} jobs of {1.5 * lease} s completed "
        f"in {took:.1f} s, none started twice"
    )
