"""The public modules and names: each is documented, and importing one loads no framework and no store."""

import importlib
import inspect
import json
import os
import pkgutil
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import flowli
import flowli_core

ROOT = Path(flowli_core.__file__).parent.parent
MODULES = ["flowli_core", "flowli_core.testing", "flowli_core.drivers.memory", "flowli_core.embedded"]
NEVER = {
    "fastapi",
    "starlette",
    "litestar",
    "redis",
    "valkey",
    "sqlite3",
    "_sqlite3",
    "croniter",
    "hypothesis",
    "pytest",
}
PUBLIC_MODULES = {
    "flowli": set[str](),
    "flowli_core": {
        "cli",
        "clock",
        "dashboard",
        "diagnosis",
        "driver",
        "drivers",
        "drivers.memory",
        "drivers.redis",
        "drivers.sqlite",
        "durations",
        "embedded",
        "errors",
        "healthz",
        "history",
        "lanes",
        "limits",
        "logs",
        "metrics",
        "new_records",
        "outbox",
        "reports",
        "retry",
        "sqlalchemy",
        "stored",
        "targets",
        "testing",
        "testing.pytest_plugin",
        "tracing",
        "web",
    },
    "flowli_starlette": set[str](),
    "flowli_fastapi": set[str](),
    "flowli_litestar": set[str](),
}
"""The modules that users may import. The path of every other module has a component that starts with `_`."""
ALIASES = {
    "CancelAnswer",
    "FinishedState",
    "Hook",
    "Middleware",
    "Missed",
    "Overlap",
    "Proceed",
    "RequeueAnswer",
    "State",
}
"""Names of types. They cannot have a docstring."""


def imported_by(*modules: str) -> set[str]:
    """Return all modules that a new process has loaded after importing these."""
    program = f"import json, sys, {', '.join(modules)}; print(json.dumps(sorted(sys.modules)))"
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=unmeasured, capture_output=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("package", PUBLIC_MODULES)
def test_the_public_modules_are_those_of_the_list(package: str) -> None:
    paths = importlib.import_module(package).__path__
    modules = {module.name.removeprefix(f"{package}.") for module in pkgutil.walk_packages(paths, f"{package}.")}
    public = {name for name in modules if not re.search(r"(^|\.)_", name)}
    assert public == PUBLIC_MODULES[package]


@pytest.mark.parametrize("module", MODULES)
def test_the_core_imports_no_framework_and_no_store(module: str) -> None:
    assert not NEVER & {name.partition(".")[0] for name in imported_by(module)}


def test_only_the_driver_that_is_imported_is_loaded() -> None:
    assert not [name for name in imported_by("flowli_core") if name.startswith("flowli_core.drivers")]
    found = {name for name in imported_by("flowli_core.drivers.memory") if name.startswith("flowli_core.drivers.")}
    assert {name.split(".")[2] for name in found} == {"memory", "_logs", "_paused", "_periods", "_times", "_wakeups"}


def test_the_public_names_are_sorted_and_complete() -> None:
    assert flowli_core.__all__ == sorted(flowli_core.__all__)
    assert len(set(flowli_core.__all__)) == len(flowli_core.__all__)
    public = {name for name, value in vars(flowli_core).items() if name[0] != "_" and not inspect.ismodule(value)}
    assert public == set(flowli_core.__all__)


@pytest.mark.parametrize("name", sorted(set(flowli_core.__all__) - ALIASES))
def test_a_public_name_and_its_public_members_have_docstrings(name: str) -> None:
    value = getattr(flowli_core, name)
    own: Any = value.__doc__
    assert own
    assert not own.startswith(f"{name}("), "dataclass generates its signature as a docstring"
    if inspect.isclass(value):
        for attribute, member in vars(value).items():
            if attribute[0] != "_" and (inspect.isroutine(member) or isinstance(member, property)):
                assert inspect.getdoc(member), f"{name}.{attribute} has no docstring"


def test_only_names_of_types_have_no_docstring() -> None:
    for name in ALIASES:
        assert not inspect.isclass(getattr(flowli_core, name))


def test_the_packages_are_marked_as_typed() -> None:
    packages = [path.parent for path in ROOT.glob("flowli*/__init__.py")]
    assert ROOT / "flowli_core" in packages
    assert [package.name for package in packages if not (package / "py.typed").is_file()] == []


def test_the_version_is_that_of_the_package() -> None:
    assert flowli_core.__version__ == flowli.__version__ == version("flowli")


def test_the_package_with_the_name_of_the_project_says_where_everything_is() -> None:
    for package in set(PUBLIC_MODULES) - {"flowli"}:
        assert package in str(flowli.__doc__)
    with pytest.raises(ImportError, match=r"^Jobs is in flowli_core: from flowli_core import Jobs$"):
        exec("from flowli import Jobs")  # noqa: S102
    with pytest.raises(ImportError, match="cannot import name 'jobs_lifespan'"):
        exec("from flowli import jobs_lifespan")  # noqa: S102
    assert not hasattr(flowli, "nothing")


def test_the_package_with_the_name_of_the_project_is_also_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "flowli", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"flowli {flowli.__version__}\n"
