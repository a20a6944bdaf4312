"""Following a job until it has finished: `flowli jobs watch` and `flowli enqueue --wait`."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flowli_core import Runner
from flowli_core.testing import drain
from tests.cli.app import WorkerJobs
from tests.cli.operated import Output
from tests.cli.processes import PATIENCE, ROOT
from tests.cli.processes import flowli as flowli_process
from tests.cli.test_terminal import run_in_pipe, run_in_terminal

Flowli = Callable[..., Output]


@contextmanager
def worker() -> Generator[None]:
    """Run a worker on the store of the operations, in a thread of this process."""
    sys.path.insert(0, str(Path.cwd()))  # the fixture takes it out
    jobs = importlib.import_module("operated").make()
    loops: list[asyncio.AbstractEventLoop] = []
    is_up, end = threading.Event(), asyncio.Event()

    async def run() -> None:
        loops.append(asyncio.get_running_loop())
        async with jobs, Runner(jobs):
            is_up.set()
            await end.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        assert is_up.wait(PATIENCE)
        yield
    finally:
        loops[0].call_soon_threadsafe(end.set)
        thread.join(PATIENCE)


def test_the_exit_code_of_watch_is_the_outcome_of_the_job(flowli: Flowli) -> None:
    sent = flowli("enqueue", "send_email", '{"to": "ada"}', "--json").json["id"]
    broken = flowli("enqueue", "nightly", "--json").json["id"]
    flowli("worker", "--burst")
    done = flowli("jobs", "watch", sent)
    assert (done.code, done.err) == (0, "")
    assert done.lines[-1].split("\t")[1:] == ["completed", "", ""]
    failed = flowli("jobs", "watch", broken)
    error = "RuntimeError: no \\x1b[31mnight\\nforged"
    assert (failed.code, failed.err) == (1, f"flowli: {broken} failed: {error}\n")
    assert failed.lines[-1].split("\t")[1:] == ["failed", "3 of 4 (75%)", error]


def test_watch_ends_when_a_job_is_cancelled(flowli: Flowli) -> None:
    job_id = flowli("enqueue", "nightly", "--json").json["id"]
    flowli("jobs", "cancel", job_id)
    output = flowli("jobs", "watch", job_id)
    assert (output.code, output.err) == (1, f"flowli: {job_id} was cancelled\n")


@pytest.mark.parametrize("job_id", ["nobody", " ", "\udcff"])
def test_the_exit_code_of_watch_is_2_if_there_is_no_such_job(flowli: Flowli, job_id: str) -> None:
    output = flowli("jobs", "watch", job_id)
    assert (output.code, output.out) == (2, "")
    assert len(output.err.splitlines()) == 1


def test_watch_prints_each_update_as_a_line_of_json(flowli: Flowli) -> None:
    job_id = flowli("enqueue", "send_email", '{"to": "ada"}', "--json").json["id"]
    with worker():
        output = flowli("jobs", "watch", job_id, "--json")
    updates = [json.loads(line) for line in output.lines]
    assert {update["id"] for update in updates} == {job_id}
    assert (updates[-1]["state"], updates[-1]["result"]) == ("completed", ["ada", False, None])
    assert output.code == 0


def test_enqueue_waits_and_prints_the_result(flowli: Flowli) -> None:
    with worker():
        output = flowli("enqueue", "send_email", '{"to": "ada"}', "--wait", "--timeout", f"{PATIENCE}s")
        update = flowli("enqueue", "send_email", '{"to": "bob"}', "--wait", "--json")
    assert (output.code, output.json) == (0, ["ada", False, None])
    assert output.err.splitlines()[0].endswith(" queued (accepted)")
    assert (update.json["state"], update.json["result"]) == ("completed", ["bob", False, None])


def test_enqueue_that_waits_fails_with_its_job(flowli: Flowli) -> None:
    with worker():
        output = flowli("enqueue", "nightly", "--wait")
    assert (output.code, output.out) == (1, "")
    assert output.err.endswith(" failed: RuntimeError: no \\x1b[31mnight\\nforged\n")


def test_enqueue_stops_waiting_after_its_timeout_and_names_the_missing_worker(
    flowli: Flowli, caplog: pytest.LogCaptureFixture
) -> None:
    output = flowli("enqueue", "nightly", "--wait", "--timeout", "50ms")
    assert (output.code, output.out) == (124, "")
    job_id = output.err.split()[0]
    assert "the job waits in the queue default, which no worker serves" in caplog.text
    assert f"stopped watching; the job goes on: flowli jobs watch {job_id}\n" in output.err
    assert output.err.endswith(f"flowli: {job_id} did not finish within 50ms\n")
    assert flowli("jobs", "show", job_id, "--json").json["state"] == "queued"


@pytest.mark.parametrize("words", [["--timeout", "1s"], ["--wait", "--timeout", "0s"], ["--wait", "--timeout", "10"]])
def test_a_timeout_that_makes_no_sense_is_refused(flowli: Flowli, words: list[str]) -> None:
    output = flowli("enqueue", "nightly", *words)
    assert output.code == 2
    assert flowli("status", "--json").json["counts"]["queued"] == 0


async def test_watch_follows_a_running_job_in_a_pipe(jobs: WorkerJobs, tmp_path: Path) -> None:
    receipt = await jobs.hold.enqueue()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "flowli_core.cli", "jobs", "watch", receipt.id),
        env=os.environ | {"FLOWLI_TEST_FOLDER": str(tmp_path), "FLOWLI_APP": "tests.cli.app:jobs"},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
        assert b"\tqueued\t" in await process.stdout.readline()
        tasks.create_task(drain(jobs))
        assert b"\tactive\t" in await process.stdout.readline()
        (tmp_path / "gate").touch()
        assert b"\tcompleted\t" in await process.stdout.readline()
        assert await process.wait() == 0


async def test_ctrl_c_stops_watching_and_the_job_goes_on(jobs: WorkerJobs, tmp_path: Path) -> None:
    receipt = await jobs.fail.enqueue()
    async with flowli_process(tmp_path, "jobs", "watch", receipt.id, FLOWLI_APP="tests.cli.app:jobs") as command:
        await command.wait_for("which no worker serves")
        command.process.send_signal(signal.SIGINT)
        assert await command.wait_for_exit() == 130
    assert f"stopped watching; the job goes on: flowli jobs watch {receipt.id}\n" in command.lines
    found = await jobs.fail.get(receipt)
    assert found is not None
    assert found.state == "queued"


@pytest.mark.parametrize("columns", [80, 30])
async def test_a_terminal_shows_a_bar_in_one_line(jobs: WorkerJobs, tmp_path: Path, columns: int) -> None:
    receipt = await jobs.translate.enqueue()
    await drain(jobs)
    text = await asyncio.to_thread(run_in_terminal, tmp_path, "jobs", "watch", receipt.id, COLUMNS=str(columns))
    assert text.startswith("\rcompleted  [##########")
    line = text.removeprefix("\r").removesuffix("\x1b[K\r\n")
    assert (
        line
        == {
            80: "completed  [####################] 3 of 3 (100%): 第三ページを訳しました。第三~",
            30: "completed  [################~",
        }[columns]
    )


async def test_a_dumb_terminal_gets_a_line_for_each_update(jobs: WorkerJobs, tmp_path: Path) -> None:
    receipt = await jobs.count.enqueue(7)
    await drain(jobs)
    text = await asyncio.to_thread(run_in_terminal, tmp_path, "jobs", "watch", receipt.id, TERM="dumb")
    assert text.split("\t")[1:] == ["completed", "7 of 10 (70%)", "counted\r\n"]


async def test_a_note_that_the_encoding_of_the_output_lacks_is_escaped(jobs: WorkerJobs, tmp_path: Path) -> None:
    receipt = await jobs.translate.enqueue()
    await drain(jobs)
    words = ("jobs", "watch", receipt.id)
    assert b"\\u7b2c" in await asyncio.to_thread(run_in_pipe, tmp_path, *words, PYTHONIOENCODING="cp1252")
    drawn = await asyncio.to_thread(run_in_terminal, tmp_path, *words, PYTHONIOENCODING="ascii", COLUMNS="60")
    assert drawn.endswith("[####################] 3 of 3 (100%): \\u7b2c\\u4~\x1b[K\r\n")
