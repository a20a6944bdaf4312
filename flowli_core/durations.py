"""Durations and due times as a user writes them, such as "30s", a timedelta or an aware datetime."""

import re
from datetime import datetime, timedelta

from flowli_core._checks import aware, internal, shown
from flowli_core.errors import DefinitionError, FlowliError, SchedulingError

Duration = str | timedelta
"""A length of time: "250ms", "30s", "10m", "2h", "1d" or a timedelta."""

When = str | timedelta | datetime
"""A duration from now, or an aware datetime."""

ZERO = timedelta(0)
LONGEST = timedelta(days=3653)
"""The longest duration that is accepted anywhere: ten years. A longer one is a typing error."""

_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_WRITTEN = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)", re.ASCII)
_LARGEST = 10**9
_MINUTE = 60
_ALMOST = re.compile(r"\s*([0-9.]+)\s*((?:milli|sec|min|h|d|)[a-z]*)\s*", re.ASCII)
_CURE = 'write it as "250ms", "30s", "10m", "2h", "1d" or as a timedelta'


def duration(
    value: object,
    *,
    argument: str,
    zero: bool = False,
    longest: timedelta = LONGEST,
    error: type[FlowliError] = DefinitionError,
) -> timedelta:
    """Return a duration as a timedelta. It must be longer than zero, or zero if `zero` is set, and at most `longest`.

    Raises `error`, whose message names `argument`. A bare number is refused, because its unit would be a guess.
    """
    parsed = value if isinstance(value, timedelta) else _parsed(value, argument, error)
    given = shown(value) if isinstance(value, str) else format_duration(parsed)
    if parsed < ZERO or (parsed == ZERO and not zero):
        bound = "not be negative" if zero else "be longer than zero"
        raise error(f"{argument} must {bound}, got {given}")
    if parsed > longest:
        raise error(f"{argument} must be at most {format_duration(longest)}, got {format_duration(parsed)}")
    return parsed


def due(
    value: object, *, argument: str, now: datetime, zero: bool = True, error: type[FlowliError] = SchedulingError
) -> timedelta | datetime:
    """Return a delay as a timedelta, and a moment as a datetime in UTC, which may be in the past.

    Raises `error` for a naive datetime, a negative delay, one of zero unless `zero` is set, and for more than ten years
    from now.
    """
    if not isinstance(value, datetime):
        return duration(value, argument=argument, zero=zero, error=error)
    moment = aware(value, argument=argument, error=error)
    if moment - now > LONGEST:
        raise error(f"{argument} must be at most {format_duration(LONGEST)} from now, got {moment.isoformat()}")
    return moment


def format_duration(value: timedelta) -> str:
    """Write a duration as a user would, in the largest unit that gives a whole number."""
    if value == ZERO:
        return "0s"
    for unit in ("d", "h", "m", "s"):
        if value % _UNITS[unit] == ZERO:
            return f"{value // _UNITS[unit]}{unit}"
    return f"{value / _UNITS['ms']:.3f}".rstrip("0").rstrip(".") + "ms"


def format_elapsed(value: timedelta) -> str:
    """Write a measured duration shortly, in milliseconds or in seconds."""
    return format_duration(value) if value < _UNITS["s"] else f"{value / _UNITS['s']:.1f}s"


def format_span(span: timedelta) -> str:
    """Format a length of time in its two largest units."""
    seconds = int(span.total_seconds())
    if seconds < _MINUTE:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, _MINUTE)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def _parsed(value: object, argument: str, error: type[FlowliError]) -> timedelta:
    if not isinstance(value, str):
        near = _suggest(str(value)) if isinstance(value, int | float) and 0 < value < _LARGEST else ""
        raise internal(error(f"{argument} must be a duration, got {type(value).__name__}; {_CURE}{near}"))
    match = _WRITTEN.fullmatch(value)
    if match is None:
        raise error(f"{argument} is not a duration: {shown(value)}; {_CURE}{_suggest(value)}")
    number, unit = match.groups()
    try:
        return float(number) * _UNITS[unit]
    except OverflowError:
        raise error(f"{argument} must be at most {format_duration(LONGEST)}, got {shown(value)}") from None


def _suggest(value: str) -> str:
    """Return what was probably meant by a number without a unit, or with a unit that is written out."""
    found = _ALMOST.fullmatch(value)
    if found is None:
        return ""
    number, unit = found.groups()
    guess = number + ("ms" if unit.startswith("mil") else unit[:1] or "s")
    return f'; did you mean "{guess}"?' if _WRITTEN.fullmatch(guess) else ""
