"""A record keeps its last ten attempts that failed or lost their worker."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from flowli_core import Jobs, Retry, current_job, fixed, job
from flowli_core._wire.attempts import pack_attempts, unpack_attempts
from flowli_core.driver import Released
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import ManualClock, drain
from tests.conformance.builders import Worker
from tests.support.mailing import START, AppJobs, recorded

ALWAYS = Retry(max_attempts=20, backoff=fixed("1s"))


@job(int, retry=ALWAYS)
async def climb(input: int) -> None:
    """Fail until the attempt of this number, with long errors."""
    if (number := current_job().attempt) < input:
        raise ConnectionError(f"{number} " + "m" * 3_000)


class Climbs(Jobs[None]):
    climb = climb


@pytest.fixture
def climbs(driver: MemoryDriver) -> Climbs:
    """Return a registry with a job that fails often."""
    return Climbs(context=None, driver=driver)


async def fail_times(climbs: Climbs, clock: ManualClock, times: int) -> str:
    """Let a job fail so many times, at a distance of a second, and return its id."""
    receipt = await climbs.climb.enqueue(times + 1)
    for _ in range(times):
        await drain(climbs)
        clock.advance("1s")
    return receipt.id


async def lose_worker(driver: MemoryDriver, clock: ManualClock, name: str | None = None) -> None:
    """Let a worker reserve a record and die."""
    await Worker(driver, name or f"dies {uuid4()}", queues=("default",)).take_one()
    clock.advance("31s")


async def test_a_record_shows_when_how_long_and_where_its_attempts_failed(climbs: Climbs, clock: ManualClock) -> None:
    record = await recorded(climbs, await fail_times(climbs, clock, 2))
    first, second = record.attempts
    assert (first.number, second.number) == (1, 2)
    assert (first.started_at, second.started_at) == (START, START + timedelta(seconds=1))
    assert first.duration is not None
    assert timedelta(0) < first.duration < timedelta(seconds=30)
    assert first.worker is not None
    assert second.worker == record.worker
    assert first.error.type == "ConnectionError"
    assert first.error.message.startswith("1 mmm")
    assert "in climb\n" in first.error.traceback


async def test_only_the_last_error_is_kept_whole(climbs: Climbs, clock: ManualClock) -> None:
    record = await recorded(climbs, await fail_times(climbs, clock, 2))
    first, second = record.attempts
    assert (len(first.error.message), len(first.error.traceback) <= 4_000) == (500, True)
    assert second.error == record.last_error
    assert len(second.error.message) == 2_000


async def test_the_last_ten_attempts_are_kept(climbs: Climbs, clock: ManualClock, driver: MemoryDriver) -> None:
    record = await recorded(climbs, await fail_times(climbs, clock, 12))
    assert [attempt.number for attempt in record.attempts] == list(range(3, 13))
    assert (record.attempts_made, record.failure_count) == (12, 12)
    for _ in range(3):
        await lose_worker(driver, clock)
    await drain(climbs)
    record = await recorded(climbs, record.id)
    assert [attempt.number for attempt in record.attempts] == [*range(6, 13), 13, 13, 13]


async def test_a_completed_record_keeps_its_failed_attempts(climbs: Climbs, clock: ManualClock) -> None:
    record_id = await fail_times(climbs, clock, 2)
    await drain(climbs)
    record = await recorded(climbs, record_id)
    assert (record.state, [attempt.number for attempt in record.attempts]) == ("completed", [1, 2])


async def test_a_record_that_never_failed_stores_no_attempts(jobs: AppJobs, driver: MemoryDriver) -> None:
    receipt = await jobs.send.enqueue(to="a")
    await drain(jobs)
    assert (await recorded(jobs, receipt.id)).attempts == ()
    assert (await jobs.send.options(id=receipt.id).enqueue(to="a")).attempts_made == 0
    (stored,) = (await jobs.inspect.find("completed")).items
    assert stored.attempts == ()


async def test_a_lost_worker_is_seen_before_and_after_the_next_attempt(
    climbs: Climbs, clock: ManualClock, driver: MemoryDriver
) -> None:
    """It stores nothing itself: a recovery without an attempt shows it."""
    receipt = await climbs.climb.enqueue(3)
    await lose_worker(driver, clock)
    await Worker(driver, "steps").step()
    (lost,) = (await recorded(climbs, receipt.id)).attempts
    assert (lost.number, lost.error.type, lost.started_at, lost.worker) == (1, "WorkerLost", None, None)
    await drain(climbs)
    shown = [(one.number, one.error.type) for one in (await recorded(climbs, receipt.id)).attempts]
    assert shown == [(1, "WorkerLost"), (1, "ConnectionError")]
    clock.advance("1s")
    await lose_worker(driver, clock)
    await drain(climbs)
    clock.advance("1s")
    await drain(climbs)
    record = await recorded(climbs, receipt.id)
    assert record.state == "completed"
    shown = [(one.number, one.error.type) for one in record.attempts]
    assert shown == [(1, "WorkerLost"), (1, "ConnectionError"), (2, "WorkerLost"), (2, "ConnectionError")]


async def test_the_loss_that_made_a_record_fail_is_known_with_its_worker(
    jobs: AppJobs, clock: ManualClock, driver: MemoryDriver
) -> None:
    receipt = await jobs.send.enqueue(to="a")
    for number in range(4):
        await lose_worker(driver, clock, f"dies {number}")
    await drain(jobs)
    record = await recorded(jobs, receipt.id)
    assert [attempt.worker for attempt in record.attempts] == [None, None, None, "dies 3"]
    assert record.attempts[-1].started_at == record.started_at


async def test_a_requeued_record_keeps_its_attempts_and_counts_anew(
    jobs: AppJobs, clock: ManualClock, driver: MemoryDriver
) -> None:
    receipt = await jobs.send.enqueue(to="nobody")
    await lose_worker(driver, clock)
    await drain(jobs)
    assert await jobs.control.requeue(receipt.id) == "requeued"
    await lose_worker(driver, clock)
    await drain(jobs)
    record = await recorded(jobs, receipt.id)
    assert [(one.number, one.error.type) for one in record.attempts] == [
        (1, "WorkerLost"),
        (1, "ConnectionError"),
        (1, "WorkerLost"),
        (1, "ConnectionError"),
    ]


async def test_losses_outlive_a_requeue_of_a_record_that_never_ran_to_an_end(
    jobs: AppJobs, clock: ManualClock, driver: MemoryDriver
) -> None:
    receipt = await jobs.send.enqueue(to="a")
    for _ in range(4):
        await lose_worker(driver, clock)
    await Worker(driver, "steps").step()
    assert await jobs.control.requeue(receipt.id) == "requeued"
    record = await recorded(jobs, receipt.id)
    assert (record.recoveries, [one.error.type for one in record.attempts]) == (0, ["WorkerLost"] * 4)


async def test_an_attempt_keeps_its_error_while_the_record_is_parked(
    climbs: Climbs, jobs: AppJobs, clock: ManualClock
) -> None:
    """A worker that does not know the job writes another last error."""
    record_id = await fail_times(climbs, clock, 1)
    await drain(jobs)
    record = await recorded(jobs, record_id)
    assert record.last_error is not None
    assert record.last_error.type == "UnknownJob"
    (attempt,) = record.attempts
    assert (attempt.error.type, len(attempt.error.message)) == ("ConnectionError", 500)


async def test_an_attempt_that_is_released_is_not_kept(
    climbs: Climbs, clock: ManualClock, driver: MemoryDriver
) -> None:
    record_id = await fail_times(climbs, clock, 1)
    worker = Worker(driver, queues=("default",))
    reserved = await worker.take_one()
    assert await worker.settle(reserved, Released()) == "ok"
    assert [one.number for one in (await recorded(climbs, record_id)).attempts] == [1]


async def test_the_size_of_what_is_kept_is_bounded(climbs: Climbs, clock: ManualClock, driver: MemoryDriver) -> None:
    record = await recorded(climbs, await fail_times(climbs, clock, 15))
    assert sum(len(one.error.message) + len(one.error.traceback) for one in record.attempts) < 9 * 4_500 + 18_000


def test_attempts_that_an_earlier_release_stored_are_read() -> None:
    wire = b'{"attempts_made":2,"failure_count":3,"last_error":{"type":"ValueError","message":"no","traceback":"at"}}'
    attempts = unpack_attempts(wire)
    assert (attempts.attempts_made, attempts.failure_count, attempts.kept) == (2, 3, ())
    assert pack_attempts(attempts).startswith(b'{"last_error":{"type":"ValueError","message":"no",')
