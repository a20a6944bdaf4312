"""What a person sees: tables on a terminal, colours unless NO_COLOR, completion; and what a pipe gets instead."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = [sys.executable, "-m", "flowli_core.cli"]


def typed(folder: Path, *words: str, **environ: str) -> str:
    """Run a command in a terminal of its own; answer what the terminal got."""
    ours, theirs = pty.openpty()
    known = {"FLOWLI_TEST_FOLDER": str(folder), "FLOWLI_APP": "tests.cli.app:jobs", "TERM": "xterm", "COLUMNS": "80"}
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | known | environ
    with subprocess.Popen(
        [*COMMAND, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=ROOT
    ) as run:
        os.close(theirs)
        told = b""
        try:
            while part := os.read(ours, 65536):
                told += part
        except OSError:
            pass  # this is how Linux says that the other side has closed it
        run.wait(timeout=30)
    os.close(ours)
    return told.decode()


def test_a_terminal_gets_aligned_columns_and_bold_headers(tmp_path: Path) -> None:
    told = typed(tmp_path, "status")
    assert "\x1b[1mqueue  queued  scheduled  active  completed  failed  cancelled  oldest\x1b[0m" in told
    assert "\t" not in told


@pytest.mark.parametrize("quiet", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_can_be_had_without(tmp_path: Path, quiet: dict[str, str]) -> None:
    assert "\x1b" not in typed(tmp_path, "doctor", **quiet)


def test_the_doctor_says_the_cure_below_what_it_is_for(tmp_path: Path) -> None:
    typed(tmp_path, "enqueue", "count", "1")
    told = typed(tmp_path, "doctor")
    assert "\x1b[31mbad    \x1b[0m  workers" in told
    assert "-> jobs wait, and nobody runs them: flowli worker" in told


def test_shells_can_complete_commands() -> None:
    environ = os.environ | {"_FLOWLI_COMPLETE": "bash_complete", "COMP_WORDS": "flowli jo", "COMP_CWORD": "1"}
    code = "import sys; from flowli_core.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert done.stdout == "plain,jobs\n"
