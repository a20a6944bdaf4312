"""Stored jobs can be cancelled, requeued and purged."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core import Jobs, Retry, RunCounts, Runner, ValidationError, fixed, job
from flowli_core.testing import ManualClock, drain
from tests.support.counting import CountingDriver
from tests.support.mailing import AppJobs, ran, recorded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowli_core.stored import FinishedState


async def test_a_waiting_job_that_is_cancelled_never_runs(jobs: AppJobs) -> None:
    queued, delayed = await jobs.send.enqueue(to="a"), await jobs.send.delay("1h", to="a")
    assert [await jobs.control.cancel(receipt.id) for receipt in (queued, delayed)] == ["cancelled"] * 2
    assert await drain(jobs) == RunCounts()
    assert not ran
    assert await jobs.control.cancel(queued.id) == "finished"
    assert await jobs.control.cancel("nobody-made-this") == "unknown"
    assert (await recorded(jobs, queued.id)).state == "cancelled"


async def test_a_paused_queue_waits_until_it_is_resumed(jobs: AppJobs) -> None:
    await jobs.send.enqueue(to="a")
    assert await jobs.control.pause_queue("default")
    assert not await jobs.control.pause_queue("default")
    assert set((await jobs.inspect.get_overview()).paused) == {"default"}
    await jobs.send.enqueue(to="b")
    assert await drain(jobs) == RunCounts()
    assert await jobs.control.resume_queue("default")
    assert not await jobs.control.resume_queue("default")
    assert (await drain(jobs)).completed == 2


async def test_a_queue_that_is_not_declared_is_not_paused(jobs: AppJobs) -> None:
    for change in (jobs.control.pause_queue, jobs.control.resume_queue):
        with pytest.raises(ValidationError, match=r"declares no queue 'defualt'; did you mean 'default'\?"):
            await change("defualt")
        with pytest.raises(ValidationError, match="queue may have letters"):
            await change("a b")


async def test_a_paused_queue_that_is_no_longer_declared_can_be_resumed(jobs: AppJobs, driver: CountingDriver) -> None:
    await driver.pause_queue("old", paused=True)
    assert await jobs.control.resume_queue("old")


async def test_requeue_runs_a_failed_job_again_with_its_attempts_reset(jobs: AppJobs, clock: ManualClock) -> None:
    call = jobs.send.options(retry=Retry(max_attempts=2, backoff=fixed("1m")))
    receipt = await call.enqueue(to="nobody")
    await drain(jobs)
    assert await jobs.control.requeue(receipt.id) == "requeued"
    waiting = await recorded(jobs, receipt.id)
    assert (waiting.state, waiting.attempts_made, waiting.failure_count) == ("queued", 0, 1)
    for _ in range(2):
        await drain(jobs)
        clock.advance("1m")
    ended = await recorded(jobs, receipt.id)
    assert (ended.state, ended.attempts_made, ended.failure_count) == ("failed", 2, 3)


async def test_requeue_runs_a_completed_job_again(jobs: AppJobs) -> None:
    receipt = await jobs.send.enqueue(to="a")
    await drain(jobs)
    assert await jobs.control.requeue(receipt.id) == "requeued"
    again = await recorded(jobs, receipt.id)
    assert (again.state, again.attempts_made, again.result, again.finished_at) == ("queued", 0, None, None)
    await drain(jobs)
    assert ran == [("a", None)] * 2
    assert (await recorded(jobs, receipt.id)).attempts_made == 1


async def test_requeue_runs_a_delayed_job_now(jobs: AppJobs) -> None:
    receipt = await jobs.send.delay("1h", to="a")
    assert await jobs.control.requeue(receipt.id) == "requeued"
    await drain(jobs)
    assert ran == [("a", None)]


async def test_requeue_returns_the_reason_if_it_does_nothing(jobs: AppJobs) -> None:
    queued = await jobs.send.enqueue(to="a")
    assert await jobs.control.requeue(queued.id) == "unfinished"
    assert await jobs.control.requeue("nobody-made-this") == "unknown"
    first = await jobs.send.options(key="k").enqueue(to="a")
    await drain(jobs)
    await jobs.send.options(key="k").enqueue(to="b")
    assert await jobs.control.requeue(first.id) == "key_taken"


async def test_purge_removes_jobs_that_finished_long_enough_ago(jobs: AppJobs, clock: ManualClock) -> None:
    old = await jobs.send.enqueue(to="nobody")
    await drain(jobs)
    clock.advance("1h")
    young = await jobs.send.enqueue(to="nobody")
    await drain(jobs)
    clock.advance("1m")
    assert (await jobs.control.purge_all("completed")).changed == 0
    assert (await jobs.control.purge_all("failed", older_than="30m")).changed == 1
    assert await jobs.inspect.get_job(old.id) is None
    assert (await jobs.control.purge_all("failed", older_than=timedelta(minutes=2))).changed == 0
    assert (await jobs.control.purge_all("failed")).changed == 1
    assert await jobs.inspect.get_job(young.id) is None


async def test_purge_removes_many_jobs_in_calls_of_bounded_size(
    jobs: AppJobs, driver: CountingDriver, clock: ManualClock
) -> None:
    for receipt in await jobs.slow.enqueue_many(map(str, range(1_100))):
        await jobs.control.cancel(receipt.id)
    clock.advance("1s")
    assert (await jobs.control.purge_all("cancelled")).changed == 1_100
    assert driver.calls["purge"] == 4


async def test_cancelling_an_active_job_cancels_its_handler(driver: CountingDriver) -> None:
    started, seen = asyncio.Event(), asyncio.Event()

    @job()
    async def lasting() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.set()

    class Lasting(Jobs[None]):
        last = lasting

    jobs = Lasting(context=None, driver=driver)
    receipt = await jobs.last.enqueue()
    async with asyncio.timeout(20), Runner(jobs, lease="1s"):
        await started.wait()
        assert await jobs.control.cancel(receipt.id) == "requested"
        assert await jobs.control.requeue(receipt.id) == "unfinished"
        await seen.wait()
    assert (await recorded(jobs, receipt.id)).state == "cancelled"


class BusyDriver(CountingDriver):
    """A driver during whose purges jobs keep finishing: one more in each call."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs = AppJobs(context=None, driver=self)

    async def purge(
        self, state: FinishedState, *, older_than: timedelta, limit: int, ids: Sequence[str] | None = None
    ) -> int:
        removed = await super().purge(state, older_than=older_than, limit=limit, ids=ids)
        await self.jobs.send.enqueue(to="a")
        await drain(self.jobs)
        await asyncio.sleep(0.002)  # so that the job is older than 0 s, and the next call could remove it
        return removed


async def test_a_purge_ends_although_jobs_keep_finishing() -> None:
    """It removes only jobs that had finished when it began, give or take the duration of its last call."""
    driver = BusyDriver()
    receipt = await driver.jobs.send.enqueue(to="a")
    await drain(driver.jobs)
    await asyncio.sleep(0.01)  # so that the job is older than 0 s
    async with asyncio.timeout(20):
        assert (await driver.jobs.control.purge_all("completed")).changed >= 1
    assert await driver.jobs.inspect.get_job(receipt.id) is None
