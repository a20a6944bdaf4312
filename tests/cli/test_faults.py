"""Several workers under one parent, and a storm of kill -9."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
from typing import TYPE_CHECKING

import pytest

from tests.cli.processes import flowli

if TYPE_CHECKING:
    from pathlib import Path

    from flowli_core import QueueCounts
    from tests.cli.app import ToldJobs

JOBS = 3_000
KILLS = 12


def _waiting(counts: QueueCounts) -> int:
    return counts.queued + counts.scheduled + counts.active


@pytest.mark.faults
async def test_a_storm_of_kills_loses_nothing(jobs: ToldJobs, tmp_path: Path) -> None:
    """Each killed worker is started again, each job is run, and the parent ends well."""
    await jobs.count.enqueue_many(range(JOBS))
    options = ("--workers", "4", "--concurrency", "2", "--lease", "1s")
    async with flowli(tmp_path, "worker", "tests.cli.app:jobs", *options) as parent:
        running: dict[str, int] = {}
        killed = 0
        while killed < KILLS:
            line = await parent.says("worker ")
            if started := re.search(r"worker (\d+) has been started, pid (\d+)", line):
                running[started[1]] = int(started[2])
            if up := re.search(r"worker (\d+) is up", line):
                victim = running.pop(random.choice([up[1], *running]), None)  # noqa: S311 - a storm
                if victim is not None:
                    os.kill(victim, signal.SIGKILL)
                    killed += 1
        async with asyncio.timeout(60):
            while _waiting(await jobs.inspect.get_queue_counts()):
                await parent.says("flowli")
        parent.term()
        assert await parent.ends() == 0
    numbers = {int(line.split()[0]) for line in (tmp_path / "log").read_text().splitlines()}
    assert numbers == set(range(JOBS))
