"""`python -m tests.mutants [WORD...]`: break guards of the data in known ways, and check that the tests notice each.

Each mutation is made in a copy of the tree, never here. With words, only mutations whose file and name contain one of
them are tried. The exit code is 1 if a mutant survived, or if a mutation no longer applies to its file.
"""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

from tests.mutants.guards import GUARDS
from tests.mutants.mutation import Mutation
from tests.mutants.mutations import LUA

ROOT = Path(__file__).parents[2]
COPIED = ("flowli_core", "tests", "pyproject.toml")
MUTATIONS = (*LUA, *GUARDS)
AT_A_TIME = int(os.environ.get("FLOWLI_MUTANTS_AT_A_TIME", "2"))
LONGEST = 600
"""Seconds after which hanging tests count as having noticed the mutation."""

# Tests that may notice a mutation of a Lua script. The fastest stage comes first, because the first failure is enough.
LUA_STAGES = (
    ("tests/conformance", "-k", "redis and not least and not does_what_the_model_does"),
    ("tests/redis", "--deselect", "tests/redis/test_scripts.py"),
    ("tests/conformance/test_model.py", "-k", "redis and not least"),
)


def main(words: list[str]) -> int:
    """Try the mutations, print the results, and return the exit code."""
    chosen = [one for one in MUTATIONS if not words or any(word in _short(one) for word in words)]
    wrong = [one for one in MUTATIONS if _text(ROOT, one).count(one.old) != 1]
    for one in wrong:
        _say(f"NO LONGER APPLIES  {_short(one)}")
    todo: queue.SimpleQueue[Mutation] = queue.SimpleQueue()
    for one in chosen:
        if one not in wrong:
            todo.put(one)
    failing = _failing_without_a_mutation(chosen)
    if failing is not None:
        _say(f"{failing} fails without a mutation, so the mutants were not tried")
        return 1
    survivors: list[Mutation] = []
    threads = [threading.Thread(target=_try_all, args=(todo, survivors)) for _ in range(AT_A_TIME)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _say(f"{len(chosen)} mutations: {len(survivors)} survived, {len(wrong)} no longer apply")
    return 1 if survivors or wrong or not chosen else 0


@contextmanager
def _copy_of_the_tree() -> Generator[Path]:
    with tempfile.TemporaryDirectory(prefix="flowli-mutant-") as folder:
        copy = Path(folder).resolve()
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, copy / name)
        ask = (sys.executable, "-c", "import flowli_core; print(flowli_core.__file__)")
        used = subprocess.run(ask, cwd=copy, capture_output=True, text=True, check=True).stdout
        assert used.startswith(str(copy)), f"the tests would use {used}"
        yield copy


def _failing_without_a_mutation(chosen: Iterable[Mutation]) -> str | None:
    stages = dict.fromkeys([stage for one in chosen for stage in (LUA_STAGES if one.is_lua else (one.first,))])
    with _copy_of_the_tree() as copy:
        return _caught_by(copy, *stages)


def _try_all(todo: queue.SimpleQueue[Mutation], survivors: list[Mutation]) -> None:
    with _copy_of_the_tree() as copy:
        while True:
            try:
                mutation = todo.get_nowait()
            except queue.Empty:
                return
            began = time.monotonic()
            file, sound = copy / mutation.file, _text(copy, mutation)
            file.write_text(sound.replace(mutation.old, mutation.new))
            caught = _caught_by(copy, mutation.first, *(LUA_STAGES if mutation.is_lua else ()))
            file.write_text(sound)
            took = f"{time.monotonic() - began:4.0f} s"
            if caught is None:
                survivors.append(mutation)
                _say(f"SURVIVED {took}  {_short(mutation)}")
            else:
                _say(f"caught   {took}  {_short(mutation)}  [{caught}]")


def _caught_by(copy: Path, *stages: tuple[str, ...]) -> str | None:
    """Return the first test that fails on this copy, or None."""
    for stage in stages:
        command = (sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--tb=no", *stage)
        try:
            run = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=LONGEST, check=False)
        except subprocess.TimeoutExpired:
            return f"{stage[0]} hung"
        if run.returncode == 0:
            continue
        failed = [line.split(" ")[1] for line in run.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
        if run.returncode != 1 or not failed:
            # No test ran, so the result says nothing about the mutation.
            raise RuntimeError(run.stdout[-2000:] + run.stderr[-2000:])
        return failed[0]
    return None


def _text(root: Path, mutation: Mutation) -> str:
    return (root / mutation.file).read_text()


def _short(mutation: Mutation) -> str:
    return f"{mutation.file.removeprefix('flowli_core/')}: {mutation.name}"


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the output of this program


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
