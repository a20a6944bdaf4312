"""The files of a new service: made from the templates, and written without overwriting any."""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from flowli_core import __version__

_SUFFIX = ".tmpl"
_NAMES = {"gitignore": ".gitignore"}
"""Names that tools give a meaning, which the templates must not have."""


def make_files(framework: str, *, name: str, framework_name: str) -> dict[str, str]:
    """Return the text of each file by its path in the folder of the service."""
    templates = files("flowli_core.cli._init") / "templates"
    values = {"name": name, "framework_name": framework_name, "version": __version__}
    found = (file for part in ("common", framework) for file in _walk(templates / part))
    return {path: Template(text).substitute(values) for path, text in sorted(found)}


def _walk(folder: Traversable, parent: str = "") -> Iterator[tuple[str, str]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{parent}{entry.name}/")
        elif entry.name.endswith(_SUFFIX):
            name = entry.name.removesuffix(_SUFFIX)
            yield parent + _NAMES.get(name, name), entry.read_text(encoding="utf-8")


def name_of(folder: Path) -> str:
    """Return a name for the service in this folder, which is also a valid prefix in Redis."""
    words: list[str] = re.findall(r"[a-z0-9]+", folder.resolve().name.lower())
    return "-".join(words)[:40] or "app"


def find_conflicts(folder: Path, paths: Mapping[str, str]) -> list[str]:
    """Return the files that exist already, and modules that a new package would hide."""
    packages = {Path(path).parent for path in paths if path.endswith("/__init__.py")}
    hidden = [f"{package}.py" for package in packages]
    # Links to nowhere exist, too.
    return [path for path in [*paths, *hidden] if os.path.lexists(folder / path)]


def write_files(folder: Path, texts: Mapping[str, str]) -> None:
    """Write all files, or none if one of them cannot be written. Raises OSError."""
    with contextlib.ExitStack() as undo:
        for path, text in texts.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8", newline="\n") as stream:
                undo.callback(file.unlink)
                stream.write(text)
        undo.pop_all()
