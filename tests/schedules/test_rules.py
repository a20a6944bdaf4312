"""The rules of schedules that are accepted, and those that are refused with their cure (cases 42 to 53)."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from flowli_core._schedules.rules import Cron, Every
from flowli_core._schedules.timing import AllMissed, Timing, check_missed, check_overlap
from flowli_core.errors import SchedulingError

START = datetime(2026, 1, 1, tzinfo=UTC)

REFUSED = {
    "": "it must have five fields",
    "  ": "it must have five fields",
    "* * * *": "got 4",
    "0 * * * * *": 'got 6; for seconds use every="..."',
    "0 0 * * * * 2030": "got 7",
    "60 * * * *": "the minute must be from 0 to 59, not '60'",
    "* 24 * * *": "the hour must be from 0 to 23",
    "* * 0 * *": "the day of the month must be from 1 to 31",
    "* * 32 * *": "the day of the month must be from 1 to 31",
    "* * * 13 *": "the month must be from 1 to 12, or jan to dec",
    "0 0 * * 8": "the day of the week must be from 0 to 7, or sun to sat",
    "*/0 * * * *": "the step of the minute must be from 1 to 59, not 0",
    "*/90 * * * *": 'for longer intervals use every="..."',
    "0 0 31 2 *": "it never fires",
    "0 0 30 2 *": "it never fires",
    "0 0 31 4,6,9,11 *": "it never fires",
    "0 0 */15 * 2#2": "it never fires",
    "5-1 * * * *": "the range '5-1' runs backwards; write two ranges",
    "0 0 * * fri-mon": "the range 'fri-mon' runs backwards",
    "0 0 * * mon-xyz": "not 'xyz'",
    "0 0 * * monday": "'monday' cannot be read",
    "0 0 * * L": "L is only allowed alone, as the day of the month",
    "0 0 * * 5L": "L is only allowed alone, as the day of the month",
    "0 0 LW * *": "L is only allowed alone, as the day of the month",
    "0 0 1,L * *": "L is only allowed alone",
    "0 0 15W * *": "'15w' cannot be read",
    "0 0 * * #6": "at most five of a day of the week",
    "0 0 * * 5#6": "at most five of a day of the week",
    "0 0 * * 1,2#2": "not both",
    "H * * * *": "hashed values (H) are not supported",
    "0 R * * *": "'r' cannot be read",
    "0 0 ? * *": "write * instead of ?",
    "1,,2 * * * *": "'' cannot be read",
    ", * * * *": "'' cannot be read",
    "1- * * * *": "'1-' cannot be read",
    "-1 * * * *": "'-1' cannot be read",
    "1/2/3 * * * *": "'1/2/3' cannot be read",
    "1.5 * * * *": "a character that is not allowed",
    "* * * * *\n": "a character that is not allowed",
    "\u0665 * * * *": "a character that is not allowed",
    "0 0 * * *; rm": "a character that is not allowed",
    "@reboot": "the known names are @annually, @daily",
    "@every 5m": 'use every="..."',
    "," * 20_000: "at most 256 characters, got 20,000",
    "*" * 40_000: "at most 256 characters, got 40,000",
    "0 0 1" + ",1" * 200 + " * *": "at most 256 characters",
}


@pytest.mark.parametrize(("expression", "says"), REFUSED.items(), ids=[text[:24] for text in REFUSED])
def test_an_invalid_expression_is_refused(expression: str, says: str) -> None:
    with pytest.raises(SchedulingError) as refused:
        Cron(expression)
    assert says in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("expression", ["0 0 31 2 *", "0 0 31 4,6,9,11 *", "," * 20_000, "*" * 40_000])
def test_an_expression_that_never_fires_is_refused_quickly(expression: str) -> None:
    """The bound is loose: a search through all years to come would take a thousand times as long."""
    begun = time.process_time()
    for _ in range(5):
        with pytest.raises(SchedulingError):
            Cron(expression)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    ("expression", "ticks"),
    {
        "@yearly": ["2027-01-01T00:00", "2028-01-01T00:00"],
        "@annually": ["2027-01-01T00:00"],
        "@monthly": ["2026-02-01T00:00", "2026-03-01T00:00"],
        "@weekly": ["2026-01-04T00:00", "2026-01-11T00:00"],
        "@daily": ["2026-01-02T00:00"],
        "@midnight": ["2026-01-02T00:00"],
        "@hourly": ["2026-01-01T01:00"],
        " 5\t4 * *  * ": ["2026-01-01T04:05"],
        "0 0 29 2 *": ["2028-02-29T00:00", "2032-02-29T00:00"],
        "0 0 29 FEB *": ["2028-02-29T00:00"],
        "0 0 L * *": ["2026-01-31T00:00", "2026-02-28T00:00", "2026-03-31T00:00"],
        "0 0 l 2 *": ["2026-02-28T00:00", "2027-02-28T00:00", "2028-02-29T00:00"],
        "0 0 * * fri#2": ["2026-01-09T00:00", "2026-02-13T00:00"],
        "0 0 * * mon#1,MON#5": ["2026-01-05T00:00", "2026-02-02T00:00", "2026-03-02T00:00", "2026-03-30T00:00"],
        "0 0 * * 7": ["2026-01-04T00:00"],
        "0 0 * * 0": ["2026-01-04T00:00"],
        "0 0 * * sat-sun": ["2026-01-03T00:00", "2026-01-04T00:00", "2026-01-10T00:00"],
        "0 0 * * 0-0": ["2026-01-04T00:00", "2026-01-11T00:00"],
        "0 0 * * 5-7": ["2026-01-02T00:00", "2026-01-03T00:00", "2026-01-04T00:00", "2026-01-09T00:00"],
        "1-1 0 * * *": ["2026-01-01T00:01", "2026-01-02T00:01"],
        "10-59/20 3 * * *": ["2026-01-01T03:10", "2026-01-01T03:30", "2026-01-01T03:50", "2026-01-02T03:10"],
        "50/4 3 * * *": ["2026-01-01T03:50", "2026-01-01T03:54", "2026-01-01T03:58", "2026-01-02T03:50"],
        "*/45 3 * * *": ["2026-01-01T03:00", "2026-01-01T03:45", "2026-01-02T03:00"],
        "0 0 13 * fri": ["2026-01-02T00:00", "2026-01-09T00:00", "2026-01-13T00:00", "2026-01-16T00:00"],
        "0 0 */10 * fri": ["2026-05-01T00:00"],
        "0 0 31 2 mon": ["2026-02-02T00:00", "2026-02-09T00:00"],
        "0 0 1 * fri#2": ["2026-01-09T00:00", "2026-02-01T00:00", "2026-02-13T00:00", "2026-03-01T00:00"],
        "0 12 1,15 jan-mar/2 *": ["2026-01-01T12:00", "2026-01-15T12:00", "2026-03-01T12:00"],
    }.items(),
)
def test_an_expression_means_the_same_as_in_a_crontab(expression: str, ticks: list[str]) -> None:
    moment = START
    for expected in ticks:
        found = Cron(expression).next_after(moment)
        assert found is not None
        assert f"{found:%Y-%m-%dT%H:%M}" == expected
        moment = found


@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris", "EST5EDT", "Etc/GMT+5", "America/Argentina/Buenos_Aires"])
def test_a_zone_of_the_iana_database_is_accepted(zone: str) -> None:
    assert Cron("@hourly", zone).next_after(START) is not None


@pytest.mark.parametrize(
    "zone",
    ["", "Nowhere/Town", "europe/paris!", "Europe", "../etc/passwd", "/etc/localtime", "localtime", "x" * 99, None, 5],
)
def test_an_unknown_zone_is_refused(zone: object) -> None:
    with pytest.raises(SchedulingError, match="timezone must be a"):
        Cron("@hourly", zone)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_february_29_is_found_across_the_year_2100_which_has_none() -> None:
    found = Cron("0 0 29 2 *").next_after(datetime(2096, 3, 1, tzinfo=UTC))
    assert found == datetime(2104, 2, 29, tzinfo=UTC)


def test_there_is_no_tick_after_the_year_9999() -> None:
    last = datetime(9999, 12, 31, 23, 59, 30, tzinfo=UTC)
    assert Cron("* * * * *").next_after(last) is None
    assert Cron("0 * * * *", "America/New_York").next_after(last) is None
    assert Every(timedelta(hours=1)).next_after(last) is None


def test_an_interval_counts_from_its_base() -> None:
    every = Every(timedelta(minutes=15))
    assert every.next_after(START) == START + timedelta(minutes=15)
    assert every.next_after(START + timedelta(minutes=31), base=START) == START + timedelta(minutes=45)
    assert every.next_after(START + timedelta(minutes=30), base=START) == START + timedelta(minutes=45)
    assert every.next_after(START - timedelta(days=3), base=START) == START


@pytest.mark.parametrize("interval", [timedelta(0), timedelta(milliseconds=999), timedelta(seconds=1, microseconds=1)])
def test_an_invalid_interval_is_refused(interval: timedelta) -> None:
    with pytest.raises(SchedulingError, match="every must be"):
        Every(interval)


@pytest.mark.parametrize("moment", [datetime(2026, 1, 1), "tomorrow"])  # noqa: DTZ001
def test_a_moment_without_a_zone_is_refused(moment: datetime) -> None:
    with pytest.raises(SchedulingError, match=r"must be an? .*datetime"):
        Cron("@hourly").next_after(moment)
    with pytest.raises(SchedulingError, match=r"start must be an? .*datetime"):
        Timing(rule=Cron("@hourly"), start=moment)


def test_start_and_end_bound_the_ticks() -> None:
    day = timedelta(days=1)
    daily = Timing(rule=Cron("0 0 * * *"), start=START + day, end=START + 3 * day)
    assert daily.next_after(START - 100 * day) == START + day
    assert daily.next_after(START + day) == START + 2 * day
    assert daily.next_after(START + 3 * day) is None
    hourly = Timing(rule=Every(timedelta(hours=1)), start=START + timedelta(minutes=5))
    assert hourly.next_after(START) == START + timedelta(minutes=5)
    assert hourly.next_after(START + timedelta(minutes=50)) == START + timedelta(minutes=65)
    with pytest.raises(SchedulingError, match="no tick between start and end"):
        Timing(rule=Cron("0 0 * * *"), start=START + timedelta(hours=1), end=START + timedelta(hours=2))


def test_a_start_at_the_first_moment_of_all_is_accepted() -> None:
    first = datetime.min.replace(tzinfo=UTC)
    hourly = Timing(rule=Every(timedelta(hours=1)), start=first, end=first + timedelta(days=1))
    assert hourly.next_after(first) == first + timedelta(hours=1)


def test_unknown_policies_are_refused() -> None:
    for missed in ("never", None, 3, ["skip"], AllMissed):
        with pytest.raises(SchedulingError, match="missed must be"):
            check_missed(missed)
    for overlap in ("maybe", None, ["skip"]):
        with pytest.raises(SchedulingError, match="overlap must be"):
            check_overlap(overlap)
    for limit in (0, -1, 1001, True, 1.5, "3"):
        with pytest.raises(SchedulingError, match="limit must be a whole number from 1 to 1,000"):
            AllMissed(limit)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
