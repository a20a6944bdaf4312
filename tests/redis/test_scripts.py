"""The Lua scripts: one file for each operation, with a header, and only documented commands."""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
from datetime import timedelta
from pathlib import Path

from flowli_core.driver import Step
from flowli_core.drivers.redis import _driver
from flowli_core.drivers.redis._keys import Keys
from flowli_core.drivers.redis._scripts import STALE, Scripts

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
    needed = {part for text in SCRIPTS.values() for part in re.findall("^-- Needs: (.*)$", text, re.MULTILINE)}
    assert {part for line in needed for part in line.split()} == set(FILES) - set(SCRIPTS)


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


class Learning:
    """A client whose server knows now two hundred queues, now none."""

    def __init__(self) -> None:
        self._is_stale = False
        self._queues: list[bytes] = []

    async def execute(self, *words: object) -> object:
        if words[0] == "SMEMBERS":
            self._queues = [] if self._queues else [b"queue-%d" % number for number in range(200)]
            return self._queues
        self._is_stale = not self._is_stale
        return STALE if self._is_stale else b"ok"

    async def at(self, key: str, *words: object) -> object:
        return await self.execute(key, *words)

    async def close(self) -> None:
        pass


def test_a_call_names_the_keys_of_the_same_queues_that_it_lists_whatever_another_thread_learns() -> None:
    """Leases are renewed from a thread. With other keys than it lists, a script would write to wrong ones."""
    keys = Keys("flowli")
    scripts = Scripts(Learning(), keys, lambda: -1)
    shared = len(keys.columns) + 1  # that of the worker
    done = threading.Event()

    async def learn() -> None:
        while not done.is_set():
            await scripts.overview()

    thread = threading.Thread(target=asyncio.run, args=(learn(),))
    thread.start()
    step = Step(worker="worker", sequence=1, queues=(), want=1, lease=timedelta(seconds=30))
    try:
        for _ in range(3000):
            count, *rest = scripts.step_command(step)[2:]
            assert isinstance(count, int)
            assert rest[count + 1] == (count - shared) / len(keys.of_queue("queue"))
    finally:
        done.set()
        thread.join()
