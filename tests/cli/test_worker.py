"""`flowli worker` as a process: what it says, and how it ends."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.processes import flowli

if TYPE_CHECKING:
    from tests.cli.app import ToldJobs

APP = "tests.cli.app:jobs"


async def test_it_says_what_it_runs_and_leaves_when_all_is_done(jobs: ToldJobs, tmp_path: Path) -> None:
    await jobs.count.enqueue(7)
    async with flowli(tmp_path, "worker", APP, "--burst") as worker:
        assert await worker.ends() == 0
    told = "".join(worker.lines)
    assert f"SqliteDriver('{tmp_path / 'jobs.sqlite3'}')" in told
    assert "count, tell, tell_in_thread, hold, block" in told
    assert (tmp_path / "log").read_text().startswith("7 ")


async def test_every_option_may_come_from_the_environment(jobs: ToldJobs, tmp_path: Path) -> None:
    await jobs.count.options(queue="mail").enqueue(1)
    environ = {
        "FLOWLI_APP": "app:make",
        "FLOWLI_APP_DIR": "tests/cli",
        "FLOWLI_FACTORY": "1",
        "FLOWLI_BURST": "1",
        "FLOWLI_QUEUES": "mail, default",
        "FLOWLI_CONCURRENCY": "3",
        "FLOWLI_LEASE": "5s",
        "FLOWLI_DRAIN": "1s",
        "FLOWLI_LOG_FORMAT": "json",
        "FLOWLI_LOG_LEVEL": "INFO",
    }
    async with flowli(tmp_path, "worker", **environ) as worker:
        assert await worker.ends() == 0
    lines = [json.loads(line) for line in worker.lines]
    up = next(line for line in lines if line["message"] == "the worker is up")
    assert up["queues"] == ["mail", "default"]
    done = next(line for line in lines if line.get("outcome") == "completed")
    assert (done["job_name"], done["queue"], done["attempt"]) == ("count", "mail", 1)
    assert done["duration_ms"] > 0


@pytest.mark.parametrize(("queue", "cure"), [("defualt", "did you mean default?"), ("xyz", "theirs are: default")])
async def test_a_queue_that_no_job_declares_is_warned_of_and_served(
    jobs: ToldJobs, tmp_path: Path, queue: str, cure: str
) -> None:
    await jobs.count.options(queue=queue).enqueue(7)
    async with flowli(tmp_path, "worker", APP, "--burst", "-q", f"{queue},default") as worker:
        assert await worker.ends() == 0
    (warning,) = [line for line in worker.lines if "declares" in line]
    assert f"no job of the registry declares the queue {queue}; {cure}" in warning
    assert (tmp_path / "log").read_text().startswith("7 ")


async def test_a_line_written_in_a_handler_carries_its_job(jobs: ToldJobs, tmp_path: Path) -> None:
    receipts = [await jobs.tell.enqueue(1), await jobs.tell_in_thread.enqueue(2)]
    async with flowli(tmp_path, "worker", APP, "--burst", "--log-format", "json") as worker:
        assert await worker.ends() == 0
    lines = [json.loads(line) for line in worker.lines]
    told = {line["job_id"]: line["job_name"] for line in lines if line["logger"] == "handlers"}
    assert told == {receipt.id: receipt.name for receipt in receipts}


async def test_what_a_handler_logs_can_neither_forge_a_line_nor_move_the_cursor(jobs: ToldJobs, tmp_path: Path) -> None:
    receipt = await jobs.tell.enqueue(1)
    async with flowli(tmp_path, "worker", APP, "--burst") as worker:
        assert await worker.ends() == 0
    line = next(line for line in worker.lines if "telling" in line)
    assert f"[tell {receipt.id}] telling \\x1b[31m1\\nforged" in line


async def test_a_signal_lets_what_runs_finish(jobs: ToldJobs, tmp_path: Path) -> None:
    receipt = await jobs.hold.enqueue()
    async with flowli(tmp_path, "worker", APP) as worker:
        await worker.says("holding")
        worker.term()
        await worker.says("stopping because of SIGTERM")
        (tmp_path / "gate").touch()
        assert await worker.ends() == 0
    record = await jobs.inspect.get_job(receipt.id)
    assert record is not None
    assert (record.state, record.result) == ("completed", "let go")


async def test_a_second_signal_gives_back_what_runs(jobs: ToldJobs, tmp_path: Path) -> None:
    receipt = await jobs.hold.enqueue()
    async with flowli(tmp_path, "worker", APP, "--drain", "10m") as worker:
        await worker.says("holding")
        worker.term()
        await worker.says("finishing what runs")
        worker.process.send_signal(signal.SIGINT)
        assert await worker.ends() == 143
    record = await jobs.inspect.get_job(receipt.id)
    assert record is not None
    assert (record.state, record.attempts_made, record.recoveries) == ("queued", 0, 0)


def has_pending_signals(pid: int) -> bool:
    """Whether a process has a signal that it has not taken yet, by what Linux tells of it."""
    status = Path(f"/proc/{pid}/status")
    try:
        lines = status.read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):  # it has ended, before this looked or while it did
        return False
    return any(int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd")))


@pytest.mark.skipif(not Path("/proc").exists(), reason="only Linux tells which signals are pending")
async def test_the_third_signal_is_obeyed_by_a_loop_that_is_blocked(jobs: ToldJobs, tmp_path: Path) -> None:
    await jobs.block.enqueue()
    async with flowli(tmp_path, "worker", APP, "--lease", "5m") as worker:
        await worker.says("blocking")
        for _ in range(3):
            worker.term()
            # Two that come together count as one, and a blocked loop says nothing: the system tells what is pending.
            while has_pending_signals(worker.process.pid):  # noqa: ASYNC110 - see above
                await asyncio.sleep(0)
        assert await worker.ends() == 128 + signal.SIGTERM


async def test_a_worker_whose_loop_is_dead_shows_its_stacks_and_leaves(jobs: ToldJobs, tmp_path: Path) -> None:
    receipt = await jobs.block.enqueue()
    async with flowli(tmp_path, "worker", APP, "--lease", "1s", "--stall-limit", "500ms") as worker:
        await worker.says("blocking")
        assert await worker.ends() == 70
    told = "".join(worker.lines)
    assert "the event loop is dead" in told
    assert "in block" in told
    record = await jobs.inspect.get_job(receipt.id)
    assert record is not None
    assert record.state == "active"  # until its lease ends, and another worker recovers it
