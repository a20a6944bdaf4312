"""Local time, and what is done where it is set forward or back.

The rule, from Debian's cron: an expression that names its minutes and hours fires once for each local time. Where the
clock is set forward over such a time it fires at the first instant after the gap, and where the clock is set back it
fires at the first of the two. An expression whose minute or hour begins with a star follows real time: it fires at
every instant whose local time matches, so a time that is left out does not fire, and one that comes twice fires twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from flowli_core._schedules.cron import Walk
from flowli_core.errors import SchedulingError

_LONGEST_NAME = 64
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+\-]*(/[A-Za-z0-9_+\-]+)*", re.ASCII)
_OF_THIS_MACHINE = frozenset({"localtime", "posixrules", "factory"})
_SECOND = timedelta(seconds=1)
_ONE_DAY = timedelta(days=1)


@lru_cache(maxsize=256)
def zone(name: str) -> ZoneInfo:
    """Find a time zone of the IANA database. Raises SchedulingError."""
    if len(name) <= _LONGEST_NAME and _NAME.fullmatch(name) and name.lower() not in _OF_THIS_MACHINE:
        try:
            return ZoneInfo(name)
        except (LookupError, ValueError, OSError):
            pass
    raise SchedulingError(
        f'timezone must be a name of the IANA database, such as "UTC" or "Europe/Paris", got {name[:_LONGEST_NAME]!r}'
    )


def next_fixed(walk: Walk, place: ZoneInfo, after: datetime) -> datetime | None:
    """Answer the next tick of an expression that names its minutes and hours."""
    for wall in _walls(walk, _wall(after, place)):
        moment = _instant(wall, place, fold=0)
        if _wall(moment, place) != wall:
            moment = _end_of_gap(wall, place)
        if moment > after:
            return moment
    return None


def next_in_real_time(walk: Walk, place: ZoneInfo, after: datetime) -> datetime | None:
    """Answer the next tick of an expression that follows real time."""
    found = [_first_match(walk, place, _wall(after, place), after)]
    if (change := _set_back(place, after)) is not None:
        # Local times that have been will come again.
        found.append(_first_match(walk, place, _wall(change, place) - _SECOND, change - _SECOND))
    return min((moment for moment in found if moment is not None), default=None)


def _first_match(walk: Walk, place: ZoneInfo, wall: datetime, after: datetime) -> datetime | None:
    """Answer the first instant after this one whose local time matches and is later than `wall`."""
    for later in _walls(walk, wall):
        for fold in (0, 1):
            moment = _instant(later, place, fold=fold)
            if moment > after and _wall(moment, place) == later:
                return moment
    return None


def _walls(walk: Walk, wall: datetime) -> Iterator[datetime]:
    """Each local time after this one that matches."""
    later = walk.after(wall)
    while later is not None:
        yield later
        later = walk.after(later)


def _wall(moment: datetime, place: ZoneInfo) -> datetime:
    return moment.astimezone(place).replace(tzinfo=None, fold=0)


def _instant(wall: datetime, place: ZoneInfo, *, fold: int) -> datetime:
    return wall.replace(tzinfo=place, fold=fold).astimezone(UTC)


def _end_of_gap(wall: datetime, place: ZoneInfo) -> datetime:
    """Answer the instant at which the clock is set forward over a local time."""
    return _change(place, _instant(wall, place, fold=1), _instant(wall, place, fold=0))


def _set_back(place: ZoneInfo, after: datetime) -> datetime | None:
    """Answer the instant within a day at which the clock is set back."""
    offset = after.astimezone(place).utcoffset()
    later = (after + _ONE_DAY).astimezone(place).utcoffset()
    if offset is None or later is None or later >= offset:
        return None
    return _change(place, after, after + _ONE_DAY)


def _change(place: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """Answer the first instant, to the second, whose offset is no longer that of `before`."""
    low = before.replace(microsecond=0)
    offset = low.astimezone(place).utcoffset()
    high_by = -(-(after - low) // _SECOND)
    low_by = 0
    while high_by - low_by > 1:
        middle = (low_by + high_by) // 2
        if (low + middle * _SECOND).astimezone(place).utcoffset() == offset:
            low_by = middle
        else:
            high_by = middle
    return low + high_by * _SECOND
