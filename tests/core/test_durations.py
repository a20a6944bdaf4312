"""Durations and due times as users write them and as messages show them, and clocks."""

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest

from flowli_core import DefinitionError, SchedulingError, ValidationError
from flowli_core.clock import SystemClock
from flowli_core.durations import LONGEST, due, duration, format_duration
from flowli_core.testing import ManualClock

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("250ms", timedelta(milliseconds=250)),
        ("30s", timedelta(seconds=30)),
        ("10m", timedelta(minutes=10)),
        ("2h", timedelta(hours=2)),
        ("1d", timedelta(days=1)),
        ("1.5h", timedelta(minutes=90)),
        ("0.000001s", timedelta(microseconds=1)),
        ("007s", timedelta(seconds=7)),
        (timedelta(seconds=3), timedelta(seconds=3)),
        (LONGEST, LONGEST),
    ],
)
def test_a_duration_is_written_with_its_unit(written: str | timedelta, meant: timedelta) -> None:
    assert duration(written, argument="timeout") == meant


@pytest.mark.parametrize(
    "written",
    ["", "5", "s", "5 s", "+5s", "-5s", "5S", "1h30m", ".5s", "5.s", "1e3s", "5w", "\u0665s", "5s\n", "9" * 99],
)
def test_a_malformed_duration_is_refused_with_the_cure(written: str) -> None:
    with pytest.raises(DefinitionError, match=r"timeout is not a duration: .*write it as") as caught:
        duration(written, argument="timeout")
    assert len(str(caught.value)) < 160


@pytest.mark.parametrize("bare", [5, 0.5, True, None, b"5s", [1]])
def test_a_number_without_a_unit_is_refused(bare: object) -> None:
    with pytest.raises(DefinitionError, match=r"timeout must be a duration, got .*as a timedelta"):
        duration(bare, argument="timeout")


@pytest.mark.parametrize(
    ("written", "meant"),
    [(600, "600s"), (0.5, "0.5s"), ("10", "10s"), ("10 minutes", "10m"), ("5 sec", "5s"), ("2 hours", "2h")],
)
def test_a_duration_that_is_nearly_right_is_refused_with_what_was_meant(written: object, meant: str) -> None:
    with pytest.raises(DefinitionError, match=f'; did you mean "{meant}"'):
        duration(written, argument="timeout")


def test_zero_is_refused_unless_the_argument_allows_it() -> None:
    assert duration("0s", argument="delay", zero=True) == timedelta(0)
    with pytest.raises(DefinitionError, match="delay must be longer than zero"):
        duration("0s", argument="delay")
    with pytest.raises(DefinitionError, match="delay must be longer than zero"):
        duration("0.000001ms", argument="delay")
    with pytest.raises(DefinitionError, match="delay must not be negative"):
        duration(timedelta(microseconds=-1), argument="delay", zero=True)


def test_a_duration_over_the_longest_is_refused() -> None:
    with pytest.raises(ValidationError, match="lease must be at most 1d, got 25h"):
        duration("25h", argument="lease", longest=timedelta(days=1), error=ValidationError)
    for written in ("3654d", timedelta.max, "999999999999d"):
        with pytest.raises(DefinitionError, match="keep must be at most 3653d"):
            duration(written, argument="keep")


def test_a_due_time_is_a_duration_or_a_moment_in_utc() -> None:
    assert due("10m", argument="delay", now=NOW) == timedelta(minutes=10)
    assert due(timedelta(0), argument="delay", now=NOW) == timedelta(0)
    paris = datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Paris"))
    moment = due(paris, argument="delay", now=NOW)
    assert isinstance(moment, datetime)
    assert (moment, moment.tzinfo) == (datetime(2026, 7, 1, 10, tzinfo=UTC), UTC)


def test_a_moment_may_be_long_past_but_not_over_ten_years_ahead() -> None:
    assert due(datetime.min.replace(tzinfo=UTC), argument="delay", now=NOW) == datetime.min.replace(tzinfo=UTC)
    assert due(NOW + LONGEST, argument="delay", now=NOW) == NOW + LONGEST
    with pytest.raises(SchedulingError, match="delay must be at most 3653d from now"):
        due(NOW + LONGEST + timedelta(seconds=1), argument="delay", now=NOW)


class Nowhere(tzinfo):
    """A zone that does not know its offset."""

    def utcoffset(self, dt: datetime | None, /) -> None:
        del dt

    dst = utcoffset

    def tzname(self, dt: datetime | None, /) -> None:
        del dt


def test_a_moment_without_an_offset_is_refused() -> None:
    for naive in (datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=Nowhere())):  # noqa: DTZ001 - naive on purpose
        with pytest.raises(SchedulingError, match=r"delay must be an aware datetime.*tzinfo=UTC"):
            due(naive, argument="delay", now=NOW)


@pytest.mark.parametrize(
    ("span", "shown"),
    [
        (timedelta(days=2), "2d"),
        (timedelta(hours=36), "36h"),
        (timedelta(minutes=90), "90m"),
        (timedelta(seconds=90), "90s"),
        (timedelta(milliseconds=1500), "1500ms"),
        (timedelta(microseconds=1), "0.001ms"),
        (timedelta(days=1, milliseconds=1), "86400001ms"),
        (timedelta(0), "0s"),
    ],
)
def test_a_duration_is_shown_as_a_user_would_write_it(span: timedelta, shown: str) -> None:
    assert format_duration(span) == shown


def test_the_systems_clock_is_aware_and_in_utc() -> None:
    before = datetime.now(UTC)
    assert before <= SystemClock().now() <= datetime.now(UTC)
    assert SystemClock().now().tzinfo is UTC


def test_a_manual_clock_stands_still_until_it_is_moved() -> None:
    clock = ManualClock(datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))))
    assert (clock.now(), clock.now().tzinfo) == (NOW, UTC)
    clock.advance("1h")
    clock.back(timedelta(minutes=30))
    assert clock.now() == NOW + timedelta(minutes=30)
    with pytest.raises(DefinitionError, match="by must not be negative"):
        clock.advance(timedelta(-1))
