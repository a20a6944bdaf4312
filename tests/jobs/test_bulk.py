"""Many stored jobs are changed at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from flowli_core import BulkResult, Retry, StoreUnavailable, ValidationError, fixed
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import ManualClock, drain
from tests.conformance.builders import Worker
from tests.support.counting import CountingDriver
from tests.support.faulty import FaultyDriver
from tests.support.mailing import AppJobs, Email, recorded
from tests.support.store import cancel_one, requeue_one

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowli_core import RequeueAnswer
    from flowli_core.targets import Target


async def fail_some(jobs: AppJobs, number: int) -> list[str]:
    """Let so many jobs fail, and return their ids."""
    receipts = await jobs.send.enqueue_many([Email(to="nobody")] * number)
    await drain(jobs)
    return [receipt.id for receipt in receipts]


async def cancel_some(jobs: AppJobs, number: int) -> None:
    """Store so many cancelled jobs."""
    await jobs.slow.enqueue_many(["x"] * number)
    assert await jobs.control.cancel_all() == BulkResult(changed=number)


async def test_all_failed_jobs_are_requeued_with_their_attempts_reset(jobs: AppJobs, clock: ManualClock) -> None:
    ids = await fail_some(jobs, 3)
    clock.advance("1s")
    assert await jobs.control.requeue_all() == BulkResult(changed=3)
    for record_id in ids:
        record = await recorded(jobs, record_id)
        assert (record.state, record.attempts_made, record.failure_count) == ("queued", 0, 1)


async def test_only_the_jobs_that_the_filters_find_are_changed(jobs: AppJobs, clock: ManualClock) -> None:
    (failed,) = await fail_some(jobs, 1)
    clock.advance("1h")
    assert (await jobs.control.requeue_all(error="ValueError")).changed == 0
    assert (await jobs.control.requeue_all(name="who")).changed == 0
    assert (await jobs.control.requeue_all(older_than="2h")).changed == 0
    assert (await jobs.control.purge_all("failed", queue="urgent")).changed == 0
    assert (await jobs.control.requeue_all(error="ConnectionError", name="send", older_than="30m")).changed == 1
    await jobs.send.options(queue="urgent").enqueue(to="a")
    assert (await jobs.control.cancel_all(queue="default")).changed == 1
    assert (await recorded(jobs, failed)).state == "cancelled"
    assert await jobs.inspect.count("queued") == 1


async def test_many_jobs_are_changed_in_calls_of_bounded_size(
    jobs: AppJobs, driver: CountingDriver, clock: ManualClock
) -> None:
    seen: list[tuple[int, int]] = []
    await jobs.slow.enqueue_many(["x"] * 250)
    await jobs.control.cancel_all("queued", on_progress=lambda looked_at, changed: seen.append((looked_at, changed)))
    assert seen == [(100, 100), (200, 200), (250, 250)]
    assert driver.calls["cancel"] == 3
    clock.advance("1s")
    assert await jobs.control.requeue_all("cancelled") == BulkResult(changed=250)
    assert driver.calls["requeue"] == 3
    await jobs.control.cancel_all()
    clock.advance("1s")
    assert await jobs.control.purge_all("cancelled", name="mail/slow", on_progress=print) == BulkResult(changed=250)
    assert driver.calls["purge"] == 3


async def test_jobs_that_cannot_be_requeued_are_skipped_and_counted(jobs: AppJobs, clock: ManualClock) -> None:
    for number in range(2):
        await jobs.send.options(key="k", id=f"job-{number}").enqueue(to="nobody")
        await drain(jobs)
    clock.advance("1s")
    assert await jobs.control.requeue_all() == BulkResult(changed=1, skipped=1)
    assert await jobs.control.requeue_all() == BulkResult(changed=0, skipped=1)


async def test_running_jobs_are_asked_to_end_and_count_as_changed(jobs: AppJobs, driver: CountingDriver) -> None:
    receipt = await jobs.send.enqueue(to="a")
    await Worker(driver, queues=("default",)).take_one()
    assert await jobs.control.cancel_all("active") == BulkResult(changed=1)
    assert (await recorded(jobs, receipt.id)).cancel_requested


class RunningDriver(CountingDriver):
    """A driver during whose requeues the jobs run, and fail again."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(MemoryDriver(clock=clock))
        self.jobs = AppJobs(context=None, driver=self)
        self._clock = clock

    async def requeue(self, targets: Sequence[Target]) -> list[RequeueAnswer]:
        answers = await super().requeue(targets)
        self._clock.advance("1s")
        await drain(self.jobs)
        return answers


async def test_requeueing_ends_although_the_jobs_fail_again(clock: ManualClock) -> None:
    jobs = RunningDriver(clock).jobs
    await fail_some(jobs, 101)
    clock.advance("1s")
    async with asyncio.timeout(20):
        assert await jobs.control.requeue_all() == BulkResult(changed=101)
    assert await jobs.inspect.count() == 101


async def test_scheduled_jobs_that_are_retried_soon_are_requeued_once(clock: ManualClock) -> None:
    """They come back below those that were not looked at yet."""
    jobs = RunningDriver(clock).jobs
    call = jobs.send.options(retry=Retry(max_attempts=5, backoff=fixed("1m")))
    for _ in range(101):
        await call.delay("1h", to="nobody")
    assert await jobs.control.requeue_all("scheduled") == BulkResult(changed=101)
    records = (await jobs.inspect.find("scheduled", limit=200)).items
    assert [record.attempts_made for record in records] == [1] * 101


class ChangingDriver(CountingDriver):
    """A driver in which another operator requeues records just before a bulk requeue, and cancels the first."""

    others: tuple[str, ...] = ()

    async def requeue(self, targets: Sequence[Target]) -> list[RequeueAnswer]:
        for record_id in self.others:
            assert await requeue_one(self.inner, record_id) == "requeued"
        for record_id in self.others[:1]:
            assert await cancel_one(self.inner, record_id) == "cancelled"
        return await super().requeue(targets)


async def test_jobs_that_have_changed_their_state_meanwhile_are_skipped(clock: ManualClock) -> None:
    driver = ChangingDriver(MemoryDriver(clock=clock))
    jobs = AppJobs(context=None, driver=driver)
    cancelled, queued, _ = await fail_some(jobs, 3)
    driver.others = (cancelled, queued)
    assert await jobs.control.requeue_all() == BulkResult(changed=1, skipped=2)
    assert (await recorded(jobs, cancelled)).state == "cancelled"


async def test_the_same_call_goes_on_after_the_store_was_unreachable(clock: ManualClock) -> None:
    driver = FaultyDriver(MemoryDriver(clock=clock))
    jobs = AppJobs(context=None, driver=driver)
    await jobs.slow.enqueue_many(["x"] * 250)

    def fail_next(looked_at: int, changed: int) -> None:
        driver.fail("cancel", kind="after", times=1)

    with pytest.raises(StoreUnavailable, match=r"cannot be reached.*100 jobs had been changed") as caught:
        await jobs.control.cancel_all(on_progress=fail_next)
    assert "call again to go on" in str(caught.value)
    assert await jobs.inspect.count("cancelled") == 200  # the answer to the last call was lost
    assert await jobs.control.cancel_all() == BulkResult(changed=50)


async def test_the_same_call_goes_on_after_a_cancellation(jobs: AppJobs) -> None:
    await jobs.slow.enqueue_many(["x"] * 250)

    def stop(looked_at: int, changed: int) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await jobs.control.cancel_all(on_progress=stop)
    assert await jobs.control.cancel_all() == BulkResult(changed=150)


async def test_a_purge_that_is_interrupted_says_how_many_were_removed(clock: ManualClock) -> None:
    driver = FaultyDriver(MemoryDriver(clock=clock))
    jobs = AppJobs(context=None, driver=driver)
    await cancel_some(jobs, 600)
    clock.advance("1s")
    with pytest.raises(StoreUnavailable, match="500 jobs had been changed"):
        await jobs.control.purge_all(
            "cancelled", on_progress=lambda _looked_at, _changed: driver.fail("purge", times=1)
        )
    assert await jobs.control.purge_all("cancelled") == BulkResult(changed=100)


@pytest.mark.parametrize(
    ("action", "state"), [("cancel_all", "failed"), ("requeue_all", "active"), ("purge_all", "queued")]
)
async def test_a_state_that_does_not_fit_the_action_is_refused(jobs: AppJobs, action: str, state: str) -> None:
    with pytest.raises(ValidationError, match="state must be"):
        await getattr(jobs.control, action)(state)
