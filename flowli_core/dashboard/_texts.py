"""Values as the pages show them: times, durations, numbers and rules in words."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from markupsafe import Markup
from pydantic_core import to_jsonable_python

from flowli_core._jobs.describe import describe_attempt, describe_backoff
from flowli_core._jobs.lanes import describe_block, describe_running
from flowli_core._jobs.records import ScheduleRecord
from flowli_core.dashboard._recurrence import describe_cron, describe_interval
from flowli_core.durations import format_span

_TIME = Markup('<time datetime="{iso}" title="{utc} UTC"{attribute}>{text}</time>')
_MANY = 10
_MS, _SECOND, _MINUTE = timedelta(milliseconds=1), timedelta(seconds=1), timedelta(minutes=1)


def show_time(moment: datetime | None) -> Markup:
    """Return an element for a time in UTC, which the script of the page shows in the reader's zone."""
    if moment is None:
        return Markup()
    return _time(moment, f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC", Markup(" data-local"))


def show_clock(moment: datetime) -> Markup:
    """Return an element for a time like `show_time`, which the script shows without its date."""
    return _time(moment, f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC", Markup(' data-local="clock"'))


def show_distance(moment: datetime | None, now: datetime) -> Markup:
    """Return an element for a time by its distance from now, such as "3 min 2 s ago"."""
    if moment is None:
        return Markup()
    ahead = moment - now
    distance = _shorten(format_span(abs(ahead)))
    if abs(ahead) < _SECOND:
        return _time(moment, "now")
    return _time(moment, f"in {distance}" if ahead > timedelta(0) else f"{distance} ago")


def show_number(value: float) -> str:
    """Return a number with separators between the thousands."""
    return f"{value:,}"


def show_duration(value: timedelta | None) -> str:
    """Return a measured duration shortly, or a dash if there is none."""
    if value is None:
        return "-"
    if value < _SECOND:
        return f"{value / _MS:.0f} ms"
    return f"{value / _SECOND:.1f} s" if value < _MINUTE else format_span(value)


def show_json(value: object) -> str:
    """Return a plain value as JSON for people to read."""
    return json.dumps(to_jsonable_python(value), indent=2, ensure_ascii=False)


def show_rule(schedule: ScheduleRecord) -> str:
    """Return the rule of a schedule in words, or an empty text if only its expression says it."""
    if schedule.every is not None:
        return describe_interval(schedule.every)
    return "" if schedule.cron is None else describe_cron(schedule.cron)


def _shorten(span: str) -> str:
    """Return a span without its smaller unit, if that says little beside ten or more of the larger one."""
    number, unit, *_ = span.split()
    return f"{number} {unit}" if int(number) >= _MANY else span


def _time(moment: datetime, text: str, attribute: Markup = Markup()) -> Markup:  # noqa: B008 - it cannot change
    utc = moment.astimezone(UTC)
    iso, shown = utc.isoformat(timespec="milliseconds"), f"{utc:%Y-%m-%d %H:%M:%S}"
    return _TIME.format(iso=iso, utc=shown, attribute=attribute, text=text)


FILTERS: Mapping[str, Callable[..., object]] = {
    "at": show_time,
    "attempt": describe_attempt,
    "backoff": describe_backoff,
    "block": describe_block,
    "clock": show_clock,
    "distance": show_distance,
    "duration": show_duration,
    "json": show_json,
    "number": show_number,
    "rule": show_rule,
    "running": describe_running,
    "span": format_span,
}
