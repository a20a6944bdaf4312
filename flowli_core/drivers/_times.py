"""Times and durations in whole milliseconds, as stores keep them; times count from 1970 in UTC."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from flowli_core.durations import ZERO

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_FIRST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MS
LAST_STAMP = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MS
_LONGEST = timedelta.max // _MS

SKIPPED_NUMBERS = 60_000_000
"""The number of tokens and revisions that a store skips if its clock was set back: the microseconds of a minute.

It may have lost its last writes at the same time, as in a failover to a server whose clock is behind. Otherwise the
tokens are at least the time, so none that was lost is used again.
"""


def milliseconds(duration: timedelta) -> int:
    """Return a duration in whole milliseconds."""
    return duration // _MS


def duration(milliseconds: int) -> timedelta:
    """Return a duration of milliseconds as a timedelta. One that is too long, which was damaged, is cut."""
    return min(milliseconds, _LONGEST) * _MS


def stamp(moment: datetime) -> int:
    """Return a moment in ms since 1970. Raises TypeError if it is naive."""
    return (moment - _EPOCH) // _MS


@lru_cache(maxsize=64)
def moment(stamp: int) -> datetime:
    """Return the moment of a time in ms since 1970. Cached, because the records of a batch share their times.

    A time out of range, which was damaged by hand, becomes the nearest possible moment: one bad record must not hide
    the others.
    """
    return _EPOCH + min(max(stamp, _FIRST), LAST_STAMP) * _MS


def moment_or_none(stamp: int | None) -> datetime | None:
    """Return the moment of a time, or None if there is none."""
    return None if stamp is None else moment(stamp)


def expiry_at(expires: timedelta | datetime | None, due: int) -> int | None:
    """Return when a record that is due at a time expires, or None if it never does."""
    if expires is None:
        return None
    return min(max(stamp(expires) if isinstance(expires, datetime) else due + milliseconds(expires), 1), LAST_STAMP)


def due_at(due: timedelta | datetime, now: int) -> int:
    """Return when a record is due. A moment in the past means now."""
    if due is ZERO:
        return now
    return max(stamp(due) if isinstance(due, datetime) else now + milliseconds(due), now)
