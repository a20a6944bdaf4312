"""The five fields of a cron expression: checked here, and then walked by croniter.

croniter alone takes much that no crontab does, or that means something else than it seems: six and seven fields, random
and hashed values, `1-1` for every value, `5-1` backwards. So an expression is read here first, strictly, and croniter
gets plain lists of numbers, of which there is only one reading.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from importlib import import_module
from typing import Any

from flowli_core.errors import SchedulingError

LONGEST = 256
LOOK_AHEAD_YEARS = 8
"""An expression must fire within so many years. February 29 does, also where a century has none between."""

_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_SUNDAY = 7
_PART = re.compile(r"(\*|([0-9]{1,2}|[a-z]{3})(?:-([0-9]{1,2}|[a-z]{3}))?)(?:/([0-9]{1,3}))?", re.ASCII)
_NTH = re.compile(r"([0-7]|[a-z]{3})#([1-5])", re.ASCII)
_ALLOWED = re.compile(r"[0-9A-Za-z*/,\-#@? \t]*", re.ASCII)
_FIRST_LOOK = datetime(2023, 12, 31, 23, 59)  # noqa: DTZ001 - local time, of no zone
_FURTHEST_YEARS = 40
"""In which any day of any month falls on each day of the week."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    first_name: int = 0

    def number(self, text: str, expression: str) -> int:
        """Read a number or a name."""
        if text in self.names:
            return self.names.index(text) + self.first_name
        if not text.isdigit() or not self.low <= int(text) <= self.high:
            names = f", or {self.names[0]} to {self.names[-1]}" if self.names else ""
            raise _refused(expression, f"{self.name} must be from {self.low} to {self.high}{names}, not {text!r}")
        return int(text)


_FIELDS = (
    _Field("the minute", 0, 59),
    _Field("the hour", 0, 23),
    _Field("the day of the month", 1, 31),
    _Field("the month", 1, 12, _MONTHS, 1),
    _Field("the day of the week", 0, 7, _DAYS),
)
_DAY, _WEEKDAY = 2, 4


class Walk:
    """An expression that was read: it finds local times that match, in order, of no zone.

    `is_fixed` says that it names its minutes and hours, rather than taking every so many of them.
    """

    def __init__(self, expression: str) -> None:
        fields = _split(expression)
        minute, hour, day, month, weekday = [
            _read(field, text, expression) for field, text in zip(_FIELDS, fields, strict=True)
        ]
        self.is_fixed = not fields[0].startswith("*") and not fields[1].startswith("*")
        # Where both days are restricted either will do, but for one that begins with a star: as cron has always had it.
        either = not any(fields[index].startswith("*") for index in (_DAY, _WEEKDAY))
        days = [(day, "*"), ("*", weekday)] if either else [(day, weekday)]
        plain = [f"{minute} {hour} {of_month} {month} {of_week}" for of_month, of_week in days]
        # One of two may be a day that no such month has.
        firing = [one for one in plain if _next(_walker(one, years=LOOK_AHEAD_YEARS), _FIRST_LOOK) is not None]
        if not firing:
            raise _refused(expression, f"it never fires, or not within {LOOK_AHEAD_YEARS} years")
        self._walkers = [_walker(one, years=_FURTHEST_YEARS) for one in firing]

    def after(self, wall: datetime) -> datetime | None:
        """Answer the first local time that matches and is later than this one. None where there is none."""
        found = [_next(walker, wall) for walker in self._walkers]
        return min((one for one in found if one is not None), default=None)


@lru_cache(maxsize=1024)
def walk(expression: str) -> Walk:
    """Read an expression. Raises SchedulingError."""
    return Walk(expression)


def _split(expression: str) -> list[str]:
    if len(expression) > LONGEST:
        raise SchedulingError(f"cron must have at most {LONGEST} characters, got {len(expression):,}")
    if not _ALLOWED.fullmatch(expression):
        raise _refused(expression, "it has a character that no field may have")
    text = expression.strip(" \t").lower()
    if text.startswith("@"):
        if text not in _ALIASES:
            cure = '; use every="..."' if text.startswith("@every") else ""
            raise _refused(expression, f"the names are {', '.join(sorted(_ALIASES))}{cure}")
        text = _ALIASES[text]
    fields = text.split()
    if len(fields) != len(_FIELDS):
        wanted = "five fields are wanted (minute, hour, day of the month, month, day of the week)"
        raise _refused(expression, f'{wanted}, got {len(fields)}; for seconds use every="..."')
    return fields


def _read(field: _Field, text: str, expression: str) -> str:
    """Write a field as croniter is to have it: a star, or a list of values."""
    if text == "*":
        return text
    if field is _FIELDS[_DAY] and text == "l":
        return text
    values: set[int] = set()
    nths: set[str] = set()
    for part in text.split(","):
        nth = _NTH.fullmatch(part) if field is _FIELDS[_WEEKDAY] else None
        if nth is not None:
            nths.add(f"{field.number(nth[1], expression) % _SUNDAY}#{nth[2]}")
        else:
            values.update(_values(field, part, expression))
    if field is _FIELDS[_WEEKDAY]:
        values = {value % _SUNDAY for value in values}
    if nths and values:
        raise _refused(expression, f"{field.name} is either a list of days or of nth days (fri#2), not of both")
    return ",".join([*map(str, sorted(values)), *sorted(nths)])


def _values(field: _Field, part: str, expression: str) -> Iterable[int]:
    read = _PART.fullmatch(part)
    if read is None:
        raise _refused(expression, f"{part[:20]!r} cannot be read in {field.name}{_cure(field, part)}")
    span, first, last, step = read.groups()
    highest = field.high - 1 if field is _FIELDS[_WEEKDAY] else field.high
    if span == "*":
        low, high = field.low, highest
    else:
        low = high = field.number(first, expression)
        if last is not None:
            high = field.number(last, expression)
            if high == 0 < low and field is _FIELDS[_WEEKDAY]:
                high = _SUNDAY  # fri-sun
        elif step is not None:
            high = max(highest, low)
        if high < low:
            raise _refused(expression, f"the range {span!r} runs backwards; write it as two, joined by a comma")
    if step is None:
        return range(low, high + 1)
    if not 1 <= int(step) <= field.high:
        cure = ' (for longer intervals use every="...")' if int(step) else ""
        raise _refused(expression, f"the step of {field.name} must be from 1 to {field.high}, not {step}{cure}")
    return range(low, high + 1, int(step))


def _cure(field: _Field, part: str) -> str:
    if "h" in part and field.name in {"the minute", "the hour"}:
        return ": a hashed value (H) is not supported; name a minute"
    if "l" in part:
        return ": L stands alone, as the day of the month"
    if "#" in part:
        return ": of a day of the week there are at the most five in a month (fri#1 to fri#5)"
    if "?" in part:
        return ": write * instead of ?"
    return ""


def _walker(expression: str, *, years: int) -> Any:
    return _croniter().croniter(expression, _FIRST_LOOK, day_or=False, max_years_between_matches=years)


def _next(walker: Any, wall: datetime) -> datetime | None:
    try:
        # A copy, because a walker remembers where it is; its parts are only read.
        found: datetime = copy.copy(walker).get_next(datetime, start_time=wall.replace(second=0, microsecond=0))
    except (_croniter().CroniterBadDateError, OverflowError, ValueError):
        return None  # Nothing within its years, or before the year 10000.
    return found


def _croniter() -> Any:
    """Import it when the first expression is read: it takes longer than this library, and most programs have none."""
    return import_module("croniter")


def _refused(expression: str, why: str) -> SchedulingError:
    return SchedulingError(f"cron {expression[:60]!r} is refused: {why}")
