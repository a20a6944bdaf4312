"""Run the programs of the README, and compare what they print with what the README shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text()
SNIPPETS = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", README, re.DOTALL))

APP_CLIENT = """
import time
from fastapi.testclient import TestClient
from app import app

with TestClient(app) as client:
    receipt = client.post("/reports", json={"customer": "Ada"}).json()
    while (answer := client.get(f"/reports/{receipt['id']}").json())["state"] != "completed":
        time.sleep(0.01)
    print(answer["report"])
"""


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, body in SNIPPETS.items():
        (tmp_path / name).write_text(body)
    return tmp_path


def test_every_python_snippet_has_a_name_and_is_run_here() -> None:
    assert README.count("```python") == len(SNIPPETS)
    assert set(SNIPPETS) == {"hello.py", "app.py", "scheduled.py", "test_jobs.py"}


def test_the_examples_print_what_is_shown(folder: Path) -> None:
    shown = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
    assert [run(folder, "hello.py"), run(folder, "scheduled.py")] == shown


def test_the_application_answers_with_the_result_of_its_job(folder: Path) -> None:
    assert run(folder, "-c", APP_CLIENT) == "The report of Ada\n"


def test_the_example_of_a_test_passes(folder: Path) -> None:
    assert "1 passed" in run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "test_jobs.py")


def test_the_commands_that_are_named_exist() -> None:
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    for target in re.findall(r"^make ([\w-]+)", README, re.MULTILINE):
        assert re.search(rf"^(?:[\w-]+ )*{target}(?: [\w-]+)*:", makefile, re.MULTILINE), target
