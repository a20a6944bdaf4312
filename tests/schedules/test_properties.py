"""Random cron expressions, compared with cronsim, another implementation, and checked for rules that always hold.

Where cronsim differs, and why:
- `7-7/5`, a range of one with a step: cronsim reads it as `7/5`, which goes on to the end. Here it is 7.
- `3/2` as the day of the week: cronsim goes on to 7, which is Sunday again. Here it ends on Saturday.
- On a day when the clock is set by half an hour (Lord Howe), and if the expression follows elapsed time, cronsim counts
  the hours from the half hour and leaves out the ticks before it.
- An expression that never fires is refused here. cronsim searches for 50 years, and stops.
- `5-1` is refused by both, `*/90` only here.
"""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim, CronSimError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowli_core._schedules.rules import Cron, Every
from flowli_core._schedules.timing import Timing
from flowli_core.errors import SchedulingError

ZONES = ("Europe/Paris", "America/New_York", "America/Havana", "Australia/Lord_Howe", "Asia/Kolkata", "UTC")
HOW_MANY = 2000
BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
NAMES = {
    3: ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    4: ["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
}
READ_DIFFERENTLY = re.compile(r"\b(\d+)-\1/|(^|[ ,])\w+/\d+(,\S*)?$")


def part(rng: random.Random, index: int) -> str:
    low, high = BOUNDS[index]
    value = rng.randint(low, high)
    match rng.randrange(7):
        case 0:
            return f"{value}-{rng.randint(value, high)}"
        case 1:
            return f"{value}-{rng.randint(value, high)}/{rng.randint(1, high)}"
        case 2:
            return f"*/{rng.randint(1, high)}"
        case 3:
            return f"{value}/{rng.randint(1, high)}"
        case 4 if index in NAMES:
            return rng.choice(NAMES[index])
        case _:
            return str(value)


def expression(rng: random.Random) -> str:
    fields: list[str] = []
    for index in range(5):
        if rng.random() < 0.4:
            fields.append("*")
        elif index == 2 and rng.random() < 0.1:
            fields.append("L")
        elif index == 4 and rng.random() < 0.15:
            fields.append(f"{rng.randint(0, 7)}#{rng.randint(1, 5)}")
        else:
            fields.append(",".join(part(rng, index) for _ in range(rng.choice((1, 1, 2)))))
    return " ".join(fields)


def changes(zone: str) -> list[datetime]:
    """Return the days on which the clock is set, in two years."""
    info, days = ZoneInfo(zone), [BEGIN + timedelta(days=n) for n in range(730)]
    return [
        day
        for day in days
        if day.astimezone(info).utcoffset() != (day + timedelta(days=1)).astimezone(info).utcoffset()
    ]


CHANGES = {zone: changes(zone) for zone in ZONES}


def a_start(rng: random.Random, zone: str) -> datetime:
    around = rng.choice(CHANGES[zone] or [BEGIN]) if rng.random() < 0.6 else BEGIN + timedelta(days=rng.randrange(2500))
    return around + timedelta(minutes=rng.randint(-300, 1800), seconds=rng.choice((0, 0, 17)))


def test_cronsim_reads_thousands_of_expressions_the_same_way() -> None:
    rng = random.Random(2024)  # noqa: S311
    compared = 0
    while compared < HOW_MANY:
        text, zone = expression(rng), rng.choice(ZONES)
        if READ_DIFFERENTLY.search(text):
            continue
        start = a_start(rng, zone)
        try:
            cron = Cron(text, zone)
            other = CronSim(text, start.astimezone(ZoneInfo(zone)))
        except SchedulingError as refused:
            if "never fires" not in str(refused):
                pytest.fail(f"{text}: {refused}")
            continue
        except CronSimError:
            pytest.fail(f"{text} is accepted here, and refused by cronsim")
        is_near = any(abs(start - day) < timedelta(days=4) for day in CHANGES[zone])
        if zone == "Australia/Lord_Howe" and (is_near or "*" in "".join(text.split()[:2])):
            continue
        moment = start
        for _ in range(3):
            found, theirs = cron.next_after(moment), next(other).astimezone(UTC)
            assert found == theirs, (text, zone, start)
            moment = theirs
        compared += 1


@st.composite
def crons(draw: st.DrawFn) -> Cron:
    rng = random.Random(draw(st.integers(0, 2**32)))  # noqa: S311
    while True:
        try:
            return Cron(expression(rng), draw(st.sampled_from(ZONES)))
        except SchedulingError:
            continue


moments = st.datetimes(datetime(2024, 1, 1), datetime(2030, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
relaxed = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@relaxed
@given(cron=crons(), moment=moments)
def test_there_is_no_tick_between_a_moment_and_its_next_tick(cron: Cron, moment: datetime) -> None:
    """A tick is the next one from every moment before it."""
    tick = cron.next_after(moment)
    assert tick is not None
    assert tick > moment
    assert (tick.second, tick.microsecond) == (0, 0)
    for fraction in (0.25, 0.5, 0.75, 0.999):
        assert cron.next_after(moment + (tick - moment) * fraction) == tick
    assert cron.next_after(tick - timedelta(milliseconds=1)) == tick


@relaxed
@given(cron=crons(), moment=moments, hours=st.integers(1, 60), parts=st.integers(2, 5))
def test_a_span_has_the_same_ticks_however_it_is_split(cron: Cron, moment: datetime, hours: int, parts: int) -> None:
    end = moment + timedelta(hours=hours)
    whole = ticks(cron, moment, end)[:200]
    split = [
        tick
        for index in range(parts)
        for tick in ticks(cron, moment + index * (end - moment) / parts, moment + (index + 1) * (end - moment) / parts)
    ]
    assert split[:200] == whole


@relaxed
@given(seconds=st.integers(1, 10**6), moment=moments, past=st.integers(0, 10**7), count=st.integers(1, 20))
def test_the_ticks_of_an_interval_stay_on_its_grid(seconds: int, moment: datetime, past: int, count: int) -> None:
    every = Every(timedelta(seconds=seconds))
    later = moment + timedelta(seconds=past)
    tick = every.next_after(later, base=moment)
    assert tick is not None
    assert (tick - moment) % every.interval == timedelta(0)
    assert timedelta(0) < tick - later <= every.interval
    latest = Timing(rule=every).latest(count, since=moment, until=later)
    assert latest == [tick - n * every.interval for n in range(len(latest), 0, -1)]
    assert len(latest) == min(count, past // seconds + 1)


@settings(relaxed, max_examples=40)
@given(cron=crons(), moment=moments, hours=st.integers(0, 60), count=st.integers(1, 50))
def test_the_latest_ticks_equal_the_end_of_all_ticks(cron: Cron, moment: datetime, hours: int, count: int) -> None:
    """They are found by searching back from the end, without going through all that were missed."""
    since = cron.next_after(moment)
    assert since is not None
    until = since + timedelta(hours=hours)
    after_first = ticks(cron, since, until, most=800)
    if len(after_first) < 800:
        assert Timing(rule=cron).latest(count, since=since, until=until) == [since, *after_first][-count:]


def ticks(cron: Cron, after: datetime, until: datetime, most: int = 400) -> list[datetime]:
    found: list[datetime] = []
    tick = cron.next_after(after)
    while tick is not None and tick <= until and len(found) < most:
        found.append(tick)
        tick = cron.next_after(tick)
    return found
