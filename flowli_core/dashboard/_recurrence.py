"""Intervals and common cron expressions in words."""

import re
from datetime import timedelta

from flowli_core.durations import ZERO, format_duration

_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_SHORT_DAYS = {day[:3].lower(): number for number, day in enumerate(_DAYS[:7])}
_NAMED = {
    "@hourly": "every hour",
    "@daily": "every day at 00:00",
    "@midnight": "every day at 00:00",
    "@weekly": "every Sunday at 00:00",
    "@monthly": "on day 1 of each month at 00:00",
    "@yearly": "every January 1 at 00:00",
    "@annually": "every January 1 at 00:00",
}
_UNITS = (
    ("day", timedelta(days=1)),
    ("hour", timedelta(hours=1)),
    ("minute", timedelta(minutes=1)),
    ("second", timedelta(seconds=1)),
)
_EVERY = re.compile(r"\*/(\d+)")


def describe_interval(interval: timedelta) -> str:
    """Return an interval in words, in the largest unit that gives a whole number."""
    for unit, length in _UNITS:
        if interval % length == ZERO:
            number = interval // length
            return f"every {unit}" if number == 1 else f"every {number} {unit}s"
    return f"every {format_duration(interval)}"


def describe_cron(expression: str) -> str:
    """Return a cron expression in words, or an empty text if it is none of the common ones."""
    fields = expression.lower().split()
    if len(fields) != 5:  # noqa: PLR2004 - the fields of a cron expression
        return _NAMED.get(expression.strip().lower(), "")
    minute, hour, day, month, weekday = fields
    if month != "*" or (day != "*" and weekday != "*"):
        return ""
    days = _describe_days(day, weekday)
    if minute.isdigit() and hour.isdigit():
        return days and f"{days} at {int(hour):02}:{int(minute):02}"
    every = _describe_minutes(minute) if hour == "*" else _describe_hours(hour, minute)
    if not every or not days:
        return ""
    return every if days == "every day" else f"{every}, {days}"


def _describe_minutes(minute: str) -> str:
    if minute == "*":
        return "every minute"
    if minute.isdigit():
        return f"every hour at :{int(minute):02}"
    # Others begin anew with each hour.
    every = _EVERY.fullmatch(minute)
    return f"every {int(every[1])} minutes" if every and int(every[1]) and 60 % int(every[1]) == 0 else ""


def _describe_hours(hour: str, minute: str) -> str:
    every = _EVERY.fullmatch(hour)
    if every is None or not minute.isdigit() or not int(every[1]) or 24 % int(every[1]):
        return ""
    return f"every {int(every[1])} hours at :{int(minute):02}"


def _describe_days(day: str, weekday: str) -> str:
    if weekday != "*":
        first, *last = [_number_of_day(one) for one in weekday.split("-")]
        if first is None or None in last or len(last) > 1:
            return ""
        return f"{_DAYS[first]} to {_DAYS[last[0] or 0]}" if last else f"every {_DAYS[first]}"
    if day == "*":
        return "every day"
    if day == "l":
        return "on the last day of each month"
    return f"on day {int(day)} of each month" if day.isdigit() else ""


def _number_of_day(text: str) -> int | None:
    number = int(text) if text.isdigit() else _SHORT_DAYS.get(text)
    return number if number is not None and number < len(_DAYS) else None
