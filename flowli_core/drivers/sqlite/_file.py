"""Opening the file, creating it if it is new, and checking that this version can use it."""

import contextlib
import os
import shutil
import sqlite3
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from flowli_core.drivers.sqlite._damage import decode
from flowli_core.drivers.sqlite._sql import SQL
from flowli_core.drivers.sqlite._transaction import snapshot
from flowli_core.errors import DriverError, StoreDamaged, StoreUnavailable
from flowli_core.limits import MAX_BATCH_BYTES

Synchronous = Literal["normal", "full"]

APPLICATION_ID = 0x464C574C
"""Marks a file as one of Flowli ("FLWL"), also for the `file` program."""

LAYOUT = 12
"""The layout of the tables that this version uses, stored in the file as its user_version."""

OLDEST_SQLITE = (3, 35, 0)

ROOM_KEPT = MAX_BATCH_BYTES
"""The room on the disk that new records may not take: enough for the outcomes of a step."""

_CACHE_KIB = 16 * 1024
_WAL_LEFT = 64 * 1024 * 1024
_RETRY_SECONDS = 0.005

_creating = threading.Lock()
if sys.platform != "win32":
    os.register_at_fork(before=_creating.acquire, after_in_parent=_creating.release, after_in_child=_creating.release)


def check_sqlite() -> None:
    """Raise DriverError if the SQLite of this Python is too old."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE[:2]))
        raise DriverError(
            f"SQLite {sqlite3.sqlite_version} is too old; use a Python that was built with {oldest} or newer"
        )


def connect(path: str, *, busy_seconds: float) -> sqlite3.Connection:
    """Open a connection for the calling thread, without automatic transactions."""
    _create_private(path)
    connection = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None, cached_statements=64)
    connection.execute("PRAGMA temp_store = memory")
    return connection


def connect_reader(path: str, *, busy_seconds: float) -> sqlite3.Connection:
    """Open a connection that cannot write."""
    connection = connect(path, busy_seconds=busy_seconds)
    connection.execute("PRAGMA query_only = on")
    connection.row_factory = sqlite3.Row
    connection.text_factory = decode
    return connection


def connect_writer(path: str, *, busy_seconds: float, synchronous: Synchronous) -> sqlite3.Connection:
    """Open the connection that writes, and create the tables if the file is new. Raises DriverError.

    Several processes may do this at the same time, so the decision is made under the write lock.
    """
    try:
        connection = connect(path, busy_seconds=busy_seconds)
    except sqlite3.OperationalError as error:
        raise _explain(path) from error
    try:
        # Before anything is written: a file of another application must stay as it is.
        with snapshot(connection):
            _is_new(connection, path)
        _use_wal(connection, path, busy_seconds)
        connection.execute("PRAGMA synchronous = " + synchronous)
        # Without this a purge writes as much as it removes, for which a disk that is nearly full has no room.
        connection.execute("PRAGMA secure_delete = fast")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_LEFT}")
        # Also if the tables exist: it fails if the file cannot be written.
        connection.execute("BEGIN IMMEDIATE")
        if _is_new(connection, path):
            for statement in _statements_of(SQL["schema"]):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {LAYOUT}")
        connection.execute("COMMIT")
        connection.execute("SELECT 1 FROM json_each('[]')")  # raises if SQLite was built without JSON
    except BaseException:
        connection.close()
        raise
    return connection


class OpenFiles:
    """The file and the two files beside it as they were opened, to notice when one of them is removed or replaced."""

    def __init__(self, path: str) -> None:
        real = os.path.realpath(path)
        self._paths = (real, real + "-wal", real + "-shm")
        self._opened = [_identity(path) for path in self._paths]

    def check(self, connection: sqlite3.Connection) -> None:
        """Raise StoreDamaged if one of the files is not the one that was opened. `connection` is one that writes.

        If only a file beside it is gone, first write the content of the log to the file, unless another process has
        begun a new log.
        """
        found = [_identity(path) for path in self._paths]
        if found == self._opened:
            return
        gone = [path for path, before, now in zip(self._paths, self._opened, found, strict=True) if before != now]
        if gone[0] == self._paths[0]:
            raise StoreDamaged(
                f"{gone[0]} was removed or replaced while it was open; close the driver and open it again"
            )
        is_saved = not any(map(_has_content, gone)) and _move_log(connection)
        outcome = "no job was lost" if is_saved else "jobs that were stored before may be lost"
        raise StoreDamaged(
            f"{gone[0]} was removed or replaced while {self._paths[0]} was open, and {outcome}; "
            "end all processes that use the file, and start them again"
        )


def _identity(path: str) -> tuple[int, int] | None:
    """Return device and inode of a file; None if there is no file.

    Do not open the file for this: closing any descriptor of a file drops all locks that this process holds on it.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 - called for each transition, and a Path takes twice as long
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _has_content(path: str) -> bool:
    try:
        return Path(path).stat().st_size > 0
    except OSError:
        return False


def _move_log(connection: sqlite3.Connection) -> bool:
    """Write the content of the log to the file. Return True if all of it was written."""
    busy, size, moved = connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
    return not busy and size == moved


def free_bytes(path: str) -> int:
    """Return how many bytes are left on the disk of the file, or `sys.maxsize` if that cannot be found out."""
    try:
        return shutil.disk_usage(Path(path).parent).free
    except OSError:
        return sys.maxsize


def check_room(connection: sqlite3.Connection, path: str) -> None:
    """Raise StoreUnavailable if new records would take the room that is kept for settling and purging.

    On a full disk, not even a purge could be written.
    """
    if not has_room(connection, path):
        raise StoreUnavailable(
            f"{path} has less than {ROOM_KEPT // 1024**2} MiB left on its disk, and these are kept for settling and "
            "purging jobs; make room, or purge finished jobs, and repeat the call"
        )


def has_room(connection: sqlite3.Connection, path: str) -> bool:
    """Return True if there is more room than is kept for settling and purging."""
    if free_bytes(path) >= ROOM_KEPT:
        return True
    pages, size = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_size")]
    return bool(pages * size >= ROOM_KEPT)


def _is_new(connection: sqlite3.Connection, path: str) -> bool:
    """Return True if the file has no tables yet. Raises DriverError if they are of another application or layout.

    Call it in a transaction, because another process may be creating the tables.
    """
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    layout: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if application == APPLICATION_ID:
        if layout != LAYOUT:
            cure = "upgrade flowli" if layout > LAYOUT else "open it with the version that made it"
            raise DriverError(f"{path} has layout {layout}, and this version of flowli knows layout {LAYOUT}; {cure}")
        return False
    has_tables = connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None
    if application or layout or has_tables:
        raise DriverError(f"{path} belongs to another application; give Flowli a file of its own")
    return True


def _use_wal(connection: sqlite3.Connection, path: str, busy_seconds: float) -> None:
    """Turn the write-ahead log on.

    The change needs the file alone, and if several processes try at once, SQLite does not always wait for that.
    """
    deadline = time.monotonic() + busy_seconds
    mode = ""
    while not mode:
        try:
            mode = connection.execute("PRAGMA journal_mode = wal").fetchone()[0]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)
    if mode != "wal":
        raise DriverError(f"{path} cannot use a write-ahead log; put it on a local disk, not on a network share")


def _statements_of(script: str) -> Iterator[str]:
    """Split a script into statements; `executescript` would commit the transaction that it runs in."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _create_private(path: str) -> None:
    """Create the file, if it does not exist, for this user only. SQLite gives its mode to the two files beside it.

    The lock keeps other threads from opening the file before its descriptor is closed: closing it would drop their
    locks on the file. If the file cannot be created, opening it fails as well.
    """
    with _creating, contextlib.suppress(OSError):
        os.close(os.open(os.path.realpath(path), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _explain(path: str) -> DriverError:
    file = Path(path)
    no_right = DriverError(f"{path} cannot be opened; give this user the right to read and write it and its folder")
    try:
        has_folder = stat.S_ISDIR(file.parent.stat().st_mode)
    except PermissionError:
        return no_right
    except OSError:
        has_folder = False
    if not has_folder:
        return DriverError(f"{path} cannot be opened: the folder {file.parent} does not exist; make it first")
    if not os.access(file.parent, os.X_OK):
        return no_right
    if file.is_dir():
        return DriverError(f"{path} is a folder; give the path of a file in it")
    if not os.access(file if file.exists() else file.parent, os.R_OK | os.W_OK):
        return no_right
    return StoreUnavailable(f"{path} cannot be opened; check that file descriptors are left (ulimit -n)")
