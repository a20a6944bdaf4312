"""Any text, value or stored bytes are accepted or refused by an error of Flowli, which is short and has no controls.

`FLOWLI_FUZZ_EXAMPLES=20000` makes so many examples of each test, at random: see tests/conftest.py.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from flowli_core import FlowliError, SchedulingError, ValidationError
from flowli_core._schedules.rules import Cron, Every
from flowli_core._schedules.spec import read
from flowli_core._wire.attempts import unpack_attempts
from flowli_core._wire.codec import Codec
from flowli_core._wire.policy import unpack_policy
from flowli_core._wire.trace import trace_of, without_trace
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.durations import due, duration
from flowli_core.stored import StoredSchedule
from tests.support.mailing import AppJobs

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LONGEST = 600

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300) | st.binary(max_size=50)
times = st.timedeltas() | st.datetimes() | st.datetimes(timezones=st.timezones())
values = scalars | times | st.lists(scalars, max_size=3) | st.dictionaries(st.text(), scalars, max_size=3)
long_texts = st.text(max_size=300) | st.text("a1@:/.-_ é\n\x1b", max_size=400)


def refused_or_not(make: Callable[[], object], error: type[FlowliError]) -> None:
    """Make something that may be refused with this error."""
    try:
        make()
    except error as refused:
        assert_short(refused)


def assert_short(error: Exception) -> None:
    assert len(str(error)) <= LONGEST
    assert str(error).isprintable()


@given(st.text(max_size=300) | st.from_regex(r"([0-9*/,\-#a-zL?@]{1,6} ){4}[0-9*/,\-#a-zL?@]{1,6}", fullmatch=True))
@example("0 0 31 2 *")
@example("@every 5m")
@example("9" * 100_000)
def test_a_cron_expression_is_a_rule_or_a_scheduling_error(expression: str) -> None:
    refused_or_not(lambda: Cron(expression).next_after(NOW), SchedulingError)


@given(long_texts)
@example("../../etc/passwd")
@example("UTC\x00")
def test_a_time_zone_is_known_or_a_scheduling_error(name: str) -> None:
    refused_or_not(lambda: Cron("0 8 * * *", name).next_after(NOW), SchedulingError)


@given(values | st.from_regex(r"[0-9.]{1,15}(ms|s|m|h|d)", fullmatch=True))
@example("999999999999d")
def test_a_duration_or_due_time_is_read_or_a_scheduling_error(given: Any) -> None:
    refused_or_not(lambda: duration(given, argument="delay", error=SchedulingError), SchedulingError)
    refused_or_not(lambda: due(given, argument="delay", now=NOW), SchedulingError)
    refused_or_not(lambda: Every(given).next_after(NOW), SchedulingError)


@given(long_texts | values)
def test_an_id_key_or_queue_is_accepted_or_a_validation_error(given: Any) -> None:
    jobs = AppJobs(context=None)
    for option in ("id", "key", "queue"):
        refused_or_not(lambda option=option: jobs.send.options(**{option: given}), ValidationError)  # type: ignore[misc]


@given(long_texts | st.text("abcdefghijklmnopqrstuvwxyzABCDEFG0123456789-_", max_size=200))
async def test_a_cursor_is_accepted_or_a_validation_error(cursor: str) -> None:
    inspect = AppJobs(context=None, driver=MemoryDriver()).inspect
    for page in (inspect.get_schedules(cursor=cursor), inspect.find("failed", cursor=cursor)):
        try:
            await page
        except ValidationError as refused:
            assert_short(refused)


@given(values)
@example("a" * 100_000)
@example(object())
async def test_a_state_is_accepted_or_a_validation_error(given: Any) -> None:
    try:
        await AppJobs(context=None, driver=MemoryDriver()).inspect.find(given)
    except ValidationError as refused:
        assert_short(refused)


@given(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50) | times)
async def test_a_limit_is_accepted_or_a_validation_error(given: Any) -> None:
    try:
        await AppJobs(context=None, driver=MemoryDriver()).inspect.find("failed", limit=given)
    except ValidationError as refused:
        assert_short(refused)


class Order(BaseModel):
    prices: dict[str, int] = {}
    rows: list[dict[str, datetime | None]] = []


ORDER: Codec[Any] = Codec(Order, label="order: input")
jsons = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
).map(lambda value: Codec[Any](Any, label="any").pack_value(value))
stored = st.binary(max_size=300) | jsons | st.from_regex(rb'\{"(v|prices|rows|timing)": ?[\[{"0-9a]{0,40}\}?')


@given(stored)
@example(b"[" * 100_000)
@example(b'{"v": 1, "max_attempts": ' + b"9" * 5_000 + b"}")
def test_stored_bytes_are_read_or_refused(wire: bytes) -> None:
    refused_or_not(lambda: ORDER.unpack(wire), ValidationError)
    unpack_attempts(wire)
    trace_of(wire)
    without_trace(wire)
    schedule = StoredSchedule(key="k", queue="q", spec=wire, next_tick=NOW)
    for unpack in (lambda: unpack_policy(wire), lambda: read(schedule)):
        try:
            unpack()
        except ValueError as refused:
            assert_short(refused)


@given(st.timedeltas(min_value=timedelta(milliseconds=1), max_value=timedelta(days=3653)))
def test_every_interval_of_whole_milliseconds_from_a_second_on_is_a_rule(interval: timedelta) -> None:
    is_valid = interval >= timedelta(seconds=1) and not interval % timedelta(milliseconds=1)
    try:
        Every(interval)
    except SchedulingError:
        assert not is_valid
    else:
        assert is_valid
