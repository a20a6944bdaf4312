"""Times and durations as stores have them: whole milliseconds, counted from 1970 in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from flowli_core.durations import ZERO

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_FIRST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MS
_LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MS


def milliseconds(duration: timedelta) -> int:
    """Answer the whole milliseconds in a duration."""
    return duration // _MS


def duration(milliseconds: int) -> timedelta:
    """Answer the duration of so many milliseconds."""
    return milliseconds * _MS


def stamp(moment: datetime) -> int:
    """Answer a moment in ms since 1970. Raises TypeError where it is naive."""
    return (moment - _EPOCH) // _MS


@lru_cache(maxsize=64)
def moment(stamped: int) -> datetime:
    """Answer the moment of a stamp. Cached, because the records of a batch share theirs.

    A stamp that was damaged by hand is read as the nearest moment there is: one bad record must not hide the others.
    """
    return _EPOCH + min(max(stamped, _FIRST), _LAST) * _MS


def moment_or_none(stamped: int | None) -> datetime | None:
    """Answer the moment of a stamp, where there is one."""
    return None if stamped is None else moment(stamped)


def due_at(due: timedelta | datetime, now: int) -> int:
    """Answer when a record is due: a moment in the past means now."""
    if due is ZERO:
        return now
    return max(stamp(due) if isinstance(due, datetime) else now + milliseconds(due), now)
