"""`flowli worker` in a process of its own: its banner, its log lines, and how it ends."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from flowli_core.drivers.sqlite import SqliteDriver
from tests.cli.app import WorkerJobs
from tests.cli.processes import flowli

APP = "tests.cli.app:jobs"


async def test_burst_prints_a_banner_runs_the_due_jobs_and_exits(jobs: WorkerJobs, tmp_path: Path) -> None:
    await jobs.count.enqueue(7)
    async with flowli(tmp_path, "worker", APP, "--burst") as worker:
        assert await worker.wait_for_exit() == 0
    text = "".join(worker.lines)
    assert f"SqliteDriver('{tmp_path / 'jobs.sqlite3'}')" in text
    assert "count, log_control_characters, log_in_thread, hold, read_stdin, " in text
    assert (tmp_path / "log").read_text().startswith("7 ")


async def test_every_option_can_be_set_by_an_environment_variable(jobs: WorkerJobs, tmp_path: Path) -> None:
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
        assert await worker.wait_for_exit() == 0
    lines = [json.loads(line) for line in worker.lines]
    up = next(line for line in lines if line["message"] == "the worker is up")
    assert up["queues"] == ["mail", "default"]
    done = next(line for line in lines if line.get("outcome") == "completed")
    assert (done["job_name"], done["queue"], done["attempt"]) == ("count", "mail", 1)
    assert done["duration_ms"] > 0


@pytest.mark.parametrize(
    ("queue", "cure"),
    [("defualt", "did you mean default?"), ("xyz", "the declared queues are: default, mail, unserved")],
)
async def test_a_queue_that_the_registry_does_not_declare_is_served_with_a_warning(
    tmp_path: Path, queue: str, cure: str
) -> None:
    class OtherJobs(WorkerJobs):
        queues = ("defualt", "xyz")

    async with OtherJobs(context=tmp_path, driver=SqliteDriver(tmp_path / "jobs.sqlite3")) as other:
        await other.count.options(queue=queue).enqueue(7)
    async with flowli(tmp_path, "worker", APP, "--burst", "-q", f"{queue},default") as worker:
        assert await worker.wait_for_exit() == 0
    (warning,) = [line for line in worker.lines if "declares" in line]
    assert f"the registry declares no queue {queue}; {cure}" in warning
    assert (tmp_path / "log").read_text().startswith("7 ")


async def test_a_log_line_of_a_handler_names_its_job(jobs: WorkerJobs, tmp_path: Path) -> None:
    receipts = [await jobs.log_control_characters.enqueue(1), await jobs.log_in_thread.enqueue(2)]
    async with flowli(tmp_path, "worker", APP, "--burst", "--log-format", "json") as worker:
        assert await worker.wait_for_exit() == 0
    lines = [json.loads(line) for line in worker.lines]
    names = {line["job_id"]: line["job_name"] for line in lines if line["logger"] == "handlers"}
    assert names == {receipt.id: receipt.name for receipt in receipts}


async def test_control_characters_in_a_log_line_are_escaped(jobs: WorkerJobs, tmp_path: Path) -> None:
    receipt = await jobs.log_control_characters.enqueue(1)
    async with flowli(tmp_path, "worker", APP, "--burst") as worker:
        assert await worker.wait_for_exit() == 0
    line = next(line for line in worker.lines if "logging" in line)
    assert f"[log_control_characters {receipt.id}] logging \\x1b[31m1\\nforged" in line


async def test_an_application_that_configures_the_log_does_not_silence_the_worker(
    jobs: WorkerJobs, tmp_path: Path
) -> None:
    await jobs.take_over_log.enqueue()
    async with flowli(tmp_path, "worker", APP, "--burst") as worker:
        assert await worker.wait_for_exit() == 0
    assert any("failed for good" in line for line in worker.lines)
    assert any("the worker has stopped" in line for line in worker.lines)


async def test_an_application_that_configures_the_log_when_it_is_imported_does_not_silence_the_worker(
    jobs: WorkerJobs, tmp_path: Path
) -> None:
    await jobs.fail.enqueue()
    (tmp_path / "configured.py").write_text(CONFIGURED)
    async with flowli(tmp_path, "worker", "configured:jobs", "--app-dir", str(tmp_path), "--burst") as worker:
        assert await worker.wait_for_exit() == 0
    assert any("failed for good" in line for line in worker.lines)


CONFIGURED = """
from logging.config import dictConfig
from tests.cli.app import jobs

handlers = {"stderr": {"class": "logging.StreamHandler"}}
dictConfig({"version": 1, "handlers": handlers, "root": {"handlers": ["stderr"], "level": "INFO"}})
"""


async def test_a_signal_to_a_forked_child_process_ends_it_and_not_the_worker(jobs: WorkerJobs, tmp_path: Path) -> None:
    receipt = await jobs.end_child.enqueue()
    async with flowli(tmp_path, "worker", APP, "--burst") as worker:
        assert await worker.wait_for_exit() == 0
    record = await jobs.inspect.get_job(receipt.id)
    assert record is not None
    assert record.result == signal.SIGTERM


async def test_running_jobs_finish_after_a_signal(jobs: WorkerJobs, tmp_path: Path) -> None:
    receipt = await jobs.hold.enqueue()
    async with flowli(tmp_path, "worker", APP) as worker:
        await worker.wait_for("holding")
        worker.send_sigterm()
        line = await worker.wait_for("received SIGTERM: stopping")
        assert "1 running jobs may continue for 10s, a second signal returns them to the queue" in line
        (tmp_path / "gate").touch()
        assert await worker.wait_for_exit() == 0
    record = await jobs.inspect.get_job(receipt.id)
    assert record is not None
    assert (record.state, record.result) == ("completed", "released")


async def test_a_second_signal_returns_running_jobs_to_the_queue(jobs: WorkerJobs, tmp_path: Path) -> None:
    receipt = await jobs.hold.enqueue()
    async with flowli(tmp_path, "worker", APP, "--drain", "10m") as worker:
        await worker.wait_for("holding")
        worker.send_sigterm()
        await worker.wait_for("running jobs may continue for 10m")
        worker.process.send_signal(signal.SIGINT)
        assert await worker.wait_for_exit() == 143
    record = await jobs.inspect.get_job(receipt.id)
    assert record is not None
    assert (record.state, record.attempts_made, record.recoveries) == ("queued", 0, 0)


def has_pending_signals(pid: int) -> bool:
    """Return True if a process has signals that it has not handled yet."""
    status = Path(f"/proc/{pid}/status")
    try:
        lines = status.read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):  # the process has ended
        return False
    return any(int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd")))


@pytest.mark.skipif(not Path("/proc").exists(), reason="only Linux shows which signals are pending")
async def test_a_third_signal_ends_a_worker_whose_loop_is_blocked(jobs: WorkerJobs, tmp_path: Path) -> None:
    await jobs.block.enqueue()
    async with flowli(tmp_path, "worker", APP, "--lease", "5m") as worker:
        await worker.wait_for("blocking")
        for _ in range(3):
            worker.send_sigterm()
            # Two pending signals count as one, and a blocked loop logs nothing, so ask the system.
            while has_pending_signals(worker.process.pid):  # noqa: ASYNC110 - see above
                await asyncio.sleep(0)
        assert await worker.wait_for_exit() == 128 + signal.SIGTERM
    assert "exiting at once; other workers run these jobs when their leases expire" in worker.lines[-1]


async def test_a_worker_whose_loop_stays_blocked_prints_its_stacks_and_exits(jobs: WorkerJobs, tmp_path: Path) -> None:
    receipt = await jobs.block.enqueue()
    async with flowli(tmp_path, "worker", APP, "--lease", "1s", "--stall-limit", "500ms") as worker:
        await worker.wait_for("blocking")
        assert await worker.wait_for_exit() == 70
    text = "".join(worker.lines)
    assert "the event loop stays blocked" in text
    assert "in block" in text
    record = await jobs.inspect.get_job(receipt.id)
    assert record is not None
    assert record.state == "active"  # until its lease expires, and another worker recovers it
