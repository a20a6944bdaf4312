"""`flowli worker --workers`: a parent that keeps several processes alive."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from typing import TYPE_CHECKING

from tests.cli.processes import flowli

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.app import ToldJobs
    from tests.cli.processes import Flowli

APP = "tests.cli.app:jobs"


async def pids(parent: Flowli, workers: int) -> dict[int, int]:
    """Wait until all are up; answer which process each is."""
    found: dict[int, int] = {}
    while len(found) < workers:
        line = await parent.says("has been started")
        number, pid = re.findall(r"worker (\d+) has been started, pid (\d+)", line)[0]
        found[int(number)] = int(pid)
    return found


async def test_a_killed_worker_is_started_again_and_nothing_is_lost(jobs: ToldJobs, tmp_path: Path) -> None:
    async with flowli(tmp_path, "worker", APP, "--workers", "2", "--lease", "1s", "--log-level", "info") as parent:
        running = await pids(parent, 2)
        receipts = await jobs.count.enqueue_many(range(200))
        await parent.says("completed")
        os.kill(running[1], signal.SIGKILL)
        await parent.says("worker 1 was ended by SIGKILL")
        await parent.says("worker 1 has been started")
        await parent.says("worker 1 is up")
        while (await jobs.inspect.get_queue_counts()).completed < len(receipts):
            await parent.says("completed")
        parent.term()
        assert await parent.ends() == 0
    numbers = {int(line.split()[0]) for line in (tmp_path / "log").read_text().splitlines()}
    assert numbers == set(range(200))


async def test_a_signal_to_the_parent_drains_all_workers(jobs: ToldJobs, tmp_path: Path) -> None:
    receipts = [await jobs.hold.enqueue(), await jobs.hold.enqueue()]
    async with flowli(tmp_path, "worker", APP, "--workers", "2", "--concurrency", "1") as parent:
        for _ in receipts:
            await parent.says("holding")
        parent.term()
        for _ in receipts:
            await parent.says("stopping because of SIGTERM")
        (tmp_path / "gate").touch()
        assert await parent.ends() == 0
    records = [await jobs.inspect.get_job(receipt.id) for receipt in receipts]
    assert [record and record.state for record in records] == ["completed", "completed"]


async def test_a_worker_that_dies_before_it_hears_the_stop_is_no_failure_of_it(tmp_path: Path) -> None:
    async with flowli(tmp_path, "worker", APP, "--workers", "2") as parent:
        running = await pids(parent, 2)
        await parent.says("worker 1 is up")
        os.kill(running[1], signal.SIGSTOP)  # as one that is dying already: the stop no longer reaches it
        parent.term()
        await parent.says("passing it on")
        os.kill(running[1], signal.SIGKILL)
        assert await parent.ends() == 0
    assert any("worker 1 was ended by SIGKILL before it heard the stop" in line for line in parent.lines)


async def test_a_worker_that_is_killed_while_it_drains_is_one(jobs: ToldJobs, tmp_path: Path) -> None:
    async with flowli(tmp_path, "worker", APP, "--workers", "2") as parent:
        running = await pids(parent, 2)
        await parent.says("worker 1 is up")
        await jobs.hold.enqueue()
        await parent.says("holding")
        parent.term()
        for _ in running:
            await parent.says("stopping because of SIGTERM")
        for pid in running.values():
            with contextlib.suppress(ProcessLookupError):  # the one that has nothing to do may have left
                os.kill(pid, signal.SIGKILL)
        assert await parent.ends() == 128 + signal.SIGKILL


async def test_workers_drain_when_their_parent_is_killed(jobs: ToldJobs, tmp_path: Path) -> None:
    receipt = await jobs.hold.enqueue()
    async with flowli(tmp_path, "worker", APP, "--workers", "2") as parent:
        await parent.says("holding")
        parent.process.kill()
        await parent.says("stopping because of the end of the parent")
        (tmp_path / "gate").touch()
        await parent.ends()  # reads until the last worker has closed its stderr
    record = await jobs.inspect.get_job(receipt.id)
    assert record is not None
    assert record.state == "completed"


async def test_where_the_first_cannot_start_the_parent_ends_with_its_complaint(tmp_path: Path) -> None:
    async with flowli(tmp_path, "worker", "tests.cli.app:jbos", "--workers", "3") as parent:
        assert await parent.ends() == 2
    complaints = [line for line in parent.lines if "did you mean tests.cli.app:jobs?" in line]
    assert len(complaints) == 1


async def test_several_workers_may_run_what_is_due_and_leave(jobs: ToldJobs, tmp_path: Path) -> None:
    await jobs.count.enqueue_many(range(20))
    async with flowli(tmp_path, "worker", APP, "-w", "2", "-b") as parent:
        assert await parent.ends() == 0
    assert (await jobs.inspect.get_queue_counts()).completed == 20


async def test_a_changed_file_starts_the_worker_again(tmp_path: Path) -> None:
    code = tmp_path / "reloaded.py"
    text = (
        "from flowli_core import Jobs\n"
        "from flowli_core.drivers.memory import MemoryDriver\n"
        "class Some(Jobs[None]): pass\n"
        "jobs = Some(context=None, driver=MemoryDriver())\n"
    )
    code.write_text(text)
    async with flowli(tmp_path, "worker", "reloaded:jobs", "--app-dir", str(tmp_path), "--reload") as parent:
        await parent.says("MemoryDriver()")
        await _until_watched(parent, code, text)
        await parent.says("MemoryDriver()")
        code.write_text("nonsense(\n")
        await parent.says("waiting for a change")
        code.write_text(text)
        await parent.says("MemoryDriver()")
        parent.term()
        assert await parent.ends() == 0


async def _until_watched(parent: Flowli, code: Path, text: str) -> None:
    """Change the file until that is noticed: nothing says when the watching has begun."""

    async def change() -> None:
        number = 0
        while True:
            number += 1
            code.write_text(f"{text}# {number}\n")  # noqa: ASYNC240 - short
            await asyncio.sleep(0.5)

    changing = asyncio.create_task(change())
    await parent.says("the code has changed")
    changing.cancel()
