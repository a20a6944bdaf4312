"""What SQLite complains of, as errors of ours: which file, what is wrong, and the cure. Never a value from a row."""

from __future__ import annotations

import sqlite3

from flowli_core.errors import DriverError, StoreUnavailable

_PASSING = {
    sqlite3.SQLITE_BUSY: "stayed locked for longer than busy_timeout; end the transaction that another program "
    "holds on it, or raise busy_timeout",
    sqlite3.SQLITE_LOCKED: "is locked; repeat the call",
    sqlite3.SQLITE_PROTOCOL: "could not be locked; repeat the call",
    sqlite3.SQLITE_FULL: "has no room left on its disk; make room and repeat the call",
    sqlite3.SQLITE_IOERR: "could not be read or written; look after its disk and repeat the call",
    sqlite3.SQLITE_CANTOPEN: "could not be opened; see that its folder can be written, and file descriptors are left",
    sqlite3.SQLITE_NOMEM: "could not be worked on for lack of memory; repeat the call",
}
_LASTING = {
    sqlite3.SQLITE_READONLY: "cannot be written; give this user the right to write it and its folder, where SQLite "
    "keeps two files beside it",
    sqlite3.SQLITE_PERM: "may not be used; give this user the right to read and write it and its folder",
    sqlite3.SQLITE_AUTH: "may not be used; give this user the right to read and write it and its folder",
    sqlite3.SQLITE_NOTADB: "is not an SQLite database; give another path",
    sqlite3.SQLITE_CORRUPT: "is damaged; restore it from a backup, or save what can be saved with the .recover command "
    "of the sqlite3 program",
    sqlite3.SQLITE_TOOBIG: "cannot take a value that long; store a reference to it instead",
}
_PRIMARY = 0xFF


def translated(error: sqlite3.Error, path: str) -> DriverError:
    """Answer the error to raise in place of one of SQLite's."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & _PRIMARY
    if primary in _PASSING:
        return StoreUnavailable(f"{path} {_PASSING[primary]} ({error.sqlite_errorname})")
    if primary in _LASTING:
        return DriverError(f"{path} {_LASTING[primary]} ({error.sqlite_errorname})")
    name = type(error).__name__ if code is None else error.sqlite_errorname
    return DriverError(f"{path} refused a statement ({name}); has somebody changed its tables by hand?")
