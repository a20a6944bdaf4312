"""Run the programs of the README, and compare what it shows with what they print, and with the benchmarks."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.running import run

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SNIPPETS = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", README, re.DOTALL))
SHOWN = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
FILES = "https://github.com/flowli/flowli/blob/main/"
CACHE = ROOT / ".mypy_cache" / "readme"

CLIENT = """
import time
from fastapi.testclient import TestClient
from main import app

with TestClient(app) as client:
    assert client.get("/docs").status_code == 200
    answer = client.post("/emails", json={"to": "ada@example.com"})
    while (status := client.get(f"/emails/{answer.json()['id']}").json())["state"] != "completed":
        time.sleep(0.01)
    print(answer.status_code, status["result"])
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, body in SNIPPETS.items():
        (tmp_path / name).write_text(f"# {name}\n{body}")
    return tmp_path


def tables(text: str, corner: str) -> dict[str, dict[str, str]]:
    """Return the cells of the table that has this text in its corner, by row and column."""
    lines = text[text.index(f"| {corner} |") :].split("\n\n", maxsplit=1)[0].splitlines()
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


def test_every_python_snippet_has_a_name_and_is_run_here() -> None:
    assert README.count("```python") == len(SNIPPETS)
    assert set(SNIPPETS) == {"main.py", "strategies.py", "wrong.py"}


def test_the_service_answers_and_runs_its_job(folder: Path) -> None:
    (printed,) = re.findall(r"the first terminal shows `([^`]+)`", README)
    assert run(folder, "-c", CLIENT) == f"{printed}\n202 sent to ada@example.com\n"


def test_the_strategies_print_what_is_shown(folder: Path) -> None:
    assert run(folder, "strategies.py") == SHOWN[0]


def test_mypy_accepts_the_programs_and_refuses_the_wrong_calls(folder: Path) -> None:
    checked = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(CACHE)]
    accepted = subprocess.run([*checked, "strategies.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert accepted.stdout.startswith("Success"), accepted.stdout
    refused = subprocess.run([*checked, "wrong.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert "".join(refused.stdout.splitlines(keepends=True)[:-1]) == SHOWN[1]


def test_the_commands_that_are_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = re.findall(r"^make ([\w-]+)|`make ([\w-]+)", README, re.MULTILINE)
    assert len(named) > 2
    for target in ["".join(pair) for pair in named]:
        assert re.search(rf"^(?:[\w-]+ )*{target}(?: [\w-]+)*:", makefile, re.MULTILINE), target


def test_links_are_absolute_and_lead_to_files() -> None:
    links = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"", README)
    pictures = [
        link.replace("https://raw.githubusercontent.com/flowli/flowli/main/", FILES) for link in map("".join, links)
    ]
    assert all(link.startswith(FILES) for link in pictures)
    assert [link for link in pictures if not (ROOT / link.removeprefix(FILES)).is_file()] == []


def test_the_figures_are_those_of_the_benchmarks() -> None:
    measured = tables((ROOT / "docs/benchmarks.md").read_text(), "Flowli is better by")
    shown = tables(README, "Flowli is better by")
    assert len(shown) > 3
    assert {row: {name: measured[row][name] for name in cells} for row, cells in shown.items()} == shown
