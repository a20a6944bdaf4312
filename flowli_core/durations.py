"""Durations and due times as a user writes them: "250ms", "30s", "10m", "2h", "1d", a timedelta, an aware datetime."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from flowli_core._checks import aware
from flowli_core.errors import DefinitionError, FlowliError, SchedulingError

Duration = str | timedelta
"""How long: "250ms", "30s", "10m", "2h", "1d" or a timedelta."""

When = str | timedelta | datetime
"""A duration from now, or an aware datetime."""

ZERO = timedelta(0)
LONGEST = timedelta(days=3653)
"""The longest duration that is accepted anywhere: ten years. Longer ones are slips of the pen."""

_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_WRITTEN = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)", re.ASCII)
_CURE = 'write it as "250ms", "30s", "10m", "2h", "1d" or as a timedelta'


def duration(
    value: object,
    *,
    argument: str,
    zero: bool = False,
    longest: timedelta = LONGEST,
    error: type[FlowliError] = DefinitionError,
) -> timedelta:
    """Turn what a user wrote into a timedelta between zero (excluded unless `zero`) and `longest`.

    Raises `error`, naming `argument`; a bare number is refused, because its unit would be a guess.
    """
    parsed = value if isinstance(value, timedelta) else _parsed(value, argument, error)
    shown = repr(value) if isinstance(value, str) else format_duration(parsed)
    if parsed < ZERO or (parsed == ZERO and not zero):
        bound = "not be negative" if zero else "be longer than zero"
        raise error(f"{argument} must {bound}, got {shown}")
    if parsed > longest:
        raise error(f"{argument} must be at most {format_duration(longest)}, got {format_duration(parsed)}")
    return parsed


def due(value: object, *, argument: str, now: datetime) -> timedelta | datetime:
    """Turn a delay or a moment into what a driver takes: a timedelta from now, or a moment in UTC.

    A moment in the past means now. Raises SchedulingError for a naive datetime, a negative delay, or over ten years.
    """
    if not isinstance(value, datetime):
        return duration(value, argument=argument, zero=True, error=SchedulingError)
    moment = aware(value, argument=argument)
    if moment - now > LONGEST:
        raise SchedulingError(
            f"{argument} must be at most {format_duration(LONGEST)} from now, got {moment.isoformat()}"
        )
    return moment


def format_duration(value: timedelta) -> str:
    """Write a duration the way a user would, in the largest unit that leaves a whole number."""
    for unit in ("d", "h", "m", "s"):
        if value and value % _UNITS[unit] == ZERO:
            return f"{value // _UNITS[unit]}{unit}"
    return f"{value / _UNITS['ms']:.3f}".rstrip("0").rstrip(".") + "ms"


def _parsed(value: object, argument: str, error: type[FlowliError]) -> timedelta:
    if not isinstance(value, str):
        raise error(f"{argument} must be a duration, got {type(value).__name__}; {_CURE}")
    match = _WRITTEN.fullmatch(value)
    if match is None:
        shown = value if len(value) <= 32 else value[:32] + "..."  # noqa: PLR2004 - as much as helps the reader
        raise error(f"{argument} is not a duration: {shown!r}; {_CURE}")
    number, unit = match.groups()
    try:
        return float(number) * _UNITS[unit]
    except OverflowError:
        raise error(f"{argument} must be at most {format_duration(LONGEST)}, got {value!r}") from None
