"""Stored jobs can be inspected: single records, pages of a state, and counts."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core import (
    DriverError,
    JobRecord,
    Jobs,
    Page,
    QueueCounts,
    Retry,
    State,
    StateCounts,
    current_job,
    fixed,
    job,
)
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.stored import STATES
from flowli_core.testing import ManualClock, drain
from tests.conformance.builders import Worker
from tests.support.mailing import START, AppJobs, Email, Meta, recorded

if TYPE_CHECKING:
    from tests.support.counting import CountingDriver


async def test_a_record_shows_the_attempts_and_the_times_of_a_failing_job(jobs: AppJobs, clock: ManualClock) -> None:
    call = jobs.send.options(key="k", meta=Meta(request_id="r"), retry=Retry(max_attempts=3, backoff=fixed("1m")))
    receipt = await call.enqueue(to="nobody")
    new = await recorded(jobs, receipt.id)
    assert new == JobRecord(
        id=receipt.id,
        name="send",
        queue="default",
        state="queued",
        input={"to": "nobody"},
        meta={"request_id": "r"},
        key="k",
        created_at=START,
        updated_at=START,
        scheduled_for=START,
        attempts_made=0,
        failure_count=0,
        recoveries=0,
        max_attempts=3,
        backoff=fixed("1m"),
        last_error=None,
        last_failed_at=None,
        next_retry_at=None,
        started_at=None,
        finished_at=None,
        worker=None,
        result=None,
    )
    clock.advance("10s")
    await drain(jobs)
    failed_at, retry_at = START + timedelta(seconds=10), START + timedelta(seconds=70)
    failed = await recorded(jobs, receipt.id)
    assert (failed.state, failed.attempts_made, failed.failure_count) == ("scheduled", 1, 1)
    assert (failed.last_failed_at, failed.next_retry_at, failed.scheduled_for) == (failed_at, retry_at, retry_at)
    assert failed.updated_at == failed_at
    assert failed.last_error is not None
    assert (failed.last_error.type, failed.last_error.message) == ("ConnectionError", "nobody")
    assert "in send\n" in failed.last_error.traceback
    for _ in range(2):
        clock.advance("1m")
        await drain(jobs)
    ended = await recorded(jobs, receipt.id)
    assert (ended.state, ended.attempts_made, ended.failure_count) == ("failed", 3, 3)
    assert (ended.next_retry_at, ended.finished_at) == (None, START + timedelta(seconds=130))
    assert ended.worker is not None


async def test_a_completed_record_has_its_result_and_its_times(jobs: AppJobs, clock: ManualClock) -> None:
    receipt = await jobs.send.delay("1m", to="abc")
    clock.advance("2m")
    await drain(jobs)
    found = await recorded(jobs, receipt.id)
    assert (found.state, found.result, found.attempts_made, found.failure_count) == ("completed", 3, 1, 0)
    assert (found.created_at, found.scheduled_for) == (START, START + timedelta(minutes=1))
    assert found.finished_at == START + timedelta(minutes=2)
    assert found.started_at is not None


async def test_a_record_is_active_while_its_handler_runs(driver: CountingDriver) -> None:
    seen: list[JobRecord] = []

    @job()
    async def looks_at_itself() -> None:
        seen.append(await recorded(looking, current_job().id))
        await looking.control.cancel(current_job().id)
        seen.append(await recorded(looking, current_job().id))

    class Looking(Jobs[None]):
        look = looks_at_itself

    looking = Looking(context=None, driver=driver)
    await looking.look.enqueue()
    await drain(looking)
    assert [(record.state, record.started_at, record.attempts_made) for record in seen] == [("active", START, 0)] * 2
    assert [record.lease_until for record in seen] == [START + timedelta(seconds=30)] * 2
    assert [record.cancel_requested for record in seen] == [False, True]


async def test_a_record_that_lost_too_many_workers_shows_that_as_its_last_error(
    jobs: AppJobs, driver: CountingDriver, clock: ManualClock
) -> None:
    """No handler of it ever raised an error: all its leases expired."""
    receipt = await jobs.send.enqueue(to="a")
    for number in range(4):
        await Worker(driver, f"dies {number}", queues=("default",)).take_one()
        clock.advance("31s")
    await drain(jobs)
    found = await recorded(jobs, receipt.id)
    assert (found.state, found.recoveries, found.attempts_made) == ("failed", 4, 0)
    assert found.last_error is not None
    assert (found.last_error.type, "worker lost" in found.last_error.message) == ("WorkerLost", True)
    assert found.last_failed_at == found.finished_at


async def test_get_job_returns_none_for_an_unknown_id(jobs: AppJobs) -> None:
    assert await jobs.inspect.get_job("nobody-made-this") is None


async def test_pages_are_newest_first_and_the_last_has_no_cursor(jobs: AppJobs, clock: ManualClock) -> None:
    ids: list[str] = []
    for _ in range(5):
        ids.append((await jobs.send.enqueue(to="a")).id)
        clock.advance("1s")
    first = await jobs.inspect.find("queued", limit=2)
    second = await jobs.inspect.find("queued", limit=2, cursor=first.cursor)
    third = await jobs.inspect.find("queued", limit=2, cursor=second.cursor)
    assert [[record.id for record in page.items] for page in (first, second, third)] == [
        [ids[4], ids[3]],
        [ids[2], ids[1]],
        [ids[0]],
    ]
    assert third.cursor is None
    exact = await jobs.inspect.find("queued", limit=5)
    assert (len(exact.items), exact.cursor) == (5, None)


async def test_pages_are_stable_while_jobs_are_added_and_removed(jobs: AppJobs, clock: ManualClock) -> None:
    """No job is listed twice, and none that existed all the time is left out."""
    ids = [(await jobs.send.enqueue(to="a")).id for _ in range(6)]
    page = await jobs.inspect.find("queued", limit=2)
    shown = [record.id for record in page.items]
    while page.cursor is not None:
        clock.advance("1s")
        await jobs.send.enqueue(to="new")
        if shown[-1] in {ids[4], ids[3]}:
            await jobs.control.cancel(shown[-1])
        page = await jobs.inspect.find("queued", limit=1, cursor=page.cursor)
        shown += [record.id for record in page.items]
    assert shown == ids[::-1]


@pytest.mark.parametrize("state", STATES)
async def test_each_state_can_be_paged_through(state: State, jobs: AppJobs, driver: CountingDriver) -> None:
    assert await jobs.inspect.find(state) == Page((), None)
    await _bring(jobs, driver, state, 3)
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await jobs.inspect.find(state, limit=1, cursor=cursor)
        found += [record.id for record in page.items]
        assert {record.state for record in page.items} == {state}
        if (cursor := page.cursor) is None:
            break
    assert len(set(found)) == 3


async def test_counts_are_by_state_and_by_queue(jobs: AppJobs, clock: ManualClock) -> None:
    assert await jobs.inspect.get_queue_counts() == QueueCounts()
    await jobs.send.enqueue_many([Email(to="nobody"), Email(to="a")])
    await drain(jobs)
    await jobs.slow.enqueue("a")
    await jobs.send.delay("1m", to="a")
    cancelled = await jobs.send.enqueue(to="a")
    await jobs.control.cancel(cancelled.id)
    counts = await jobs.inspect.get_queue_counts()
    assert counts == QueueCounts(
        queued=1,
        scheduled=1,
        completed=1,
        failed=1,
        cancelled=1,
        by_queue={
            "default": StateCounts(scheduled=1, completed=1, failed=1, cancelled=1),
            "slow": StateCounts(queued=1),
        },
    )
    clock.advance("1m")
    assert (await jobs.inspect.get_queue_counts()).queued == 2


async def test_a_finished_job_is_kept_for_the_declared_time(jobs: AppJobs, clock: ManualClock) -> None:
    completed, failed = await jobs.send.enqueue(to="a"), await jobs.send.enqueue(to="nobody")
    await drain(jobs)
    clock.advance("1h")
    await drain(jobs)
    assert await jobs.inspect.get_job(completed.id) is None
    clock.advance("13d")
    await drain(jobs)
    assert (await recorded(jobs, failed.id)).state == "failed"
    clock.advance("1d")
    await drain(jobs)
    assert await jobs.inspect.get_job(failed.id) is None


async def test_an_error_of_the_driver_is_raised_to_the_caller() -> None:
    class Refusing(MemoryDriver):
        async def open(self) -> None:
            raise DriverError("no such table; run the migration")

    jobs = AppJobs(context=None, driver=Refusing())
    for asked in (jobs.inspect.get_job("a"), jobs.control.purge_all("failed"), jobs.send.enqueue(to="a")):
        with pytest.raises(DriverError, match="run the migration"):
            await asked


async def _bring(jobs: AppJobs, driver: CountingDriver, state: State, count: int) -> None:
    """Enqueue jobs and bring them into a state."""
    for _ in range(count):
        match state:
            case "scheduled":
                await jobs.send.delay("1h", to="a")
            case "failed":
                await jobs.send.enqueue(to="nobody")
            case "cancelled":
                await jobs.control.cancel((await jobs.send.enqueue(to="a")).id)
            case _:
                await jobs.send.enqueue(to="a")
    if state in {"completed", "failed"}:
        await drain(jobs)
    if state == "active":
        await Worker(driver, queues=("default",)).take(count)
