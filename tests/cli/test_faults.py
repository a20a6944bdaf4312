"""Several workers under one parent, killed again and again with SIGKILL."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
from typing import TYPE_CHECKING

import pytest

from tests.cli.processes import flowli
from tests.support.figures import note_figures

if TYPE_CHECKING:
    from pathlib import Path

    from flowli_core import QueueCounts
    from tests.cli.app import WorkerJobs

JOBS = 3_000
KILLS = 12


def _unfinished(counts: QueueCounts) -> int:
    return counts.queued + counts.scheduled + counts.active


@pytest.mark.faults
async def test_workers_that_are_killed_again_and_again_lose_no_job(jobs: WorkerJobs, tmp_path: Path) -> None:
    """Each killed worker is restarted, each job runs, and the parent exits with 0."""
    await jobs.count.enqueue_many(range(JOBS))
    options = ("--workers", "4", "--concurrency", "2", "--lease", "1s")
    async with flowli(tmp_path, "worker", "tests.cli.app:jobs", *options) as parent:
        running: dict[str, int] = {}
        killed = 0
        while killed < KILLS:
            line = await parent.wait_for("worker ")
            if started := re.search(r"worker (\d+) started, pid (\d+)", line):
                running[started[1]] = int(started[2])
            if up := re.search(r"worker (\d+) is up", line):
                victim = running.pop(random.choice([up[1], *running]), None)  # noqa: S311 - not for security
                if victim is not None:
                    os.kill(victim, signal.SIGKILL)
                    killed += 1
        async with asyncio.timeout(60):
            while _unfinished(await jobs.inspect.get_queue_counts()):
                await parent.wait_for("flowli")
        parent.send_sigterm()
        assert await parent.wait_for_exit() == 0
    numbers = {int(line.split()[0]) for line in (tmp_path / "log").read_text().splitlines()}
    assert numbers == set(range(JOBS))
    note_figures(f"flowli worker --workers 4: {KILLS} workers killed, each restarted; {JOBS} jobs, none lost")
