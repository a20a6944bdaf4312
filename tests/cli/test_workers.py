"""`flowli worker --workers`: a parent that restarts its workers."""

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

    from tests.cli.app import WorkerJobs
    from tests.cli.processes import Flowli

APP = "tests.cli.app:jobs"


async def pids(parent: Flowli, workers: int) -> dict[int, int]:
    """Wait until all workers have started, and return their process ids."""
    found: dict[int, int] = {}
    while len(found) < workers:
        line = await parent.wait_for(" started, pid")
        number, pid = re.findall(r"worker (\d+) started, pid (\d+)", line)[0]
        found[int(number)] = int(pid)
    return found


async def test_a_killed_worker_is_restarted_and_no_job_is_lost(jobs: WorkerJobs, tmp_path: Path) -> None:
    async with flowli(tmp_path, "worker", APP, "--workers", "2", "--lease", "1s", "--log-level", "info") as parent:
        running = await pids(parent, 2)
        receipts = await jobs.count.enqueue_many(range(200))
        await parent.wait_for("completed")
        os.kill(running[1], signal.SIGKILL)
        await parent.wait_for("worker 1 was killed by SIGKILL")
        await parent.wait_for("worker 1 started")
        await parent.wait_for("worker 1 is up")
        while (await jobs.inspect.get_queue_counts()).completed < len(receipts):
            await parent.wait_for("completed")
        parent.send_sigterm()
        assert await parent.wait_for_exit() == 0
    numbers = {int(line.split()[0]) for line in (tmp_path / "log").read_text().splitlines()}
    assert numbers == set(range(200))


async def test_a_signal_to_the_parent_drains_all_workers(jobs: WorkerJobs, tmp_path: Path) -> None:
    receipts = [await jobs.hold.enqueue(), await jobs.hold.enqueue()]
    async with flowli(tmp_path, "worker", APP, "--workers", "2", "--concurrency", "1") as parent:
        for _ in receipts:
            await parent.wait_for("holding")
        parent.send_sigterm()
        for _ in receipts:
            await parent.wait_for("received SIGTERM: stopping")
        (tmp_path / "gate").touch()
        assert await parent.wait_for_exit() == 0
    records = [await jobs.inspect.get_job(receipt.id) for receipt in receipts]
    assert [record and record.state for record in records] == ["completed", "completed"]


async def test_a_worker_that_dies_before_it_receives_the_stop_does_not_fail_the_stop(tmp_path: Path) -> None:
    async with flowli(tmp_path, "worker", APP, "--workers", "2") as parent:
        running = await pids(parent, 2)
        await parent.wait_for("worker 1 is up")
        os.kill(running[1], signal.SIGSTOP)  # like a worker that is dying already: the stop signal does not reach it
        parent.send_sigterm()
        await parent.wait_for("received SIGTERM: sending SIGTERM to 2 workers")
        os.kill(running[1], signal.SIGKILL)
        assert await parent.wait_for_exit() == 0
    assert any("worker 1 was killed by SIGKILL before it received the stop signal" in line for line in parent.lines)


async def test_a_worker_that_is_killed_while_it_drains_fails_the_stop(jobs: WorkerJobs, tmp_path: Path) -> None:
    async with flowli(tmp_path, "worker", APP, "--workers", "2") as parent:
        running = await pids(parent, 2)
        await parent.wait_for("worker 1 is up")
        await jobs.hold.enqueue()
        await parent.wait_for("holding")
        parent.send_sigterm()
        for _ in running:
            await parent.wait_for("received SIGTERM: stopping")
        for pid in running.values():
            with contextlib.suppress(ProcessLookupError):  # the idle worker may have exited
                os.kill(pid, signal.SIGKILL)
        assert await parent.wait_for_exit() == 128 + signal.SIGKILL


async def test_workers_drain_when_their_parent_is_killed(jobs: WorkerJobs, tmp_path: Path) -> None:
    receipt = await jobs.hold.enqueue()
    async with flowli(tmp_path, "worker", APP, "--workers", "2") as parent:
        await parent.wait_for("holding")
        parent.process.kill()
        await parent.wait_for("the parent process has ended: stopping")
        (tmp_path / "gate").touch()
        await parent.wait_for_exit()  # reads until the last worker has closed its stderr
    record = await jobs.inspect.get_job(receipt.id)
    assert record is not None
    assert record.state == "completed"


async def test_if_the_first_worker_cannot_start_the_parent_exits_with_its_message(tmp_path: Path) -> None:
    async with flowli(tmp_path, "worker", "tests.cli.app:jbos", "--workers", "3") as parent:
        assert await parent.wait_for_exit() == 2
    messages = [line for line in parent.lines if "did you mean tests.cli.app:jobs?" in line]
    assert len(messages) == 1


async def test_a_child_process_of_a_handler_reads_the_end_of_its_stdin(jobs: WorkerJobs, tmp_path: Path) -> None:
    """The pipe to the parent of several workers, which never ends, is not their stdin."""
    receipt = await jobs.read_stdin.enqueue()
    async with flowli(tmp_path, "worker", APP, "-w", "2", "-b") as parent:
        assert await parent.wait_for_exit() == 0
    record = await jobs.inspect.get_job(receipt.id)
    assert record is not None
    assert (record.state, record.result) == ("completed", "read 0 bytes")


async def test_several_workers_run_a_burst(jobs: WorkerJobs, tmp_path: Path) -> None:
    await jobs.count.enqueue_many(range(20))
    async with flowli(tmp_path, "worker", APP, "-w", "2", "-b") as parent:
        assert await parent.wait_for_exit() == 0
    assert (await jobs.inspect.get_queue_counts()).completed == 20


async def test_a_changed_file_restarts_the_worker(tmp_path: Path) -> None:
    code = tmp_path / "reloaded.py"
    text = (
        "from flowli_core import Jobs\n"
        "from flowli_core.drivers.memory import MemoryDriver\n"
        "class Some(Jobs[None]): pass\n"
        "jobs = Some(context=None, driver=MemoryDriver())\n"
    )
    code.write_text(text)
    async with flowli(tmp_path, "worker", "reloaded:jobs", "--app-dir", str(tmp_path), "--reload") as parent:
        await parent.wait_for("MemoryDriver()")
        await _until_watched(parent, code, text)
        await parent.wait_for("MemoryDriver()")
        code.write_text("nonsense(\n")
        await parent.wait_for("waiting for a change of the code")
        code.write_text(text)
        await parent.wait_for("MemoryDriver()")
        parent.send_sigterm()
        assert await parent.wait_for_exit() == 0


async def _until_watched(parent: Flowli, code: Path, text: str) -> None:
    """Change the file until the parent notices: nothing reports when it begins to watch."""

    async def change() -> None:
        number = 0
        while True:
            number += 1
            code.write_text(f"{text}# {number}\n")  # noqa: ASYNC240 - short
            await asyncio.sleep(0.5)

    changing = asyncio.create_task(change())
    await parent.wait_for("the code has changed")
    changing.cancel()
