"""What `flowli_core` offers: each name documented, and nothing imported that a user has not asked for."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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
ALIASES = {"CancelAnswer", "FinishedState", "Hook", "Missed", "Overlap", "RequeueAnswer", "State"}
"""Names of types, which can hold no docstring; that of the module says what they are."""


def imported_by(*modules: str) -> set[str]:
    """Every module that a fresh process has once it has imported these."""
    program = f"import json, sys, {', '.join(modules)}; print(json.dumps(sorted(sys.modules)))"
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=unmeasured, capture_output=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("module", MODULES)
def test_the_core_imports_no_framework_and_no_store(module: str) -> None:
    assert not NEVER & {name.partition(".")[0] for name in imported_by(module)}


def test_a_user_pays_for_no_driver_but_the_one_that_is_imported() -> None:
    assert not [name for name in imported_by("flowli_core") if name.startswith("flowli_core.drivers")]
    found = {name for name in imported_by("flowli_core.drivers.memory") if name.startswith("flowli_core.drivers.")}
    assert {name.split(".")[2] for name in found} == {"memory", "_times"}


def test_the_names_are_sorted_and_all_there() -> None:
    assert flowli_core.__all__ == sorted(flowli_core.__all__)
    assert len(set(flowli_core.__all__)) == len(flowli_core.__all__)
    public = {name for name, value in vars(flowli_core).items() if name[0] != "_" and not inspect.ismodule(value)}
    assert public == set(flowli_core.__all__)


@pytest.mark.parametrize("name", sorted(set(flowli_core.__all__) - ALIASES))
def test_a_public_name_says_what_it_is_and_so_does_all_that_it_offers(name: str) -> None:
    value = getattr(flowli_core, name)
    own: Any = value.__doc__
    assert own
    assert not own.startswith(f"{name}("), "the signature that a dataclass makes of itself is no sentence"
    if inspect.isclass(value):
        for attribute, member in vars(value).items():
            if attribute[0] != "_" and (inspect.isroutine(member) or isinstance(member, property)):
                assert inspect.getdoc(member), f"{name}.{attribute} has no docstring"


def test_the_names_without_a_docstring_are_only_names_of_types() -> None:
    for name in ALIASES:
        assert not inspect.isclass(getattr(flowli_core, name))


def test_the_packages_say_that_they_are_typed() -> None:
    packages = [path.parent for path in ROOT.glob("flowli_*/__init__.py")]
    assert ROOT / "flowli_core" in packages
    assert [package.name for package in packages if not (package / "py.typed").is_file()] == []
