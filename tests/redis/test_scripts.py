"""The Lua scripts: one file for each operation, with a header, and only documented commands."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from flowli_core.drivers.redis import _driver
from flowli_core.drivers.redis._scripts import Scripts

FOLDER = Path(_driver.__file__).parent / "lua"
FILES = {str(file.relative_to(FOLDER).with_suffix("")): file.read_text() for file in FOLDER.rglob("*.lua")}
SCRIPTS = {name: text for name, text in FILES.items() if "/" not in name}


def test_each_script_is_one_method() -> None:
    """The files that are no parts of others, and the public methods of Scripts are the same set."""
    methods = {name for name, _ in inspect.getmembers(Scripts, inspect.iscoroutinefunction) if not name.startswith("_")}
    assert methods == set(SCRIPTS)


def test_each_script_starts_with_a_header() -> None:
    """The header says what the script answers and what it writes first."""
    for name, text in SCRIPTS.items():
        head = "".join(line for line in text.splitlines(keepends=True)[:20] if line.startswith("--"))
        assert "Answers" in head, name
        assert "First write:" in head or "Writes nothing." in head, name


def test_each_part_is_needed_by_a_script() -> None:
    """The parts in the folders, and those that the scripts name, are the same set."""
    lines = re.findall("-- (?:Needs|Insert): (.*)$", "\n".join(FILES.values()), re.MULTILINE)
    assert {"shared/head", *(part for line in lines for part in line.split())} == set(FILES) - set(SCRIPTS)


def test_scripts_call_only_documented_commands() -> None:
    """The documented permissions name each command that a script calls, and `check` tries each."""
    called = {
        command.lower()
        for name, text in FILES.items()
        if name not in {"check", "audit"}
        for command in [*re.findall(r"(?:call|call_with_all)\('([A-Z]+)'", text), "HMGET"]
    }
    documented = {right[1:] for right in re.findall(r"\+[a-z|]+", _driver.__doc__ or "")}
    tried = {command.lower() for command in re.findall(r"\{ '([A-Z]+)'", FILES["check"])}
    for_the_audit = set(re.findall(r"call\('([A-Z]+)'", FILES["audit"])) - {one.upper() for one in called}
    assert called <= documented
    assert called <= tried <= documented
    assert documented - tried == {
        *("bzpopmin", "cluster|slots", "command", "evalsha", "info", "script|load", "select"),
        *(command.lower() for command in for_the_audit),
    }
    assert not called & {"keys", "scan", "eval", "lrange", "flushall", "flushdb"}
