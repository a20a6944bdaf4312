"""The types that users meet, as mypy and pyright see them with the project's own strict settings."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import flowli_core
import pytest
from flowli_core.drivers.memory import MemoryDriver

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from types import ModuleType

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
REFUSED = HERE / "refused.py"

MYPY = ("mypy", "--config-file", str(ROOT / "pyproject.toml"))
# The interpreter is named, so that it need not be the one in the project file's .venv.
PYRIGHT = ("pyright", "-p", str(ROOT), "--pythonpath", sys.executable)

MYPY_ERROR = re.compile(r"^.*\.py:(\d+): error: .* \[([\w-]+)\]$", re.MULTILINE)
MYPY_IGNORE = re.compile(r"  # type: ignore\[([\w, -]+)\]")
PYRIGHT_IGNORE = re.compile(r"  # pyright: ignore\[([\w, ]+)\]")


class Finding(NamedTuple):
    """An error: the line, and the code or rule."""

    line: int
    code: str


def check(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)


def mypy_findings(path: Path) -> set[Finding]:
    output = check(*MYPY, str(path)).stdout
    return {Finding(int(line), code) for line, code in MYPY_ERROR.findall(output)}


def pyright_findings(path: Path) -> set[Finding]:
    output = json.loads(check(*PYRIGHT, "--outputjson", str(path)).stdout)
    return {
        Finding(found["range"]["start"]["line"] + 1, found.get("rule", ""))
        for found in output["generalDiagnostics"]
        if found["severity"] == "error"
    }


def marked(ignore: re.Pattern[str]) -> set[Finding]:
    """What refused.py says that a checker finds."""
    return {
        Finding(number, code)
        for number, line in enumerate(REFUSED.read_text().splitlines(), 1)
        for codes in ignore.findall(line)
        for code in codes.split(", ")
    }


@pytest.mark.parametrize("checker", [MYPY, PYRIGHT], ids=["mypy", "pyright"])
def test_the_right_is_accepted_and_the_wrong_refused(checker: tuple[str, ...]) -> None:
    """An assert_type that does not hold is an error, and so is an ignore that is not needed."""
    done = check(*checker, str(HERE))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("findings", "ignore"),
    [(mypy_findings, MYPY_IGNORE), (pyright_findings, PYRIGHT_IGNORE)],
    ids=["mypy", "pyright"],
)
def test_each_refused_line_is_an_error_once_its_ignores_are_gone(
    findings: Callable[[Path], set[Finding]], ignore: re.Pattern[str], tmp_path: Path
) -> None:
    bare = tmp_path / "refused.py"
    bare.write_text(PYRIGHT_IGNORE.sub("", MYPY_IGNORE.sub("", REFUSED.read_text())))
    assert sorted(findings(bare)) == sorted(marked(ignore))


def test_both_checkers_refuse_the_same_lines() -> None:
    by_mypy, by_pyright = ({found.line for found in marked(ignore)} for ignore in (MYPY_IGNORE, PYRIGHT_IGNORE))
    assert by_mypy == by_pyright
    assert len(by_mypy) > 100


@pytest.fixture
def accepted(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("accepted", HERE / "accepted.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "accepted", module)
    spec.loader.exec_module(module)
    return module


def uses(module: ModuleType) -> Iterator[Callable[[object], Awaitable[None]]]:
    for value in vars(module).values():
        if inspect.iscoroutinefunction(value) and "jobs" in inspect.signature(value).parameters:
            yield value


async def test_what_the_checkers_accept_also_runs(accepted: ModuleType) -> None:
    ran = 0
    for use in uses(accepted):
        async with accepted.AppJobs(context=accepted.make, driver=MemoryDriver()) as jobs:
            try:
                await use(jobs)
            except Exception as error:
                error.add_note(f"in accepted.py, {use.__name__}")
                raise
        ran += 1
    assert ran > 10


def test_the_public_names_are_sorted_and_there() -> None:
    names = flowli_core.__all__
    assert names == sorted(set(names))
    assert [name for name in names if not hasattr(flowli_core, name)] == []


def test_nothing_public_is_left_out_of_the_public_names() -> None:
    there = {
        name for name, value in vars(flowli_core).items() if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert there == set(flowli_core.__all__)


def test_the_packages_say_that_they_are_typed() -> None:
    packages = [path.parent for path in ROOT.glob("flowli_*/__init__.py")]
    assert ROOT / "flowli_core" in packages
    assert [package.name for package in packages if not (package / "py.typed").is_file()] == []


def test_the_accepted_routes_make_applications() -> None:
    """What the frameworks look at when an application is made holds, too."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(HERE / "accepted_routes.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
