"""Run the programs of the documentation, and compare what they print with what the pages show."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.docs.pages import PROGRAMS, ROOT, Program
from tests.docs.running import run

CACHE = ROOT / ".mypy_cache" / "docs"
PRINTING = [program for program in PROGRAMS if program.output is not None]
SILENT = [
    program
    for program in PROGRAMS
    if program.output is None and not program.name.startswith("test_") and program.name != "conftest.py"
]


def written(program: Program) -> str:
    return f"{program.page}: {program.name}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("docs")
    for program in PROGRAMS:
        (path / program.name).write_text(program.text)
    (path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    return path


def test_no_two_programs_have_the_same_name_or_store() -> None:
    files = [store for program in PROGRAMS for store in set(re.findall(r"\w+\.sqlite3", program.text))]
    names = [name for name, _ in {(program.name, program.text) for program in PROGRAMS}]  # a page may repeat one
    assert [name for name, number in Counter([*names, *files]).items() if number > 1] == []


@pytest.mark.parametrize("program", PRINTING, ids=written)
def test_a_program_prints_what_is_shown(program: Program, folder: Path) -> None:
    assert run(folder, program.name) == program.output


@pytest.mark.parametrize("program", SILENT, ids=written)
def test_a_module_can_be_imported(program: Program, folder: Path) -> None:
    assert run(folder, "-c", f"import {program.name.removesuffix('.py')}") == ""


def test_the_tests_of_the_pages_pass(folder: Path) -> None:
    tests = [program for program in PROGRAMS if program.name.startswith("test_")]
    if tests:
        output = run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis", "-p", "no:valkey")
        passed = re.search(r"^(\d+) passed", output, re.MULTILINE)
        assert passed, output
        assert int(passed[1]) >= len(tests)


def test_mypy_accepts_every_program(folder: Path) -> None:
    names = sorted({program.name for program in PROGRAMS})
    assert run(folder, "-m", "mypy", "--strict", "--cache-dir", str(CACHE), *names).startswith("Success")
