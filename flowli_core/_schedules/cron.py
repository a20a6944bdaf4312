"""Cron expressions of five fields: checked here, then given to croniter, which finds the times that match.

croniter accepts expressions that no crontab does, or reads them in unexpected ways: six and seven fields, random and
hashed values, `1-1` as every value, `5-1` backwards. So an expression is first read strictly here. croniter only gets
lists of numbers, which have one meaning.
"""

import copy
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from importlib import import_module
from typing import Any

from flowli_core._checks import shown
from flowli_core.errors import SchedulingError

MAX_LENGTH = 256
MAX_WAIT_YEARS = 8
"""An expression must fire within so many years. February 29 always does, even around the year 2100, which has none."""

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
_PROBE = datetime(2023, 12, 31, 23, 59)  # noqa: DTZ001 - a local time has no zone
_MAX_GAP_YEARS = 40
"""The longest time between two matches. Within it every date, February 29 too, falls on every day of the week."""


_LONGEST_NUMBER = 9


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    first_name: int = 0
    """The number that the first of the names stands for."""

    def number(self, text: str, expression: str) -> int:
        """Return the number of a text: of ASCII digits, or of the lower-case name of a month or a day."""
        if text in self.names:
            return self.names.index(text) + self.first_name
        if not (text.isdigit() and len(text) <= _LONGEST_NUMBER) or not self.low <= int(text) <= self.high:
            names = f", or {self.names[0]} to {self.names[-1]}" if self.names else ""
            raise _error(expression, f"{self.name} must be from {self.low} to {self.high}{names}, not {shown(text)}")
        return int(text)


_FIELDS = (
    _Field("the minute", 0, 59),
    _Field("the hour", 0, 23),
    _Field("the day of the month", 1, 31),
    _Field("the month", 1, 12, _MONTHS, 1),
    _Field("the day of the week", 0, 7, _DAYS),
)
_DAY, _WEEKDAY = 2, 4


class CronTimes:
    """The local times that match a cron expression, in order and without a time zone.

    `is_fixed` is True if neither the minute nor the hour begins with a star.
    """

    def __init__(self, expression: str) -> None:
        fields = _split(expression)
        minute, hour, day, month, weekday = [
            _normalize(field, text, expression) for field, text in zip(_FIELDS, fields, strict=True)
        ]
        self.is_fixed = not fields[0].startswith("*") and not fields[1].startswith("*")
        # The rule of cron: if neither day begins with a star, a date that matches one of them is enough.
        either = not any(fields[index].startswith("*") for index in (_DAY, _WEEKDAY))
        days = [(day, "*"), ("*", weekday)] if either else [(day, weekday)]
        normalized = [f"{minute} {hour} {of_month} {month} {of_week}" for of_month, of_week in days]
        # One of the two may never fire, such as February 31.
        firing = [text for text in normalized if _next(_iterator(text, years=MAX_WAIT_YEARS), _PROBE) is not None]
        if not firing:
            raise _error(expression, f"it never fires, or not within {MAX_WAIT_YEARS} years")
        self._iterators = [_iterator(text, years=_MAX_GAP_YEARS) for text in firing]

    def after(self, local: datetime) -> datetime | None:
        """Return the first match later than this local time, or None if there is none."""
        found = [_next(iterator, local) for iterator in self._iterators]
        return min((match for match in found if match is not None), default=None)


@lru_cache(maxsize=1024)
def parse(expression: str) -> CronTimes:
    """Read an expression. Raises SchedulingError."""
    return CronTimes(expression)


def _split(expression: str) -> list[str]:
    if len(expression) > MAX_LENGTH:
        raise SchedulingError(f"cron must have at most {MAX_LENGTH} characters, got {len(expression):,}")
    if not _ALLOWED.fullmatch(expression):
        raise _error(expression, "it has a character that is not allowed in a field")
    text = expression.strip(" \t").lower()
    if text.startswith("@"):
        if text not in _ALIASES:
            cure = '; use every="..."' if text.startswith("@every") else ""
            raise _error(expression, f"the known names are {', '.join(sorted(_ALIASES))}{cure}")
        text = _ALIASES[text]
    fields = text.split()
    if len(fields) != len(_FIELDS):
        wanted = "it must have five fields (minute, hour, day of the month, month, day of the week)"
        raise _error(expression, f'{wanted}, got {len(fields)}; for seconds use every="..."')
    return fields


def _normalize(field: _Field, text: str, expression: str) -> str:
    """Return a field as croniter gets it: a star, `l`, or a list of values."""
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
        raise _error(expression, f"{field.name} is either a list of days, or of nth days such as fri#2, not both")
    return ",".join([*map(str, sorted(values)), *sorted(nths)])


def _values(field: _Field, part: str, expression: str) -> Iterable[int]:
    match = _PART.fullmatch(part)
    if match is None:
        raise _error(expression, f"{shown(part)} cannot be read in {field.name}{_cure(field, part)}")
    span, first, last, step = match.groups()
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
            raise _error(expression, f"the range {shown(span)} runs backwards; write two ranges, joined by a comma")
    if step is None:
        return range(low, high + 1)
    if len(step) > _LONGEST_NUMBER or not 1 <= int(step) <= field.high:
        cure = ' (for longer intervals use every="...")' if step.strip("0") else ""
        raise _error(
            expression, f"the step of {field.name} must be from 1 to {field.high}, not {step[:_LONGEST_NUMBER]}{cure}"
        )
    return range(low, high + 1, int(step))


def _cure(field: _Field, part: str) -> str:
    if "h" in part and field.name in {"the minute", "the hour"}:
        return ": hashed values (H) are not supported; write a number"
    if "l" in part:
        return ": L is only allowed alone, as the day of the month"
    if "#" in part:
        return ": a month has at most five of a day of the week (fri#1 to fri#5)"
    if "?" in part:
        return ": write * instead of ?"
    return ""


def _iterator(expression: str, *, years: int) -> Any:
    return _croniter().croniter(expression, _PROBE, day_or=False, max_years_between_matches=years)


def _next(iterator: Any, local: datetime) -> datetime | None:
    try:
        # Use a copy, because an iterator remembers its position. The copy shares the parsed fields.
        found: datetime = copy.copy(iterator).get_next(datetime, start_time=local.replace(second=0, microsecond=0))
    except (_croniter().CroniterBadDateError, OverflowError, ValueError):
        return None  # No match within the years given, or before the year 10000.
    return found


def _croniter() -> Any:
    """Import croniter when the first expression is read: that takes long, and most programs have no expression."""
    return import_module("croniter")


def _error(expression: str, why: str) -> SchedulingError:
    return SchedulingError(f"cron {shown(expression)} is refused: {why}")
