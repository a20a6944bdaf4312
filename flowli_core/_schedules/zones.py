"""Time zones: the next tick of an expression in local time, also on the nights when the clock is set forward or back.

The rule is that of Debian's cron. An expression with fixed minutes and hours fires once for each local time that
matches. If the clock skips that time, it fires at the first instant after the gap. If that time comes twice, it fires
the first time only. An expression whose minute or hour begins with a star follows elapsed time: it fires at every
instant whose local time matches, so not at all for a skipped time, and twice for a repeated one.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from flowli_core._checks import shown
from flowli_core._schedules.cron import CronTimes
from flowli_core.errors import SchedulingError

_LONGEST_NAME = 64
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+\-]*(/[A-Za-z0-9_+\-]+)*", re.ASCII)
_MACHINE_DEPENDENT = frozenset({"localtime", "posixrules", "factory"})
_SECOND = timedelta(seconds=1)
_ONE_DAY = timedelta(days=1)


@lru_cache(maxsize=256)
def find_zone(name: str) -> ZoneInfo:
    """Return a time zone of the IANA database. Raises SchedulingError if there is none of this name."""
    if len(name) <= _LONGEST_NAME and _NAME.fullmatch(name) and name.lower() not in _MACHINE_DEPENDENT:
        try:
            return ZoneInfo(name)
        except (LookupError, ValueError, OSError):
            pass
    raise SchedulingError(
        f'timezone must be a name in the IANA database, such as "UTC" or "Europe/Paris", got {shown(name)}'
    )


def next_fixed(times: CronTimes, zone: ZoneInfo, after: datetime) -> datetime | None:
    """Return the next tick of an expression with fixed minutes and hours."""
    for local in _matches(times, _to_local(after, zone)):
        moment = _to_utc(local, zone, fold=0)
        if _to_local(moment, zone) != local:
            moment = _end_of_gap(local, zone)
        if moment > after:
            return moment
    return None


def next_elapsed(times: CronTimes, zone: ZoneInfo, after: datetime) -> datetime | None:
    """Return the next tick of an expression that follows elapsed time."""
    found = [_first_match(times, zone, _to_local(after, zone), after)]
    if (change := _find_set_back(zone, after)) is not None:
        # The local times before the change come a second time.
        found.append(_first_match(times, zone, _to_local(change, zone) - _SECOND, change - _SECOND))
    return min((moment for moment in found if moment is not None), default=None)


def _first_match(times: CronTimes, zone: ZoneInfo, local: datetime, after: datetime) -> datetime | None:
    """Return the first instant later than `after` whose local time matches and is later than `local`."""
    for match in _matches(times, local):
        for fold in (0, 1):  # when the clock is set back, a local time comes twice
            moment = _to_utc(match, zone, fold=fold)
            if moment > after and _to_local(moment, zone) == match:  # not if the clock is set forward over it
                return moment
    return None


def _matches(times: CronTimes, local: datetime) -> Iterator[datetime]:
    match = times.after(local)
    while match is not None:
        yield match
        match = times.after(match)


def _to_local(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def _to_utc(local: datetime, zone: ZoneInfo, *, fold: int) -> datetime:
    return local.replace(tzinfo=zone, fold=fold).astimezone(UTC)


def _end_of_gap(local: datetime, zone: ZoneInfo) -> datetime:
    """Return the instant at which the clock is set forward over this local time."""
    return _offset_change(zone, _to_utc(local, zone, fold=1), _to_utc(local, zone, fold=0))


def _find_set_back(zone: ZoneInfo, after: datetime) -> datetime | None:
    """Return the instant at which the clock is set back within the next day, or None if it is not."""
    offset = after.astimezone(zone).utcoffset()
    later = (after + _ONE_DAY).astimezone(zone).utcoffset()
    if offset is None or later is None or later >= offset:
        return None
    return _offset_change(zone, after, after + _ONE_DAY)


def _offset_change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """Return the first instant between the two, to the second, whose offset is not that of `before`."""
    start = before.replace(microsecond=0)
    offset = start.astimezone(zone).utcoffset()

    def has_changed(second: int) -> bool:
        return (start + second * _SECOND).astimezone(zone).utcoffset() != offset

    first = bisect_left(range(-(-(after - start) // _SECOND)), 1, key=has_changed)
    return start + first * _SECOND
