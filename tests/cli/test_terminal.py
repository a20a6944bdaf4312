"""Output on a terminal: aligned tables, colours unless NO_COLOR, and completion."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from flowli_core.testing import drain
from tests.cli.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.app import WorkerJobs

COMMAND = [sys.executable, "-m", "flowli_core.cli"]


def run_in_terminal(folder: Path, *words: str, answer: str = "", ctrl_c_after: str = "", **environ: str) -> str:
    """Run a command in a new terminal into which `answer` was typed, and return what it wrote.

    Once it has written `ctrl_c_after`, interrupt it.
    """
    ours, theirs = pty.openpty()
    known = {"FLOWLI_TEST_FOLDER": str(folder), "FLOWLI_APP": "tests.cli.app:jobs", "TERM": "xterm", "COLUMNS": "80"}
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | known | environ
    with subprocess.Popen(
        [*COMMAND, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=ROOT
    ) as run:
        os.close(theirs)
        os.write(ours, answer.encode())
        written, deadline, was_sent = b"", time.monotonic() + 60, False
        try:
            while True:
                is_ready = bool(select.select([ours], [], [], 1)[0])
                if is_ready:
                    part = os.read(ours, 65536)
                    written += part
                    if not part:
                        break
                if time.monotonic() > deadline:
                    run.kill()
                elif ctrl_c_after and ctrl_c_after in written.decode(errors="replace") and not (was_sent and is_ready):
                    # Once more if it has written nothing since: Python misses a signal just before it waits for input.
                    run.send_signal(signal.SIGINT)
                    was_sent = True
        except OSError:
            pass  # Linux raises this when the other side has closed the terminal
        run.wait(timeout=30)
    os.close(ours)
    return written.decode()


def run_in_pipe(folder: Path, *words: str, **environ: str) -> bytes:
    """Run a command whose output goes to a pipe, and return its output."""
    known = {"FLOWLI_TEST_FOLDER": str(folder), "FLOWLI_APP": "tests.cli.app:jobs"}
    return subprocess.run(
        [*COMMAND, *words], env=os.environ | known | environ, cwd=ROOT, capture_output=True, check=True
    ).stdout


def test_a_terminal_gets_aligned_columns_and_bold_headers(tmp_path: Path) -> None:
    text = run_in_terminal(tmp_path, "status")
    assert "\x1b[1mqueue  queued  scheduled  active  completed  failed  cancelled  oldest  workers\x1b[0m" in text
    assert "\t" not in text


def test_progress_is_drawn_as_a_bar_and_a_log_line_by_line(tmp_path: Path) -> None:
    run_in_terminal(tmp_path, "enqueue", "count", "7")
    run_in_terminal(tmp_path, "worker", "--burst")
    (listed,) = json.loads(run_in_pipe(tmp_path, "jobs", "list", "completed", "--json"))["items"]
    text = run_in_terminal(tmp_path, "jobs", "show", listed["id"], NO_COLOR="1")
    assert re.search(r"progress +\[#{14}-{6}\] 7 of 10 \(70%\): counted, ", text)
    assert re.search(r"log +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d one\r\n +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d two\r\n", text)


def test_a_status_with_queues_fits_in_80_columns(tmp_path: Path) -> None:
    run_in_terminal(tmp_path, "enqueue", "count", "1")
    text = run_in_terminal(tmp_path, "status", NO_COLOR="1")
    assert "queue   queued scheduled active completed failed cancelled oldest workers" in text


@pytest.mark.parametrize("words", [["status"], ["doctor"], ["jobs", "list", "queued"]])
def test_no_line_is_wider_than_the_terminal(tmp_path: Path, words: list[str]) -> None:
    run_in_terminal(tmp_path, "enqueue", "count", "1")
    text = run_in_terminal(tmp_path, *words, COLUMNS="50", NO_COLOR="1")
    wide = [line for line in text.splitlines() if len(line) > 50]
    assert all(len(line.split()) <= 3 for line in wide), text


@pytest.mark.parametrize("quiet", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_can_be_turned_off(tmp_path: Path, quiet: dict[str, str]) -> None:
    assert "\x1b" not in run_in_terminal(tmp_path, "doctor", **quiet)


def test_the_doctor_shows_each_cure_below_its_check(tmp_path: Path) -> None:
    run_in_terminal(tmp_path, "enqueue", "count", "1")
    text = run_in_terminal(tmp_path, "doctor")
    assert "\x1b[31mbad    \x1b[0m  workers" in text
    assert "-> jobs are waiting and no worker runs: start one with flowli worker" in " ".join(text.split())


async def test_text_that_the_encoding_of_the_output_lacks_is_escaped(jobs: WorkerJobs, tmp_path: Path) -> None:
    receipt = await jobs.fail.enqueue()
    await drain(jobs)
    for words in (["jobs", "list"], ["jobs", "show", receipt.id]):
        text = await asyncio.to_thread(run_in_pipe, tmp_path, *words, PYTHONIOENCODING="cp1252")
        assert b"ValueError: not sent \\u274c" in text


def test_shells_can_complete_commands() -> None:
    environ = os.environ | {"_FLOWLI_COMPLETE": "bash_complete", "COMP_WORDS": "flowli jo", "COMP_CWORD": "1"}
    code = "import sys; from flowli_core.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert done.stdout == "plain,jobs\n"


@pytest.mark.parametrize(
    ("app", "completed"),
    [("tests.cli.app:jobs", "plain,log_control_characters\nplain,log_in_thread\n"), ("nothing", "\n")],
)
def test_shells_can_complete_the_names_of_jobs(tmp_path: Path, app: str, completed: str) -> None:
    words = {"COMP_WORDS": "flowli enqueue log", "COMP_CWORD": "2", "_FLOWLI_COMPLETE": "bash_complete"}
    environ = os.environ | words | {"FLOWLI_APP": app, "FLOWLI_TEST_FOLDER": str(tmp_path)}
    code = "import sys; from flowli_core.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (completed, "")


async def test_shells_can_complete_the_keys_of_schedules(tmp_path: Path, jobs: WorkerJobs) -> None:
    for key in ("at-night", "at-noon", "hourly"):
        await jobs.fail.schedule(key, every="1h")
    words = {"COMP_WORDS": "flowli schedules pause at", "COMP_CWORD": "3", "_FLOWLI_COMPLETE": "bash_complete"}
    environ = os.environ | words | {"FLOWLI_APP": "tests.cli.app:jobs", "FLOWLI_TEST_FOLDER": str(tmp_path)}
    code = "import sys; from flowli_core.cli import main; sys.exit(main())"
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("plain,at-night\nplain,at-noon\n", "")
