"""Ids and keys: no two jobs, keys, schedules or ticks share one, and users cannot take those that schedules make."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flowli_core import Defaults, Jobs, ValidationError, job
from flowli_core._schedules.spec import tick_id
from flowli_core._wire.keys import given_key, key_of_call, key_of_schedule
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.limits import Keep
from flowli_core.testing import ManualClock, drain

START = datetime(2026, 1, 1, tzinfo=UTC)
ran: list[str] = []


@job(name="mail")
async def mail() -> None:
    ran.append("mail")


@job(name="mail:vip")
async def vip() -> None:
    ran.append("vip")


class MailJobs(Jobs[None]):
    mail = mail
    vip = vip


@pytest.fixture
def clock() -> ManualClock:
    ran.clear()
    return ManualClock(START)


@pytest.fixture
def jobs(clock: ManualClock) -> MailJobs:
    return MailJobs(context=None, driver=MemoryDriver(clock=clock))


async def test_a_key_belongs_to_its_job_alone(jobs: MailJobs) -> None:
    first = await jobs.mail.options(key="vip:1").delay("10h")
    second = await jobs.vip.options(key="1").enqueue()
    assert (first.disposition, second.disposition) == ("accepted", "accepted")
    found = await jobs.inspect.get_job(first.id)
    assert found is not None
    assert found.key == "vip:1"


@pytest.mark.parametrize("key", ["@nightly", "@mail nightly", "@mail:nightly", "nightly", "mail nightly"])
async def test_a_key_of_a_caller_does_not_hold_up_a_schedule(jobs: MailJobs, clock: ManualClock, key: str) -> None:
    await jobs.mail.schedule("nightly", every="1h", overlap="skip")
    await jobs.mail.options(key=key).delay("30d")
    await jobs.vip.options(key=key).delay("30d")
    clock.advance("1h")
    await drain(jobs)
    assert ran == ["mail"]


async def test_an_id_that_a_tick_may_have_is_refused(jobs: MailJobs, clock: ManualClock) -> None:
    await jobs.mail.schedule("nightly", every="1h")
    with pytest.raises(ValidationError, match="id must have no @, which the ids of ticks have"):
        jobs.vip.options(id="nightly@2026-01-01T01:00:00Z")
    clock.advance("1h")
    await drain(jobs)
    assert ran == ["mail"]
    found = await jobs.inspect.get_job("nightly@2026-01-01T01:00:00Z")
    assert found is not None
    assert await jobs.control.requeue(found.id) == "requeued"


async def test_an_id_of_another_job_is_an_error_and_not_a_receipt(jobs: MailJobs) -> None:
    await jobs.mail.options(id="order-1").enqueue()
    with pytest.raises(ValidationError, match="vip: the id order-1 is that of a record of the job 'mail'"):
        await jobs.vip.options(id="order-1").enqueue()
    assert (await jobs.mail.options(id="order-1").enqueue()).disposition == "duplicate"
    await drain(jobs)
    assert ran == ["mail"]


schedule_keys = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=256) | st.text(
    "ab~@:TZ0-", min_size=1, max_size=100
)
ticks = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)).map(  # noqa: DTZ001
    lambda tick: tick.replace(tzinfo=UTC, microsecond=tick.microsecond // 1000 * 1000)
)


@given(schedule_keys, ticks, schedule_keys, ticks)
@example("a", START, "a@2026-01-01T00:00:00Z", START)
@example("a" * 81, START, "a" * 82, START)
@example("a b", START, "a~b", START)
@example("a", START, "a", START + timedelta(milliseconds=1))
def test_two_ticks_have_two_ids_that_a_store_accepts(one: str, at: datetime, other: str, then: datetime) -> None:
    if (one, at) != (other, then):
        assert tick_id(one, at) != tick_id(other, then)
    assert tick_id(one, at).isascii()
    assert len(tick_id(one, at)) <= 128


names = st.from_regex(r"\w[\w.:/-]{0,20}", fullmatch=True)


@given(names, schedule_keys, names, schedule_keys)
@example("mail", "vip:1", "mail:vip", "1")
def test_two_keys_are_stored_as_one_only_if_they_are_the_same(one: str, key: str, other: str, other_key: str) -> None:
    is_same = (one, key) == (other, other_key)
    assert (key_of_call(one, key) == key_of_call(other, other_key)) == is_same
    assert (key_of_schedule(one, key) == key_of_schedule(other, other_key)) == is_same
    assert key_of_call(one, key) != key_of_schedule(other, other_key)
    assert given_key(one, key_of_call(one, key)) == key


async def test_a_call_that_is_repeated_under_its_id_runs_once_though_its_record_was_removed() -> None:
    """With room for one completed record, another job removes it at once."""
    driver = MemoryDriver()
    jobs = MailJobs(context=None, driver=driver, defaults=Defaults(keep=Keep(completed=1)))
    for name in ("order-1", "order-2"):
        assert (await jobs.mail.options(id=name).enqueue()).disposition == "accepted"
        assert (await drain(jobs)).completed == 1
    assert await jobs.mail.get("order-1") is None
    receipt = await jobs.mail.options(id="order-1").enqueue()
    assert (receipt.disposition, receipt.state) == ("duplicate", "completed")
    assert (await drain(jobs)).completed == 0
