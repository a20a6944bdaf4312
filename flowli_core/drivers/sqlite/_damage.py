"""Finding damaged rows, setting them aside, and computing damaged counts again.

A row is damaged if it was changed by hand or on the disk in a way that the tables do not allow. The calls do not look
for that. They assume that rows are sound, and if one is not, they raise an error of READ_ERRORS; then the driver calls
`repair`, which goes through the whole file, and repeats the call. Some damages raise nothing, but hide a row: a record
without a due time is never due. A step that finds nothing to do looks for them in the next rows of the file.
"""

import re
import sqlite3
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from types import NoneType
from typing import Any, Literal

from flowli_core.driver import Damaged
from flowli_core.drivers._times import LAST_STAMP, milliseconds
from flowli_core.drivers.sqlite._sql import run
from flowli_core.stored import FINISHED, FinishedState

_MOST = 2**60
"""No sound number is greater, so the sum of two fits into 64 bits."""

LONGEST = 64 * 1024 * 1024
"""A sound payload has at most so many bytes."""

CUT = 8 * 1024 * 1024
"""The attempts and the result of a record are read up to this length."""

_PER_SCAN = 200
_LANE_RECORDS_PER_SCAN = 10_000
_FIRST_NUMBER, _LAST_NUMBER = -(2**63), 2**63 - 1
_FIRST_LANE, _LAST_LANE = ("", ""), (b"\xff" * 9, b"")
"""They are before and after the names of all lanes and their queues: SQLite sorts bytes after texts."""
_KEEP = milliseconds(timedelta(days=14))

Status = Literal["waiting", "active"] | FinishedState
"""A state in the file. A waiting record is queued or scheduled, which depends on the time."""

STATUSES: Mapping[str, Status] = {"waiting": "waiting", "active": "active", **{state: state for state in FINISHED}}

Kinds = tuple[type, ...]
_TEXT: Kinds = (str,)
_TEXT_OR_NONE: Kinds = (str, NoneType)
_INT: Kinds = (int,)
_INT_OR_NONE: Kinds = (int, NoneType)

RECORD: Mapping[str, tuple[str, Kinds]] = {
    "id": ("id", _TEXT),
    "name": ("name", _TEXT),
    "queue": ("queue", _TEXT),
    "key": ("idempotency key", _TEXT_OR_NONE),
    "lane": ("lane", _TEXT_OR_NONE),
    "state": ("state", _TEXT),
    "due": ("due time", _INT),
    "token": ("token", _INT_OR_NONE),
    "settled": ("last token", _INT_OR_NONE),
    "lease_end": ("lease", _INT_OR_NONE),
    "worker": ("worker", _TEXT_OR_NONE),
    "cancel_at": ("expiry or cancel request", _INT),
    "recoveries": ("number of recoveries", _INT),
    "max_recoveries": ("limit of recoveries", _INT),
    "keep_completed": ("retention", _INT),
    "keep_failed": ("retention", _INT),
    "keep_id": ("retention", _INT),
    "unique_until": ("retention", _INT),
    "finished_at": ("end time", _INT_OR_NONE),
    "forget_at": ("retention", _INT_OR_NONE),
    "suspect": ("number of recoveries", _INT),
    "size": ("length", _INT_OR_NONE),
}
"""The columns of a record that must be sound, with their names for users."""

SCHEDULE: Mapping[str, tuple[str, Kinds]] = {
    "key": ("key", _TEXT),
    "queue": ("queue", _TEXT),
    "next_tick": ("next tick", _INT_OR_NONE),
    "last_tick": ("last tick", _INT_OR_NONE),
    "paused": ("pause", _INT),
    "last_record_id": ("last record", _TEXT_OR_NONE),
    "revision": ("revision", _INT),
}
"""The same of a schedule."""

KEPT_KEY: Mapping[str, tuple[str, Kinds]] = {"key": ("key", _TEXT), "id": ("id", _TEXT), "until": ("end", _INT)}
"""The same of a key that a completed record keeps."""

_GREATEST = {"due": LAST_STAMP, "cancel_at": LAST_STAMP, "finished_at": LAST_STAMP, "size": LONGEST}
"""The greatest sound numbers of columns for which that is less than _MOST: listings are in the order of these times."""


_LANE = re.compile("\n.*\n")
"""The beginning of the text of a lane: see _lanes.py."""


class DamagedRowError(Exception):
    """A row cannot be read."""


READ_ERRORS = (DamagedRowError, TypeError, KeyError, OverflowError, sqlite3.Error)
"""The errors that a damaged row may raise."""


class Repairer:
    """Sets damaged rows aside, for one driver. Used only on the thread that writes.

    `unreported` are the records that were set aside, for the answer of the next step.
    """

    def __init__(self) -> None:
        self.unreported: list[Damaged] = []
        self._scanned = _FIRST_NUMBER
        self._scanned_lane: tuple[object, object] = _FIRST_LANE

    def scan(self, connection: sqlite3.Connection, now: int) -> None:
        """Set the damaged records among the next rows aside, except those that are found when they become due.

        Also mend the next lanes.
        """
        self._scan_lanes(connection, now)
        end: int | None = run(connection, "find_end", after=self._scanned, limit=_PER_SCAN).fetchone()[0]
        if end is not None:
            found = _set_aside(connection, now, after=self._scanned, until=end, also_future=False)
            if found or run(connection, "count_without_lane", after=self._scanned, until=end).fetchone()[0]:
                _mend(connection, now)
            self.unreported += found
            self._scanned = end
            return
        self._scanned = _FIRST_NUMBER
        _stop_schedules(connection)
        run(connection, "mend_behind")
        _count_again(connection)

    def _scan_lanes(self, connection: sqlite3.Connection, now: int) -> None:
        lane, queue = self._scanned_lane
        limits = {"limit": _PER_SCAN, "most": _LANE_RECORDS_PER_SCAN}
        with decoding(connection):
            end = run(connection, "find_end_of_lanes", lane=lane, queue=queue, **limits).fetchone()
        if end is not None:
            _mend_lanes(connection, now, after=self._scanned_lane, until=tuple(end))
        self._scanned_lane = _FIRST_LANE if end is None else tuple(end)

    def repair(self, connection: sqlite3.Connection, now: int) -> bool:
        """Set all damaged rows aside, and compute counts again. Return False if there was nothing to repair."""
        before = connection.total_changes
        connection.execute("BEGIN IMMEDIATE")
        try:
            run(connection, "forget_other_stores")
            run(connection, "add_store")
            run(connection, "repair_store", now=now, most=_MOST, last=LAST_STAMP)
            run(connection, "forget_damaged_workers", most=_MOST)
            _stop_schedules(connection)
            damaged = _set_aside(connection, now, after=_FIRST_NUMBER, until=_LAST_NUMBER, also_future=True)
            _mend(connection, now)
            _remove_damaged_keys(connection)
            run(connection, "remove_damaged_starts", most=_MOST)
            _count_again(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self.unreported += damaged
        return connection.total_changes != before


def may_be_damage(error: Exception) -> bool:
    """Return True if a damaged row may have raised one of READ_ERRORS.

    The sqlite3 module raises errors without a code for texts that it cannot decode.
    """
    if not isinstance(error, sqlite3.Error):
        return True
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is None or code & 0xFF in {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH}


def decode(data: bytes) -> str | bytes:
    """Return the text, or the bytes if they are not UTF-8: a `text_factory` that does not raise."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def find_damage(row: Mapping[str, Any] | sqlite3.Row, columns: Mapping[str, tuple[str, Kinds]]) -> str | None:
    """Return what cannot be read of a row, as a clause for users; None if it is sound."""
    for column, (name, kinds) in columns.items():
        value = row[column]
        if type(value) not in kinds:
            return f"its {name} cannot be read"
        if type(value) is int and not 0 <= value <= _GREATEST.get(column, _MOST):
            return f"its {name} is out of range"
    return _find_contradiction(row) if columns is RECORD else None


def _find_contradiction(row: Mapping[str, Any] | sqlite3.Row) -> str | None:
    state = row["state"]
    if state not in STATUSES:
        return "its state cannot be read"
    is_active, is_finished = state == "active", state in FINISHED
    if (row["token"] is not None) != is_active or (row["lease_end"] is not None) != is_active:
        return "its lease does not fit its state"
    if (row["finished_at"] is not None) != is_finished or (row["forget_at"] is not None) != is_finished:
        return "its end time does not fit its state"
    if row["lane"] is not None and not _LANE.match(row["lane"]):
        return "its lane cannot be read"
    return None if row["suspect"] == (row["recoveries"] >= row["max_recoveries"]) else "its recoveries do not add up"


def is_damaged(connection: sqlite3.Connection, number: int) -> bool:
    """Return True if a record cannot be read."""
    return any(damage for _, damage in _find_damaged(connection, after=number - 1, until=number, known=True))


def find_all(connection: sqlite3.Connection) -> list[tuple[object, str]]:
    """Return the ids of all damaged records, also of those set aside, and what cannot be read of each."""
    set_aside = [(row["id"], row["damage"]) for row in _read(connection, "find_set_aside")]
    others = _find_damaged(connection, after=_FIRST_NUMBER, until=_LAST_NUMBER, known=False)
    return [*set_aside, *[(row["id"], damage) for row, damage in others]]


def _find_damaged(
    connection: sqlite3.Connection, *, after: int, until: int, known: bool
) -> list[tuple[dict[str, Any], str]]:
    limits = {"most": _MOST, "last": LAST_STAMP, "longest": LONGEST}
    rows = _read(connection, "find_possibly_damaged", after=after, until=until, known=known, **limits)
    return [(row, damage) for row in rows if (damage := find_damage(row, RECORD)) is not None]


@contextmanager
def decoding(connection: sqlite3.Connection) -> Generator[None]:
    """Let a connection that writes read texts that are not UTF-8, as bytes."""
    factory, connection.text_factory = connection.text_factory, decode
    try:
        yield
    finally:
        connection.text_factory = factory


def _read(connection: sqlite3.Connection, statement: str, **parameters: Any) -> list[dict[str, Any]]:
    with decoding(connection):
        cursor = run(connection, statement, **parameters)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, tuple(row), strict=True)) for row in cursor]


def _set_aside(connection: sqlite3.Connection, now: int, *, after: int, until: int, also_future: bool) -> list[Damaged]:
    """Make the damaged records of a range failed. A finished one keeps its state, and its times if they can be read."""
    found: list[Damaged] = []
    for row, damage in _find_damaged(connection, after=after, until=until, known=False):
        state, number = row["state"], row["number"]
        if state in FINISHED and _is_time(row["finished_at"], LAST_STAMP) and _is_time(row["forget_at"], _MOST):
            run(connection, "note_damage", number=number, damage=damage)
        elif also_future or not _is_future(row, now):
            keep = row["keep_failed"]
            keep = keep if type(keep) is int and 0 <= keep <= _MOST else _KEEP
            run(connection, "set_aside", number=number, now=now, keep=keep, damage=damage)
            record_id, queue = (value if type(value) is str else "" for value in (row["id"], row["queue"]))
            found.append(Damaged(id=record_id or "(unreadable)", queue=queue, damage=damage))
    return found


def _is_time(value: object, last: int) -> bool:
    return type(value) is int and 0 <= value <= last


def _is_future(row: dict[str, Any], now: int) -> bool:
    time = row["due"] if row["state"] == "waiting" else row["lease_end"] if row["state"] == "active" else None
    return type(time) is int and now < time <= _MOST


def _stop_schedules(connection: sqlite3.Connection) -> None:
    for row in _read(connection, "find_possibly_damaged_schedules", most=_MOST):
        damage = find_damage(row, SCHEDULE)
        if damage is not None:
            run(connection, "stop_schedule", key=row["key"], damage=damage)


def _remove_damaged_keys(connection: sqlite3.Connection) -> None:
    for row in _read(connection, "find_possibly_damaged_keys", most=_MOST):
        if find_damage(row, KEPT_KEY) is not None:
            run(connection, "remove_key", number=row["number"])


def _mend(connection: sqlite3.Connection, now: int) -> None:
    """Let records go on that wait for others which have finished, and mend all lanes."""
    run(connection, "mend_behind")
    if run(connection, "count_without_lane", after=_FIRST_NUMBER, until=_LAST_NUMBER).fetchone()[0]:
        _find_lanes_again(connection, now)
    _mend_lanes(connection, now, after=_FIRST_LANE, until=_LAST_LANE)


def _mend_lanes(
    connection: sqlite3.Connection, now: int, *, after: tuple[object, object], until: tuple[object, object]
) -> None:
    """Mend the lanes of a range, and let those go on that wait for places which are free."""
    lanes = {"lane": after[0], "queue": after[1], "last_lane": until[0], "last_queue": until[1]}
    if run(connection, "count_wrong_lanes", now=now, **lanes).fetchone()[0]:
        _find_lanes_again(connection, now)
    run(connection, "offer_stuck_lanes", now=now, **lanes)


def _find_lanes_again(connection: sqlite3.Connection, now: int) -> None:
    run(connection, "forget_lanes")
    run(connection, "find_lanes_again", now=now)


def count_wrong_lanes(connection: sqlite3.Connection, now: int) -> int:
    """Return how many lanes a scan would mend, with the records that are missing in theirs."""
    first = {"lane": _FIRST_LANE[0], "queue": _FIRST_LANE[1]}
    last = {"last_lane": _LAST_LANE[0], "last_queue": _LAST_LANE[1]}
    return sum(
        [
            run(connection, "count_wrong_lanes", now=now, **first, **last).fetchone()[0],
            run(connection, "count_stuck_lanes").fetchone()[0],
            run(connection, "count_without_lane", after=_FIRST_NUMBER, until=_LAST_NUMBER).fetchone()[0],
        ]
    )


def _count_again(connection: sqlite3.Connection) -> None:
    if run(connection, "count_wrong_counts").fetchone()[0]:
        run(connection, "forget_counts")
        run(connection, "count_again")


def noted(damage: object) -> str | None:
    """Return the damage that is noted in a row, even if this note is damaged itself."""
    return damage if damage is None or type(damage) is str else "the note about its damage cannot be read"
