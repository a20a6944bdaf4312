"""What can be done to stored jobs: cancel, requeue, purge."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from flowli_core import Jobs, Retry, RunCounts, Runner, fixed, job
from flowli_core.testing import ManualClock, drain
from tests.support.counting import CountingDriver
from tests.support.mailing import AppJobs, ran, recorded

if TYPE_CHECKING:
    from flowli_core.driver import FinishedState


async def test_a_waiting_job_that_is_cancelled_never_runs(jobs: AppJobs) -> None:
    queued, delayed = await jobs.send.enqueue(to="a"), await jobs.send.delay("1h", to="a")
    assert [await jobs.control.cancel(receipt.id) for receipt in (queued, delayed)] == ["cancelled"] * 2
    assert await drain(jobs) == RunCounts()
    assert not ran
    assert await jobs.control.cancel(queued.id) == "finished"
    assert await jobs.control.cancel("nobody-made-this") == "unknown"
    assert (await recorded(jobs, queued.id)).state == "cancelled"


async def test_a_finished_job_can_be_run_again_with_all_its_attempts(jobs: AppJobs, clock: ManualClock) -> None:
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


async def test_a_completed_job_can_be_run_again(jobs: AppJobs) -> None:
    receipt = await jobs.send.enqueue(to="a")
    await drain(jobs)
    assert await jobs.control.requeue(receipt.id) == "requeued"
    again = await recorded(jobs, receipt.id)
    assert (again.state, again.attempts_made, again.result, again.finished_at) == ("queued", 0, None, None)
    await drain(jobs)
    assert ran == [("a", None)] * 2
    assert (await recorded(jobs, receipt.id)).attempts_made == 1


async def test_a_delayed_job_can_be_run_now(jobs: AppJobs) -> None:
    receipt = await jobs.send.delay("1h", to="a")
    assert await jobs.control.requeue(receipt.id) == "requeued"
    await drain(jobs)
    assert ran == [("a", None)]


async def test_what_cannot_be_requeued_is_answered_with_the_reason(jobs: AppJobs) -> None:
    queued = await jobs.send.enqueue(to="a")
    assert await jobs.control.requeue(queued.id) == "unfinished"
    assert await jobs.control.requeue("nobody-made-this") == "unknown"
    first = await jobs.send.options(key="k").enqueue(to="a")
    await drain(jobs)
    await jobs.send.options(key="k").enqueue(to="b")
    assert await jobs.control.requeue(first.id) == "key_taken"


async def test_purging_removes_what_finished_long_enough_ago(jobs: AppJobs, clock: ManualClock) -> None:
    old = await jobs.send.enqueue(to="nobody")
    await drain(jobs)
    clock.advance("1h")
    young = await jobs.send.enqueue(to="nobody")
    await drain(jobs)
    clock.advance("1m")
    assert await jobs.control.purge("completed") == 0
    assert await jobs.control.purge("failed", older_than="30m") == 1
    assert await jobs.inspect.get_job(old.id) is None
    assert await jobs.control.purge("failed", older_than=timedelta(minutes=2)) == 0
    assert await jobs.control.purge("failed") == 1
    assert await jobs.inspect.get_job(young.id) is None


async def test_purging_many_is_done_in_bounded_pieces(
    jobs: AppJobs, driver: CountingDriver, clock: ManualClock
) -> None:
    for receipt in await jobs.slow.enqueue_many(map(str, range(1_100))):
        await jobs.control.cancel(receipt.id)
    clock.advance("1s")
    assert await jobs.control.purge("cancelled") == 1_100
    assert driver.calls["purge"] == 4


async def test_an_active_job_is_asked_to_end(driver: CountingDriver) -> None:
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
    """While it purges, jobs go on finishing: one more each time."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs = AppJobs(context=None, driver=self)

    async def purge(self, state: FinishedState, *, older_than: timedelta, limit: int) -> int:
        removed = await super().purge(state, older_than=older_than, limit=limit)
        await self.jobs.send.enqueue(to="a")
        await drain(self.jobs)
        await asyncio.sleep(0.002)  # so that it is older than nothing at all, which is when it could be purged
        return removed


async def test_a_purge_ends_although_jobs_go_on_finishing() -> None:
    """What finishes while it goes on is not of it, give or take what the last call takes."""
    driver = BusyDriver()
    receipt = await driver.jobs.send.enqueue(to="a")
    await drain(driver.jobs)
    await asyncio.sleep(0.01)  # as above
    async with asyncio.timeout(20):
        assert await driver.jobs.control.purge("completed") >= 1
    assert await driver.jobs.inspect.get_job(receipt.id) is None
