"""Run the programs of the README, and check what it shows: outputs, links, figures and commands."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.docs.pages import BLOCK, anchors
from tests.docs.running import run

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SNIPPETS = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", README, re.DOTALL))
PRINTED, REFUSED = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
SOURCE = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Source"]
CACHE = ROOT / ".mypy_cache" / "readme"

CLIENT = """
import time
from fastapi.testclient import TestClient
from main import app

with TestClient(app) as client:
    receipt = client.post("/emails", json={"to": "ada@example.com"})
    assert receipt.status_code == 202, receipt.text
    path = f"/emails/{receipt.json()['id']}"
    while (shown := client.get(path).json())["state"] != "completed":
        time.sleep(0.01)
    assert client.get("/emails/none").status_code == 404
    assert client.post("/emails", json={}).status_code == 422
    print(shown["result"])
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, body in SNIPPETS.items():
        (tmp_path / name).write_text(f"# {name}\n{body}")  # the numbers of lines are those of the README
    return tmp_path


def mypy(folder: Path, *files: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(CACHE), *files]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_every_python_snippet_has_a_name_and_is_run_here() -> None:
    assert README.count("```python") == len(SNIPPETS)
    assert set(SNIPPETS) == {"main.py", "strategies.py", "wrong.py"}


def test_no_two_snippets_share_a_store() -> None:
    files = [store for text in SNIPPETS.values() for store in set(re.findall(r"[\w/.:]+\.sqlite3", text))]
    assert len(files) == len(set(files))


def test_the_service_responds_with_the_result_of_its_job(folder: Path) -> None:
    (printed,) = re.findall(r"the first terminal shows `([^`]+)`", README)
    assert run(folder, "-c", CLIENT) == f"{printed}\nsent to ada@example.com\n"


def test_each_way_to_call_a_job_prints_what_is_shown(folder: Path) -> None:
    assert run(folder, "strategies.py") == PRINTED


def test_mypy_accepts_the_programs_and_refuses_the_wrong_calls_as_shown(folder: Path) -> None:
    code, output = mypy(folder, "main.py", "strategies.py")
    assert code == 0, output
    code, output = mypy(folder, "wrong.py")
    assert code == 1
    assert output.startswith(REFUSED), output


def test_a_wrong_call_is_refused_before_anything_is_stored(folder: Path) -> None:
    program = """
import asyncio
from flowli_core import ValidationError
from wrong import invite
from main import jobs

async def main():
    async with jobs:
        try:
            await invite()
        except ValidationError as error:
            print(error, await jobs.inspect.count("queued"))

asyncio.run(main())
"""
    assert run(folder, "-c", program).endswith("did you mean to?; the fields are subject, to 0\n")


def test_each_link_to_the_repository_leads_to_a_file_and_a_heading() -> None:
    raw = SOURCE.replace("https://github.com", "https://raw.githubusercontent.com")
    targets = re.findall(r'\]\(([^)\s]+)\)|src(?:set)?="([^"]+)"', BLOCK.sub("", README))
    for target in (link or picture for link, picture in targets):
        assert target.startswith((f"{SOURCE}/blob/main/", f"{raw}/main/")), f"not absolute: {target}"
        path, _, anchor = target.partition("/main/")[2].partition("#")
        assert (ROOT / path).is_file(), target
        assert not anchor or anchor in anchors((ROOT / path).read_text()), target


def figures(text: str) -> list[list[str]]:
    """Return the rows of the table of ratios."""
    table = re.search(r"^\| Flowli is better by .*?(?=\n\n)", text, re.DOTALL | re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()]


def test_the_figures_are_those_of_the_last_benchmark() -> None:
    """After a run of the benchmarks, copy its ratios to the README."""
    shown, measured = figures(README), figures((ROOT / "docs" / "benchmarks.md").read_text())
    ratios = {(row[0], name): cell for row in measured[2:] for name, cell in zip(measured[0], row, strict=True)}
    for row in shown[2:]:
        for name, cell in zip(shown[0][1:], row[1:], strict=True):
            assert cell == ratios[row[0], name], f"{row[0]}, {name}"


def test_the_commands_that_are_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"\bmake ([\w-]+)", "\n".join(re.findall(r"^make .*|`make .*?`", README, re.MULTILINE)))
    assert {"demo", "test"} <= set(targets)
    for target in targets:
        assert re.search(rf"^(?:[\w-]+ )*{target}(?: [\w-]+)*:", makefile, re.MULTILINE), target


def test_the_extras_that_are_named_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"]) - {"all", "dev"}
    installing = README.partition("## Install")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(\w+)`", installing)) | {
        name for group in re.findall(r'"flowli\[(.*?)\]"', README) for name in group.split(",")
    }
    assert named == extras
