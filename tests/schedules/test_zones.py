"""Cron in time zones: the nights on which the clock is set, and seven years against a plain enumeration of minutes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from flowli_core._schedules.rules import Cron

if TYPE_CHECKING:
    from collections.abc import Callable

ZONES = ("Europe/Paris", "America/New_York", "America/Havana", "Australia/Lord_Howe", "Asia/Kolkata", "UTC")
YEARS = (2024, 2030)
MINUTE = timedelta(minutes=1)

EXAMPLES: list[tuple[str, str, str, list[str]]] = [
    # Paris: 2:00 becomes 3:00 on March 31, and 3:00 becomes 2:00 on October 27.
    ("30 2 * * *", "Europe/Paris", "2024-03-30T12:00+01:00", ["2024-03-31T03:00+02:00", "2024-04-01T02:30+02:00"]),
    ("0,30 2 * * *", "Europe/Paris", "2024-03-31T00:00+01:00", ["2024-03-31T03:00+02:00", "2024-04-01T02:00+02:00"]),
    ("30 2,3 * * *", "Europe/Paris", "2024-03-31T00:00+01:00", ["2024-03-31T03:00+02:00", "2024-03-31T03:30+02:00"]),
    ("30 2 * * *", "Europe/Paris", "2024-10-26T12:00+02:00", ["2024-10-27T02:30+02:00", "2024-10-28T02:30+01:00"]),
    ("30 2 * * *", "Europe/Paris", "2024-10-27T02:10+01:00", ["2024-10-28T02:30+01:00"]),
    ("*/30 2 * * *", "Europe/Paris", "2024-03-31T00:00+01:00", ["2024-04-01T02:00+02:00"]),
    ("*/30 2 * * *", "Europe/Paris", "2024-10-27T00:00+02:00", [
        *("2024-10-27T02:00+02:00", "2024-10-27T02:30+02:00", "2024-10-27T02:00+01:00", "2024-10-27T02:30+01:00"),
        "2024-10-28T02:00+01:00",
    ]),
    ("0 * * * *", "Europe/Paris", "2024-03-31T00:30+01:00", ["2024-03-31T01:00+01:00", "2024-03-31T03:00+02:00"]),
    ("0 */2 * * *", "Europe/Paris", "2024-10-27T00:30+02:00", [
        *("2024-10-27T02:00+02:00", "2024-10-27T02:00+01:00", "2024-10-27T04:00+01:00"),
    ]),
    ("0 1-3 * * *", "Europe/Paris", "2024-10-27T00:30+02:00", [
        *("2024-10-27T01:00+02:00", "2024-10-27T02:00+02:00", "2024-10-27T03:00+01:00", "2024-10-28T01:00+01:00"),
    ]),
    # New York: 2:00 becomes 3:00 on March 10, and 2:00 becomes 1:00 on November 3.
    ("15 2 * * sun", "America/New_York", "2024-03-09T12:00-05:00",
     ["2024-03-10T03:00-04:00", "2024-03-17T02:15-04:00"]),
    ("0 1 * * *", "America/New_York", "2024-11-02T12:00-04:00", ["2024-11-03T01:00-04:00", "2024-11-04T01:00-05:00"]),
    # Havana: midnight becomes 1:00 on March 10, and 1:00 becomes midnight on November 3.
    ("0 0 * * *", "America/Havana", "2024-03-09T12:00-05:00", ["2024-03-10T01:00-04:00", "2024-03-11T00:00-04:00"]),
    ("0 0 * * *", "America/Havana", "2024-11-02T12:00-04:00", ["2024-11-03T00:00-04:00", "2024-11-04T00:00-05:00"]),
    ("@hourly", "America/Havana", "2024-11-03T00:30-04:00", ["2024-11-03T00:00-05:00", "2024-11-03T01:00-05:00"]),
    # Lord Howe: half an hour. 2:00 becomes 2:30 on October 6, and 2:00 becomes 1:30 on April 7.
    ("15 2 * * *", "Australia/Lord_Howe", "2024-10-05T12:00+10:30",
     ["2024-10-06T02:30+11:00", "2024-10-07T02:15+11:00"]),
    ("45 1 * * *", "Australia/Lord_Howe", "2024-04-06T12:00+11:00",
     ["2024-04-07T01:45+11:00", "2024-04-08T01:45+10:30"]),
    ("*/30 1-2 * * *", "Australia/Lord_Howe", "2024-04-07T00:30+11:00", [
        *("2024-04-07T01:00+11:00", "2024-04-07T01:30+11:00", "2024-04-07T01:30+10:30", "2024-04-07T02:00+10:30"),
    ]),
    ("0 * * * *", "Australia/Lord_Howe", "2024-10-06T00:30+10:30",
     ["2024-10-06T01:00+10:30", "2024-10-06T03:00+11:00"]),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "zone", "start", "ticks"), EXAMPLES)
def test_ticks_on_nights_when_the_clock_is_set(expression: str, zone: str, start: str, ticks: list[str]) -> None:
    moment = datetime.fromisoformat(start)
    for expected in ticks:
        assert Cron(expression, zone).next_after(moment) == datetime.fromisoformat(expected)
        moment = datetime.fromisoformat(expected)


def always(_: date) -> bool:
    return True


def is_last_day(day: date) -> bool:
    return (day + timedelta(days=1)).day == 1


# Each expression, True if it follows elapsed time, and its minutes, hours and days.
TABLE: list[tuple[str, bool, tuple[int, ...], tuple[int, ...], Callable[[date], bool]]] = [
    ("30 2 * * *", False, (30,), (2,), always),
    ("0 0 * * *", False, (0,), (0,), always),
    ("15,45 1-3 * * mon-fri,sun", False, (15, 45), (1, 2, 3), lambda day: day.isoweekday() != 6),
    ("0 1-5/2 * mar,oct,nov,apr *", False, (0,), (1, 3, 5), lambda day: day.month in {3, 4, 10, 11}),
    ("0 * * * *", True, (0,), tuple(range(24)), always),
    ("*/30 * * * *", True, (0, 30), tuple(range(24)), always),
    ("*/20 */3 * * *", True, (0, 20, 40), tuple(range(0, 24, 3)), always),
    ("10 0 29 feb *", False, (10,), (0,), lambda day: (day.month, day.day) == (2, 29)),
    ("59 23 L * *", False, (59,), (23,), is_last_day),
    ("0 12 31 * *", False, (0,), (12,), lambda day: day.day == 31),
    ("0 6 28-31 * *", False, (0,), (6,), lambda day: day.day >= 28),
    ("0 2 1 * sun", False, (0,), (2,), lambda day: day.day == 1 or day.isoweekday() == 7),
]
DENSE = 200
"""With more ticks than this a year, only the days around each change of the clock are compared."""


@cache
def settings(zone: str) -> tuple[datetime, ...]:
    """Return the moments at which the clock is set, rounded down to the hour."""
    info, moment = ZoneInfo(zone), datetime(YEARS[0], 1, 1, tzinfo=UTC)
    found: list[datetime] = []
    while moment.year <= YEARS[1]:
        later = moment + timedelta(hours=1)
        if moment.astimezone(info).utcoffset() != later.astimezone(info).utcoffset():
            found.append(moment)
        moment = later
    return tuple(found)


def fixed_ticks(info: ZoneInfo, day: date, times: list[tuple[int, int]]) -> set[datetime]:
    """Return the ticks of a day: of a repeated time the first, and for a skipped one the first minute after the gap."""
    found: set[datetime] = set()
    for hour, minute in times:
        wall = datetime(day.year, day.month, day.day, hour, minute)  # noqa: DTZ001
        while True:
            moment = wall.replace(tzinfo=info, fold=0).astimezone(UTC)
            if moment.astimezone(info).replace(tzinfo=None, fold=0) == wall:
                break
            wall += MINUTE
        found.add(moment)
    return found


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("row", TABLE, ids=[row[0] for row in TABLE])
def test_the_ticks_of_seven_years_equal_a_plain_enumeration(
    zone: str, row: tuple[str, bool, tuple[int, ...], tuple[int, ...], Callable[[date], bool]]
) -> None:
    expression, follows_elapsed_time, minutes, hours, matches = row
    info, cron = ZoneInfo(zone), Cron(expression, zone)
    times = [(hour, minute) for hour in hours for minute in minutes]
    begin, end = datetime(YEARS[0], 1, 1, tzinfo=UTC), datetime(YEARS[1] + 1, 1, 1, tzinfo=UTC)
    a_year = len(times) * sum(matches(date(2024, 1, 1) + timedelta(days=n)) for n in range(366))
    spans = [(begin, end)]
    if a_year > DENSE:
        spans = [
            (at - timedelta(hours=30), at + timedelta(hours=30)) for at in settings(zone) or (begin + timedelta(5),)
        ]
    for first, last in spans:
        expected: set[datetime] = set()
        day = (first - timedelta(days=2)).date()
        while day <= (last + timedelta(days=2)).date():
            if matches(day) and not follows_elapsed_time:
                expected |= fixed_ticks(info, day, times)
            day += timedelta(days=1)
        moment = first.replace(minute=0)
        while follows_elapsed_time and moment <= last:
            local = moment.astimezone(info)
            if local.minute in minutes and local.hour in hours and matches(local.date()):
                expected.add(moment)
            moment += 10 * MINUTE
        found: list[datetime] = []
        tick = cron.next_after(first)
        while tick is not None and tick <= last:
            found.append(tick)
            tick = cron.next_after(tick)
        assert found == sorted(tick for tick in expected if first < tick <= last)
