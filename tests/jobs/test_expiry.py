"""`expires`: a job that no worker has begun in time is cancelled instead of run, and each reader says why."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core import Hooks, JobCancelled, JobEvent, Jobs, RunCounts, Runner, job
from flowli_core.dashboard._timeline import make_timeline
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.durations import ZERO
from flowli_core.errors import ValidationError
from flowli_core.new_records import NewRecord
from flowli_core.sqlalchemy._table import pack, unpack
from flowli_core.testing import ManualClock, drain
from tests.support.counting import CountingDriver

if TYPE_CHECKING:
    from flowli_core import Observer

MINUTE = timedelta(minutes=1)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ran: list[int] = []


@job(int)
async def plain(input: int) -> None:
    ran.append(input)


@job(int, expires="10m")
async def offer(input: int) -> None:
    ran.append(input)


class AppJobs(Jobs[None]):
    plain = plain
    offer = offer


@pytest.fixture
def clock() -> ManualClock:
    ran.clear()
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def driver(clock: ManualClock) -> CountingDriver:
    return CountingDriver(MemoryDriver(clock=clock))


@pytest.fixture
def jobs(driver: CountingDriver) -> AppJobs:
    return AppJobs(context=None, driver=driver)


async def test_the_option_of_a_call_overrides_that_of_the_job(jobs: AppJobs, driver: CountingDriver) -> None:
    moment = datetime.now(UTC) + MINUTE
    await jobs.plain.enqueue(1)
    await jobs.offer.enqueue(1)
    await jobs.offer.options(expires="1m").enqueue(1)
    await jobs.plain.options(expires=moment).options(key="k").enqueue(1)
    assert [record.expires for record in driver.enqueued] == [None, 10 * MINUTE, MINUTE, moment]


async def test_an_expired_job_does_not_run_and_its_readers_say_so(jobs: AppJobs, clock: ManualClock) -> None:
    """Its record says when it expired, its result raises, and its timeline has a line about it."""
    late, kept = await jobs.offer.enqueue(1), await jobs.offer.delay("1m", 2)
    found = await jobs.inspect.get_job(late.id)
    assert found is not None
    assert found.expires_at == found.created_at + 10 * MINUTE
    assert [entry.text for entry in make_timeline(found)] == ["enqueued", "expires if no worker has begun it"]
    clock.advance("10m")
    assert await Runner(jobs).run_once() == RunCounts(completed=1, expired=1)
    assert ran == [2]
    found = await jobs.offer.get(late)
    assert found is not None
    assert (found.state, found.expired, found.attempts_made) == ("cancelled", True, 0)
    entry = make_timeline(found)[-1]
    assert (entry.text, entry.more) == ("cancelled", "it expired before a worker began it")
    assert found.expires_at is not None
    with pytest.raises(JobCancelled, match=r"offer: the job .* was cancelled: it expired at 20.*, before a worker"):
        await jobs.offer.result(late)
    found = await jobs.offer.get(kept)
    assert found is not None
    assert (found.state, found.expires_at) == ("completed", None)


async def test_a_caller_that_waits_learns_that_the_job_has_expired(jobs: AppJobs, clock: ManualClock) -> None:
    receipt = await jobs.offer.enqueue(1)
    waiting = asyncio.create_task(jobs.offer.result(receipt))
    await asyncio.sleep(0)
    clock.advance("10m")
    await Runner(jobs).run_once()
    with pytest.raises(JobCancelled, match="expired"):
        await waiting


async def test_a_requeued_job_runs_however_late(jobs: AppJobs, clock: ManualClock) -> None:
    receipt = await jobs.offer.enqueue(1)
    clock.advance("1h")
    assert await drain(jobs) == RunCounts(expired=1)
    await jobs.control.requeue(receipt.id)
    clock.advance("1h")
    assert await drain(jobs) == RunCounts(completed=1)


class Events:
    """An observer that keeps what it sees."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def observe(self, kind: str, event: JobEvent) -> None:
        self.seen.append((kind, event.name))


async def test_a_runner_logs_an_expired_job_and_calls_its_hook(
    jobs: AppJobs, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    receipt = await jobs.offer.options(queue="default").enqueue(1)
    clock.advance("1h")
    called: list[JobEvent] = []
    events = Events()
    observer: Observer = events
    await Runner(jobs, hooks=Hooks(on_job_expired=called.append), observers=[observer]).run_once()
    assert f"job {receipt.id} (offer) expired before a worker began it, and is cancelled" in caplog.text
    assert [(event.id, event.queue, event.attempt) for event in called] == [(receipt.id, "default", 0)]
    assert events.seen == [("expired", "offer")]


async def test_a_runner_cancels_any_number_of_expired_jobs(jobs: AppJobs, clock: ManualClock) -> None:
    await jobs.offer.enqueue_many(range(450))
    clock.advance("1h")
    await jobs.offer.enqueue(450)
    assert await Runner(jobs, concurrency=1).run_once() == RunCounts(completed=1, expired=450)


async def test_the_job_of_a_tick_that_fires_late_expires(jobs: AppJobs, clock: ManualClock) -> None:
    """It counts from the tick, so it does not run after a night without workers."""
    start = clock.now()
    await jobs.offer.schedule("hourly", every="1h", input=1, missed="once", start=start)
    clock.advance("69m")
    assert await drain(jobs) == RunCounts(completed=1)
    clock.advance("62m")
    assert await drain(jobs) == RunCounts(expired=1)
    await jobs.control.trigger("hourly")
    assert await drain(jobs) == RunCounts(completed=1)


async def test_the_jobs_of_a_schedule_do_not_expire_at_one_moment(jobs: AppJobs) -> None:
    with pytest.raises(ValidationError, match=r"a schedule makes many jobs, .* options\(expires=\"10m\"\)"):
        await jobs.plain.options(expires=datetime.now(UTC) + MINUTE).schedule("n", every="1h", input=1)
    await jobs.plain.options(expires="10m").schedule("n", every="1h", input=1)


@pytest.mark.parametrize(
    ("due", "expires", "expected"),
    [
        (ZERO, None, None),
        (ZERO, NOON, NOON),
        (ZERO, 3 * MINUTE, MINUTE),
        (ZERO, MINUTE, -MINUTE),
        (MINUTE, MINUTE, ZERO),
        (3 * MINUTE, MINUTE, MINUTE),
        (NOON, MINUTE, NOON + MINUTE),
    ],
)
def test_an_expiry_counts_from_the_call_and_not_from_when_an_outbox_sends_it(
    due: Any, expires: Any, expected: Any
) -> None:
    """The record is read two minutes after it was written."""
    record = NewRecord(id="a", name="offer", queue="default", input=b"1", due=due, expires=expires)
    assert unpack(pack(record), age=2 * MINUTE).expires == expected
