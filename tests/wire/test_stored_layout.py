"""The layout of stored policies, attempts and schedules: exact bytes, the round trip, and refused damage."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowli_core import AllMissed, Exponential, Fixed, exponential, fixed
from flowli_core._schedules.rules import Cron, Every
from flowli_core._schedules.spec import FORMAT, ScheduleSpec, read
from flowli_core._schedules.timing import Timing
from flowli_core._wire.attempts import Attempts, KeptAttempt, pack_attempts, unpack_attempts
from flowli_core._wire.policy import Policy, pack_policy, unpack_policy
from flowli_core._wire.versioned import NewerVersionError
from flowli_core.durations import LONGEST
from flowli_core.errors import LastError
from flowli_core.new_records import NewRecord
from flowli_core.stored import StoredSchedule

durations = st.timedeltas(min_value=timedelta(microseconds=1), max_value=LONGEST)
ratios = st.none() | st.tuples(st.floats(0, 0.5), st.floats(0.5, 1))


def make_exponential(
    delays: tuple[timedelta, timedelta], factor: float, jitter: tuple[float, float] | None
) -> Exponential:
    """Make a backoff from two delays in any order."""
    return Exponential(first=min(delays), max_delay=max(delays), factor=factor, jitter=jitter)


backoffs = st.builds(Fixed, delay=durations, jitter=ratios) | st.builds(
    make_exponential, st.tuples(durations, durations), st.floats(1, 1e6), ratios
)
policies = st.builds(Policy, max_attempts=st.integers(1, 1_000_000), backoff=backoffs, timeout=st.none() | durations)

NIGHTLY = ScheduleSpec(
    key="nightly",
    timing=Timing(rule=Cron("0 3 * * *", "Europe/Paris"), end=datetime(2030, 1, 1, tzinfo=UTC)),
    missed="once",
    overlap="skip",
    record=NewRecord(id="", name="clean", queue="default", input=b'"all"', policy=b'{"v":1}'),
)
KEPT = (
    KeptAttempt(number=1, error=LastError("WorkerLost", "gone")),
    KeptAttempt(
        number=2, started_at=datetime(2030, 1, 1, tzinfo=UTC), duration=timedelta(milliseconds=500), worker="there"
    ),
)
HOURLY = replace(
    NIGHTLY,
    timing=Timing(rule=Every(timedelta(hours=1)), start=datetime(2026, 1, 1, tzinfo=UTC)),
    missed=AllMissed(7),
    record=replace(NIGHTLY.record, meta=b'{"to":"\\u00fc"}', keep_failed=LONGEST),
    declared_by="app.AppJobs",
)


def stored(spec: ScheduleSpec, packed: bytes | None = None) -> StoredSchedule:
    """Return a schedule as a driver would."""
    return StoredSchedule(
        key=spec.key, queue="default", spec=FORMAT.pack(spec) if packed is None else packed, next_tick=None
    )


def test_the_stored_bytes_stay_as_they_are() -> None:
    """A renamed field changes the stored layout. After the first release, such a change needs a new version."""
    retrying = Policy(max_attempts=5, backoff=exponential("1s", max_delay="10m", jitter=True), timeout=timedelta(30))
    assert pack_policy(retrying) == (
        b'{"v":1,"max_attempts":5,"backoff":{"first":"PT1S","max_delay":"PT10M","factor":2.0,"jitter":[0.5,1.0]},'
        b'"timeout":"P30D"}'
    )
    assert pack_policy(Policy(max_attempts=1, backoff=fixed("5s"))) == (
        b'{"v":1,"max_attempts":1,"backoff":{"delay":"PT5S"}}'
    )
    error = LastError("ValueError", "no", "at")
    assert pack_attempts(Attempts(last_error=error, attempts_made=2, failure_count=3, recoveries=1, kept=KEPT)) == (
        b'{"last_error":{"type":"ValueError","message":"no","traceback":"at"},"attempts_made":2,"failure_count":3,'
        b'"recoveries":1,"kept":[{"number":1,"error":{"type":"WorkerLost","message":"gone","traceback":""}},'
        b'{"number":2,"started_at":"2030-01-01T00:00:00Z","duration":"PT0.5S","worker":"there"}]}'
    )
    assert FORMAT.pack(NIGHTLY) == (
        b'{"v":1,"timing":{"rule":{"expression":"0 3 * * *","timezone":"Europe/Paris"},"end":"2030-01-01T00:00:00Z"},'
        b'"missed":"once","overlap":"skip","record":{"id":"","name":"clean","queue":"default","input":"\\"all\\"",'
        b'"policy":"{\\"v\\":1}","max_recoveries":3,"keep_completed":"PT1H","keep_failed":"P14D"}}'
    )


@given(policies)
def test_a_policy_is_read_as_it_was_written(policy: Policy) -> None:
    assert unpack_policy(pack_policy(policy)) == policy


errors = st.none() | st.builds(LastError, *[st.text()] * 3)
counts = st.integers(0)
kept = st.builds(
    KeptAttempt,
    number=counts,
    started_at=st.none() | st.datetimes(timezones=st.just(UTC)),
    duration=st.none() | durations,
    worker=st.none() | st.text(),
    error=errors,
)


@given(
    st.builds(
        Attempts,
        last_error=errors,
        attempts_made=counts,
        failure_count=counts,
        recoveries=counts,
        kept=st.lists(kept, max_size=3).map(tuple),
    )
)
def test_attempts_are_read_as_they_were_written(attempts: Attempts) -> None:
    assert unpack_attempts(pack_attempts(attempts)) == attempts


@pytest.mark.parametrize("spec", [NIGHTLY, HOURLY])
def test_a_schedule_is_read_as_it_was_written(spec: ScheduleSpec) -> None:
    assert read(stored(spec)) == spec


@pytest.mark.parametrize(
    ("sound", "damaged"),
    [
        (b'{"v":1', b'{"v":"1"'),
        (b'"PT1H"', b'"1h"'),
        (b'"interval":"PT1H"', b'"interval":"PT0.5S"'),
        (b'"interval"', b'"often"'),
        (b'"limit":7', b'"limit":7000'),
        (b'{"limit":7}', b'"never"'),
        (b'"skip"', b'"never"'),
        (b'"max_recoveries":3', b'"max_recoveries":"3"'),
        (b'"2026-01-01T00:00:00Z"', b'"2026-01-01T00:00:00"'),
        (b'"2026-01-01T00:00:00Z"', b"5"),
        (b'"P10Y3D"', b'"P99999999999Y"'),
        (b'"input":', b'"output":'),
    ],
)
def test_a_damaged_schedule_is_refused(sound: bytes, damaged: bytes) -> None:
    spec = FORMAT.pack(HOURLY)
    assert sound in spec
    with pytest.raises(ValueError, match="the schedule cannot be read"):
        read(stored(HOURLY, spec.replace(sound, damaged)))


def test_a_schedule_of_a_later_release_is_recognized_even_without_its_fields() -> None:
    for spec in (FORMAT.pack(HOURLY).replace(b'{"v":1', b'{"v":2'), b'{"v":2}'):
        with pytest.raises(NewerVersionError):
            read(stored(HOURLY, spec))
