"""The environments of the programs: a virtual environment or a folder of Node modules for each peer."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .subjects import OURS, Subject

BENCHMARKS = Path(__file__).parents[1]
ROOT = BENCHMARKS.parent / ".bench"
PYTHON_VARIABLE = "NEWER_PYTHON"
_VERSION = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"


class NotInstalledError(Exception):
    """A peer that cannot be measured, with the reason."""


def _python(subject: Subject) -> Path:
    return ROOT / subject.folder / "bin" / "python" if subject.is_peer else Path(sys.executable)


def is_installed(subject: Subject) -> bool:
    """Return True if nothing needs to be installed."""
    return not subject.is_peer or (ROOT / subject.folder / "ready").exists()


def install(subject: Subject) -> None:
    """Install the newest versions of a peer's packages, by pip or npm."""
    if is_installed(subject):
        return
    folder = ROOT / subject.folder
    folder.mkdir(parents=True, exist_ok=True)
    if subject.folder == "bullmq":
        if shutil.which("npm") is None:
            raise NotInstalledError("there is no npm")
        _run("npm", "install", "--silent", "--no-fund", "--no-audit", *subject.packages, folder=folder)
    else:
        _run(_newer_python() if subject.newer_python else sys.executable, "-m", "venv", str(folder))
        _run(str(_python(subject)), "-m", "pip", "install", "--quiet", *subject.packages)
    (folder / "ready").touch()


def _newer_python() -> str:
    names = [os.environ.get(PYTHON_VARIABLE, ""), sys.executable, "python3.14", "python3.13", "python3.12"]
    for name in filter(None, names):
        found = shutil.which(name)
        if found and subprocess.run([found, "-c", "import sys; sys.exit(sys.version_info < (3, 12))"]).returncode == 0:  # noqa: S603, PLW1510
            return found
    raise NotInstalledError(f"it needs Python 3.12 or later: name one in {PYTHON_VARIABLE}")


def _run(*words: str, folder: Path | None = None) -> None:
    ended = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    if ended.returncode:
        said = (ended.stderr or ended.stdout).strip().splitlines() or ["it said nothing"]
        raise NotInstalledError(f"{words[0]} failed: {said[-1]}")


def command(subject: Subject, url: str) -> tuple[list[str], Path, dict[str, str]]:
    """Return the words, the folder and the environment variables that run a program."""
    if subject.folder == "bullmq":
        script = BENCHMARKS / "bench" / "peers" / subject.words[0]
        return ["node", str(script), url], ROOT / subject.folder, dict(os.environ)
    words = [str(_python(subject)), "-m", f"benchmarks.bench.peers.{subject.words[0]}", url, *subject.words[1:]]
    return words, BENCHMARKS.parent, dict(os.environ)


def version(subject: Subject) -> str:
    """Return the version of a program."""
    if subject.folder == "bullmq":
        about = json.loads((ROOT / "bullmq/node_modules/bullmq/package.json").read_text())
        node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)  # noqa: S607
        return f"{about['version']}, Node {node.stdout.strip().removeprefix('v')}"
    if subject.name == OURS:
        return importlib.metadata.version("flowli")
    if not subject.is_peer:
        return ", ".join([f"{name} {importlib.metadata.version(name)}" for name in ("redis", "hiredis", "uvloop")])
    package = subject.packages[0].split("[")[0]
    found = subprocess.run(  # noqa: S603
        [str(_python(subject)), "-c", _VERSION, package], capture_output=True, text=True, check=True
    )
    return found.stdout.strip()
