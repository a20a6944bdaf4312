"""The path that a user gives to the driver."""

import os
import re
from pathlib import Path

from flowli_core import _checks
from flowli_core.errors import DefinitionError

_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]+):/|(file|memory|sqlite):")
_IN_MEMORY = "; to keep records in memory use MemoryDriver"
_SCHEMES_OF_SERVERS = ("redis", "rediss", "valkey", "valkeys")


def checked_path(path: str | os.PathLike[str]) -> str:
    """Return the absolute path of a file. Raises DefinitionError for anything else, such as a URL."""
    try:
        given: str | bytes = os.fspath(path)
    except TypeError:
        raise DefinitionError(f"path must be the path of a file, got {type(path).__name__}") from None
    if isinstance(given, bytes) or not given or given.startswith(":") or "\0" in given:
        raise DefinitionError(f"path must be the path of a file, got {_checks.shown(given)}{_IN_MEMORY}")
    url = _URL.match(given)
    if url is not None:
        raise DefinitionError(f"path must be the path of a file, not a URL{_cure(given, url['scheme'])}")
    try:
        return str(Path(given).absolute())
    except OSError:
        raise DefinitionError("path is relative, but the current folder was removed; give an absolute path") from None


def _cure(url: str, scheme: str | None) -> str:
    """Return what to write in place of a URL. The URL itself is not shown: it may hold a password."""
    if scheme in _SCHEMES_OF_SERVERS:
        return "; for a server use RedisDriver.from_url(...)"
    kind, _, rest = url.partition(":")
    if "memory" in kind or ":memory:" in rest or not rest.strip("/"):
        return f'{_IN_MEMORY}, and for a file SqliteDriver("jobs.db")'
    if not kind.startswith(("sqlite", "file")):
        return ': SqliteDriver("jobs.db")'
    path = rest.partition("?")[0]
    if kind.startswith("sqlite"):
        # SQLAlchemy writes a relative path after three slashes, and an absolute one after four.
        path = path.removeprefix("///" if path.startswith("//") else "/")
    else:
        path = path.removeprefix("//")
    return f": SqliteDriver({_checks.shown(path)})"
