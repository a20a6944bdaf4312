"""The types that users see, as four type checkers see them with the project's own strict settings."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_overloads

import pytest
from flowli_core import With, job
from flowli_core._jobs.definition import Settings
from flowli_core.drivers.memory import MemoryDriver

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from types import FunctionType, ModuleType

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
REFUSED = HERE / "refused.py"
ACCEPTED = sorted(str(path) for path in HERE.glob("accepted*.py"))

MYPY = ("mypy", "--config-file", str(ROOT / "pyproject.toml"))
# The interpreter is named, because it need not be that of the `.venv` which the project file names.
PYRIGHT = ("pyright", "-p", str(ROOT), "--pythonpath", sys.executable)
PYREFLY = ("pyrefly", "check", "-c", str(ROOT / "pyproject.toml"), "--python-interpreter-path", sys.executable)
TY = ("ty", "check", "--project", str(ROOT), "--python", sys.executable)

MYPY_ERROR = re.compile(r"^.*\.py:(\d+): error: .* \[([\w-]+)\]$", re.MULTILINE)
PYREFLY_ERROR = re.compile(r"^ *ERROR .*\.py:(\d+):", re.MULTILINE)
TY_ERROR = re.compile(r"^.*\.py:(\d+):\d+: error", re.MULTILINE)

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


def pyrefly_lines(path: Path) -> set[int]:
    output = check(*PYREFLY, "--output-format", "min-text", str(path)).stdout
    return {int(line) for line in PYREFLY_ERROR.findall(output)}


def ty_lines(path: Path) -> set[int]:
    output = check(*TY, "--output-format", "concise", str(path)).stdout
    return {int(line) for line in TY_ERROR.findall(output)}


def marked(ignore: re.Pattern[str]) -> set[Finding]:
    """Return what refused.py says that mypy or pyright finds."""
    return {
        Finding(number, code)
        for number, line in enumerate(REFUSED.read_text().splitlines(), 1)
        for codes in ignore.findall(line)
        for code in codes.split(", ")
    }


def missed_by(checker: str) -> set[int]:
    """Return the wrong lines below a comment `# missed by CHECKER: reason`."""
    lines = REFUSED.read_text().splitlines()
    missed: set[int] = set()
    for found in (number for number, line in enumerate(lines, 1) if line.strip().startswith(f"# missed by {checker}:")):
        missed.add(next(number for number in range(found, len(lines)) if MYPY_IGNORE.search(lines[number - 1])))
    return missed


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of refused.py without its ignores."""
    path = tmp_path_factory.mktemp("refused") / "refused.py"
    path.write_text(PYRIGHT_IGNORE.sub("", MYPY_IGNORE.sub("", REFUSED.read_text())))
    return path


@pytest.mark.parametrize(
    "command",
    [(*MYPY, str(HERE)), (*PYRIGHT, str(HERE)), (*PYREFLY, *ACCEPTED), (*TY, *ACCEPTED)],
    ids=["mypy", "pyright", "pyrefly", "ty"],
)
def test_the_right_is_accepted_and_the_wrong_refused(command: tuple[str, ...]) -> None:
    """A wrong `assert_type` is an error, and so is an ignore that is not needed."""
    done = check(*command)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("findings", "ignore"),
    [(mypy_findings, MYPY_IGNORE), (pyright_findings, PYRIGHT_IGNORE)],
    ids=["mypy", "pyright"],
)
def test_each_refused_line_is_an_error_once_its_ignores_are_gone(
    findings: Callable[[Path], set[Finding]], ignore: re.Pattern[str], bare: Path
) -> None:
    assert sorted(findings(bare)) == sorted(marked(ignore))


@pytest.mark.parametrize(("lines", "checker"), [(pyrefly_lines, "pyrefly"), (ty_lines, "ty")], ids=["pyrefly", "ty"])
def test_pyrefly_and_ty_refuse_the_same_lines_but_for_those_that_are_known(
    lines: Callable[[Path], set[int]], checker: str, bare: Path
) -> None:
    refused = {found.line for found in marked(MYPY_IGNORE)}
    assert sorted(lines(bare)) == sorted(refused - missed_by(checker))


def test_mypy_and_pyright_refuse_the_same_lines() -> None:
    by_mypy, by_pyright = ({found.line for found in marked(ignore)} for ignore in (MYPY_IGNORE, PYRIGHT_IGNORE))
    assert by_mypy == by_pyright
    assert len(by_mypy) > 170


@pytest.mark.parametrize("function", [job, With[None].job], ids=["job", "With.job"])
def test_each_overload_of_job_lists_all_options(function: FunctionType) -> None:
    overloads: list[Any] = [*get_overloads(function)]
    assert len(overloads) == 4
    for overload in overloads:
        parameters = inspect.signature(overload).parameters.values()
        named = {p.name: p.annotation for p in parameters if p.kind is p.KEYWORD_ONLY}
        assert named.pop("meta") == "type[Meta] | None"
        assert named.pop("limit").startswith("Limit")
        types = {name: eval(annotation, overload.__globals__) for name, annotation in named.items()}  # noqa: S307
        assert types | {"limit": Settings.__annotations__["limit"]} == Settings.__annotations__


def imported(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def uses(module: ModuleType) -> Iterator[tuple[str, Callable[[object], Awaitable[None]]]]:
    """Yield the functions that take a registry and nothing else."""
    for name, value in vars(module).items():
        if inspect.iscoroutinefunction(value) and list(inspect.signature(value).parameters) == ["jobs"]:
            yield name, value


@pytest.mark.parametrize("name", ["accepted", "accepted_recipes"])
async def test_what_the_checkers_accept_also_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    accepted = imported(name, monkeypatch)
    ran = 0
    for use_name, use in uses(accepted):
        async with accepted.AppJobs(context=accepted.make, driver=MemoryDriver()) as jobs:
            try:
                await use(jobs)
            except Exception as error:
                error.add_note(f"in {name}.py, {use_name}")
                raise
        ran += 1
    assert ran >= 10


def test_the_accepted_routes_make_applications() -> None:
    """The frameworks read the annotations of routes when an application is made."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(HERE / "accepted_routes.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
