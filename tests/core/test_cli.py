"""The command line: what a person types, and the one line that says what was wrong with it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

APP = """
from flowli_core import Jobs, job
from flowli_core.drivers.memory import MemoryDriver

@job(int)
async def double(input: int) -> int:
    return 2 * input

class AppJobs(Jobs[None]):
    double = double

jobs = AppJobs(context=None, driver=MemoryDriver())
without_driver = AppJobs(context=None)
"""


def flowli(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "app.py").write_text(APP)
    command = [sys.executable, "-W", "error", "-m", "flowli_core.cli", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_the_version_is_told(tmp_path: Path) -> None:
    done = flowli(tmp_path, "--version")
    assert (done.returncode, done.stdout) == (0, f"flowli {version('flowli')}\n")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["worker", "nowhere:jobs"], 2, "no registry at 'nowhere:jobs'"),
        (["worker", "app:nothing"], 2, "no registry at 'app:nothing'"),
        (["worker", "app:double"], 2, "'app:double' is a Job, not a Jobs(...)"),
        (["worker", ":"], 2, "no registry at ':'"),
        (["worker", "app:without_driver"], 1, "this runtime has no driver"),
        (["worker", "app:jobs", "--concurrency", "0"], 1, "concurrency must be a whole number from 1"),
        (["worker", "app:jobs", "--lease", "5"], 1, "lease is not a duration"),
        (["worker", "app:jobs", "--drain", "soon"], 1, "drain is not a duration"),
        (["worker", "app:jobs", "--queues", "a b"], 1, "queues may have letters"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    done = flowli(tmp_path, *arguments)
    assert done.returncode == code
    lines = [line for line in done.stderr.splitlines() if " INFO " not in line]
    assert len(lines) == 1, done.stderr
    assert said in lines[0]


def test_without_a_command_the_usage_is_shown(tmp_path: Path) -> None:
    done = flowli(tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: flowli")
