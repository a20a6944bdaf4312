"""The options of a call: precedence, idempotency keys and ids, and repeating a call after an error of the store."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core import Defaults, DriverError, Exponential, Retry, StoreUnavailable, exponential, fixed
from flowli_core._wire.policy import unpack_policy
from flowli_core.testing import ManualClock, drain
from tests.support.counting import CountingDriver
from tests.support.mailing import START, AppJobs, Email, Meta, ran

if TYPE_CHECKING:
    from flowli_core.new_records import NewRecord


async def test_options_override_job_settings_and_job_settings_override_defaults(driver: CountingDriver) -> None:
    defaults = Defaults(
        retry=Retry(max_attempts=2, backoff=exponential("1s", jitter=True)),
        timeout="1m",
        queue="common",
        keep_completed="5m",
        keep_failed="6m",
        max_recoveries=7,
    )
    jobs = AppJobs(context=None, driver=driver, defaults=defaults)
    await jobs.who.enqueue()
    await jobs.slow.enqueue("a")
    call = jobs.slow.options(queue="urgent", timeout="5s", retry=Retry(max_attempts=9, backoff=fixed("1s")))
    await call.enqueue("a")
    await call.options(queue="calm").enqueue("a", queue="last")
    await jobs.slow.options(timeout="7s").enqueue("a")
    of_runtime, of_job, of_call, of_last_call, mixed = driver.enqueued
    assert (of_runtime.queue, of_job.queue, of_call.queue, of_last_call.queue) == ("common", "slow", "urgent", "last")
    assert (of_runtime.keep_completed, of_runtime.keep_failed) == (timedelta(minutes=5), timedelta(minutes=6))
    assert (of_job.keep_completed, of_job.keep_failed) == (timedelta(hours=2), timedelta(days=3))
    assert {record.max_recoveries for record in driver.enqueued} == {7}
    policies = [(await _policy(jobs, record)) for record in (of_runtime, of_job, of_call, mixed)]
    assert policies == [
        (2, Exponential(first=timedelta(seconds=1), jitter=(0.5, 1.0))),
        (5, fixed("2s")),
        (9, fixed("1s")),
        (5, fixed("2s")),
    ]
    timeouts = [unpack_policy(record.policy).timeout for record in (of_runtime, of_job, of_call, mixed)]
    assert timeouts == [timedelta(seconds=seconds) for seconds in (60, 30, 5, 7)]


async def test_by_default_a_job_has_one_attempt_and_the_queue_default(jobs: AppJobs, driver: CountingDriver) -> None:
    await jobs.who.enqueue()
    (record,) = driver.enqueued
    assert record == replace(record, queue="default", key=None, due=timedelta(0), max_recoveries=3)
    assert (record.keep_completed, record.keep_failed) == (timedelta(hours=1), timedelta(days=14))
    assert (await _policy(jobs, record))[0] == 1
    assert b"timeout" not in record.policy


async def test_options_does_not_change_the_job_that_it_is_called_on(jobs: AppJobs, driver: CountingDriver) -> None:
    base = jobs.send
    base.options(queue="other", meta=Meta(request_id="r"))
    await base.enqueue(to="a")
    assert (driver.enqueued[0].queue, driver.enqueued[0].meta) == ("default", None)


async def test_an_idempotency_key_is_held_until_its_job_is_finished(jobs: AppJobs) -> None:
    first = await jobs.send.options(key="welcome:42").enqueue(to="a")
    second = await jobs.send.enqueue(Email(to="b"), key="welcome:42")
    assert second == replace(first, disposition="existing")
    assert (await jobs.slow.options(key="welcome:42").enqueue("c")).disposition == "accepted"
    await drain(jobs)
    assert ran == [("a", None)]
    assert (await jobs.send.options(key="welcome:42").enqueue(to="b")).disposition == "accepted"


async def test_enqueueing_an_id_again_stores_nothing(jobs: AppJobs, clock: ManualClock) -> None:
    once = jobs.send.options(id="order-7")
    first = await once.enqueue(to="a")
    clock.advance("1m")
    again = await once.delay("1h", to="b")
    assert again == replace(first, disposition="duplicate")
    await drain(jobs)
    assert ran == [("a", None)]
    assert (await once.enqueue(to="c")).state == "completed"


async def test_the_receipt_of_an_existing_job_has_its_state_and_attempts(jobs: AppJobs, clock: ManualClock) -> None:
    call = jobs.send.options(key="k", retry=Retry(max_attempts=3, backoff=fixed("1m")))
    await call.enqueue(to="nobody")
    await drain(jobs)
    receipt = await call.enqueue(to="nobody")
    assert (receipt.disposition, receipt.state, receipt.attempts_made) == ("existing", "scheduled", 1)
    assert receipt.scheduled_for == START + timedelta(minutes=1)


async def test_concurrent_calls_get_their_own_receipts(jobs: AppJobs) -> None:
    receipts = await asyncio.gather(*(jobs.send.enqueue(to=str(number)) for number in range(50)))
    assert len({receipt.id for receipt in receipts}) == 50
    for number, receipt in enumerate(receipts):
        found = await jobs.inspect.get_job(receipt.id)
        assert found is not None
        assert found.input == {"to": str(number)}


async def test_a_driver_error_has_the_ids_with_which_the_call_can_be_repeated(driver: CountingDriver) -> None:
    class Failing(CountingDriver):
        async def enqueue(self, records: Any) -> Any:
            await super().enqueue(records)
            raise StoreUnavailable("the reply was lost")

    jobs = AppJobs(context=None, driver=Failing(driver))
    with pytest.raises(DriverError) as caught:
        await jobs.send.enqueue(to="a")
    (record_id,) = caught.value.ids
    again = await AppJobs(context=None, driver=driver).send.options(id=record_id).enqueue(to="a")
    assert again.disposition == "duplicate"
    with pytest.raises(DriverError) as caught:
        await jobs.send.enqueue_many([Email(to="a"), Email(to="b")])
    assert len(caught.value.ids) == 2


async def _policy(jobs: AppJobs, record: NewRecord) -> tuple[int | None, object]:
    found = await jobs.inspect.get_job(record.id)
    assert found is not None
    return found.max_attempts, found.backoff
