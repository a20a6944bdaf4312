"""Errors of SQLite as DriverErrors. They name the file, the fault and the cure, and never a value from a row."""

import sqlite3
import sys
from pathlib import Path

from flowli_core.drivers.sqlite._file import free_bytes
from flowli_core.errors import DriverError, StoreDamaged, StoreUnavailable

if sys.platform != "win32":
    import resource

DAMAGED = (
    "is damaged; restore it from a backup, or recover what you can with the .recover command of the sqlite3 program"
)

_TEMPORARY = {
    sqlite3.SQLITE_BUSY: "stayed locked for longer than busy_timeout; end the transaction that another program "
    "holds on it, or raise busy_timeout",
    sqlite3.SQLITE_LOCKED: "is locked; repeat the call",
    sqlite3.SQLITE_PROTOCOL: "could not be locked; repeat the call",
    sqlite3.SQLITE_FULL: "has no room left on its disk; make room and repeat the call",
    sqlite3.SQLITE_IOERR: "could not be read or written; check its disk and its quota, and repeat the call",
    sqlite3.SQLITE_CANTOPEN: "could not be opened; check that its folder can be written and file descriptors are left",
    sqlite3.SQLITE_NOMEM: "could not be used because memory ran out; repeat the call",
}
_PERMANENT = {
    sqlite3.SQLITE_READONLY: "cannot be written; give this user the right to write it and its folder, where SQLite "
    "keeps two files beside it",
    sqlite3.SQLITE_PERM: "may not be used; give this user the right to read and write it and its folder",
    sqlite3.SQLITE_AUTH: "may not be used; give this user the right to read and write it and its folder",
    sqlite3.SQLITE_NOTADB: "is not an SQLite database; give another path",
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_TOOBIG: "cannot take a value that long; store a reference to it instead",
}
_DAMAGED = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}
_PRIMARY = 0xFF
_NEAR_LIMIT = 1024 * 1024
_LEAST_ROOM = 64 * 1024
"""Less than this is too little for the two files that SQLite keeps beside an open one."""


def translate(error: sqlite3.Error, path: str) -> DriverError:
    """Return the error to raise in place of one of SQLite's."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & _PRIMARY
    if primary == sqlite3.SQLITE_IOERR and free_bytes(path) < _LEAST_ROOM:
        primary = sqlite3.SQLITE_FULL
    if primary in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL} and (limit := _reached_limit(path)) is not None:
        return StoreUnavailable(
            f"{path} cannot grow, because this process may write files of at most {limit} bytes; "
            f"raise that limit (ulimit -f) and start the process again ({error.sqlite_errorname})"
        )
    if primary in _TEMPORARY:
        return StoreUnavailable(f"{path} {_TEMPORARY[primary]} ({error.sqlite_errorname})")
    if primary in _PERMANENT:
        kind = StoreDamaged if primary in _DAMAGED else DriverError
        return kind(f"{path} {_PERMANENT[primary]} ({error.sqlite_errorname})")
    name = type(error).__name__ if code is None else error.sqlite_errorname
    return StoreDamaged(f"{path} refused a statement ({name}); were its tables changed by hand?")


def _reached_limit(path: str) -> int | None:
    """Return the largest size of a file that this process may write, if one of the files has nearly reached it."""
    if sys.platform == "win32":
        return None
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    files = [Path(path), Path(path + "-wal")]
    largest = max([file.stat().st_size for file in files if file.exists()], default=0)
    return limit if limit != resource.RLIM_INFINITY and largest + _NEAR_LIMIT > limit else None
