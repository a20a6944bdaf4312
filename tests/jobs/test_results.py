"""`jobs.report.result(...)` and `jobs.report.watch(...)`: waiting for a stored call of a job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from flowli_core import (
    FlowliError,
    JobCancelled,
    JobFailed,
    Jobs,
    RecordNotFound,
    Retry,
    Runner,
    StoreUnavailable,
    StrategyError,
    ValidationError,
    current_job,
    fixed,
    job,
)
from flowli_core.drivers.memory import MemoryDriver
from tests.support.faulty import FaultyDriver

if TYPE_CHECKING:
    from flowli_core import JobUpdate
    from flowli_core.stored import Watch
    from tests.support.faulty import Method

PATIENCE = 30
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

pytestmark = pytest.mark.filterwarnings("error")


class Report(BaseModel):
    pages: int
    at: datetime


@job(int)
async def report(input: int) -> Report:
    for page in range(input):
        current_job().progress(page + 1, input, "printing")
    return Report(pages=input, at=NOON)


@job(int, retry=Retry(max_attempts=2, backoff=fixed("1ms")))
def fails(input: int) -> int:
    raise LookupError(f"no number {input}")


@job()
async def waits() -> None:
    await asyncio.Event().wait()


@job()
async def quick() -> str:
    return "done"


class AppJobs(Jobs[None]):
    report = report
    fails = fails
    waits = waits
    quick = quick


@pytest.fixture
def store() -> FaultyDriver:
    return FaultyDriver(MemoryDriver())


@pytest.fixture
async def jobs(store: FaultyDriver) -> AsyncIterator[AppJobs]:
    async with asyncio.timeout(PATIENCE), AppJobs(context=None, driver=store) as opened:
        yield opened


@pytest.fixture
async def running(jobs: AppJobs) -> AsyncIterator[AppJobs]:
    """Run jobs in the background."""
    runner = Runner(jobs, concurrency=4)
    task = asyncio.create_task(runner.run())
    yield jobs
    await runner.stop(drain="1s")
    await task


async def seen(updates: AsyncIterator[JobUpdate[object]]) -> list[str]:
    return [update.state async for update in updates]


async def test_a_result_has_the_type_of_the_handler(running: AppJobs) -> None:
    receipt = await running.report.enqueue(3)
    assert await running.report.result(receipt, timeout="30s") == Report(pages=3, at=NOON)
    assert await running.report.result(receipt.id) == Report(pages=3, at=NOON)


async def test_a_job_that_failed_raises_its_error(running: AppJobs) -> None:
    receipt = await running.fails.enqueue(7)
    with pytest.raises(
        JobFailed, match=r"fails: the job .* failed after 2 attempts: LookupError: no number 7"
    ) as caught:
        await running.fails.result(receipt)
    assert caught.value.attempts == 2
    assert caught.value.error.type == "LookupError"
    assert caught.value.error.message == "no number 7"
    assert "raise LookupError" in caught.value.error.traceback


async def test_a_job_that_failed_at_its_only_attempt_says_so(jobs: AppJobs) -> None:
    receipt = await jobs.fails.options(retry=Retry(max_attempts=1)).enqueue(7)
    await Runner(jobs).run_once()
    with pytest.raises(JobFailed, match="failed after 1 attempt: LookupError: no number 7"):
        await jobs.fails.result(receipt)


async def test_a_job_that_was_cancelled_raises(jobs: AppJobs) -> None:
    receipt = await jobs.waits.enqueue()
    waiting = asyncio.create_task(jobs.waits.result(receipt))
    await asyncio.sleep(0)
    await jobs.control.cancel(receipt.id)
    with pytest.raises(JobCancelled, match="was cancelled"):
        await waiting


async def test_a_job_that_goes_on_raises_a_timeout(jobs: AppJobs) -> None:
    receipt = await jobs.quick.enqueue()
    with pytest.raises(TimeoutError, match=r"quick: the job .* has not finished within 10ms; it goes on"):
        await jobs.quick.result(receipt, timeout="10ms")


@pytest.mark.parametrize("timeout", [-1, "soon", True, float("nan")])
async def test_an_invalid_timeout_is_refused(jobs: AppJobs, timeout: object) -> None:
    receipt = await jobs.quick.enqueue()
    with pytest.raises(FlowliError, match="timeout"):
        await jobs.quick.result(receipt, timeout=timeout)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_a_record_that_was_never_stored_is_not_found(jobs: AppJobs) -> None:
    with pytest.raises(RecordNotFound, match="there is no record nothing"):
        await jobs.quick.result("nothing")
    with pytest.raises(RecordNotFound):
        await seen(jobs.quick.watch("nothing"))
    with pytest.raises(RecordNotFound):
        await seen(jobs.inspect.watch("nothing"))


async def test_a_record_of_another_job_is_refused(jobs: AppJobs) -> None:
    receipt = await jobs.quick.enqueue()
    other: Any = receipt
    for one, match in ((receipt.id, "is one of the job 'quick'"), (other, "is a receipt of the job 'quick'")):
        with pytest.raises(ValidationError, match=match):
            await jobs.waits.result(one)
        with pytest.raises(ValidationError, match=match):
            await seen(jobs.waits.watch(one))


@job(str, name="report")
async def count_pages(input: str) -> int:
    """Take the place of `report` in a later release, with another input and another result."""
    return len(input)


class LaterJobs(Jobs[None]):
    report = count_pages


async def test_a_result_that_no_longer_fits_its_job_is_a_mistake_of_the_program(
    running: AppJobs, store: FaultyDriver
) -> None:
    receipt = await running.report.enqueue(1)
    await running.report.result(receipt)
    later = LaterJobs(context=None, driver=store)
    for use in (later.report.result(receipt.id), seen(later.report.watch(receipt.id))):
        with pytest.raises(ValidationError, match="reads it as JSON") as caught:
            await use
        assert caught.value.is_internal


@pytest.mark.parametrize("id", ["", "x" * 300, 7, None])
async def test_an_invalid_id_is_refused(jobs: AppJobs, id: object) -> None:
    with pytest.raises(ValidationError):
        await jobs.quick.result(id)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValidationError):
        await seen(jobs.quick.watch(id))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_a_watch_yields_each_state_until_the_end(running: AppJobs) -> None:
    receipt = await running.report.options(key="one").delay("20ms", 2)
    updates = [update async for update in running.report.watch(receipt)]
    states = [update.state for update in updates]
    assert states[0] in {"scheduled", "queued"}
    assert states[-1] == "completed"
    assert [update.is_finished for update in updates] == [False] * (len(updates) - 1) + [True]
    last = updates[-1]
    assert last.result == Report(pages=2, at=NOON)
    assert last.progress is not None
    assert (last.progress.done, last.progress.total, last.progress.note) == (2, 2, "printing")


async def test_a_finished_job_has_one_update(running: AppJobs) -> None:
    receipt = await running.quick.enqueue()
    await running.quick.result(receipt)
    assert await seen(running.quick.watch(receipt)) == ["completed"]


async def test_any_job_can_be_watched_as_plain_data(running: AppJobs) -> None:
    receipt = await running.report.enqueue(1)
    *_, last = [update async for update in running.inspect.watch(receipt.id)]
    assert last.result == {"pages": 1, "at": "2026-01-01T12:00:00Z"}
    assert last.name == "report"


async def test_many_callers_share_one_wait_and_none_polls(jobs: AppJobs, store: FaultyDriver) -> None:
    receipts = [await jobs.quick.delay("1h") for _ in range(300)]
    waiting = [asyncio.create_task(jobs.quick.result(receipt)) for receipt in receipts]
    await asyncio.sleep(0.05)
    assert store.calls["watch"] <= 4
    assert store.calls["records"] <= 300 + 4  # each caller reads its record once at first
    before = store.calls.copy()
    await asyncio.sleep(0.05)
    assert store.calls == before
    for receipt in receipts:
        await jobs.control.cancel(receipt.id)
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(end) for end in ends} == {JobCancelled}


async def test_a_caller_that_gives_up_leaves_nothing_behind_in_a_closed_registry(store: FaultyDriver) -> None:
    before = asyncio.all_tasks()
    jobs = AppJobs(context=None, driver=store)
    receipt = await jobs.quick.enqueue()
    async with aclosing(jobs.quick.watch(receipt)) as updates:
        async for _ in updates:
            break
    waiting = asyncio.create_task(jobs.quick.result(receipt))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await jobs.aclose()
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("method", ["watch", "records"])
async def test_a_caller_waits_through_an_unreachable_store(
    running: AppJobs, store: FaultyDriver, method: Method
) -> None:
    receipt = await running.quick.delay("50ms")
    waiting = asyncio.create_task(running.quick.result(receipt))
    await asyncio.sleep(0.01)
    store.fail(method, times=2)
    assert await waiting == "done"


async def test_a_caller_that_begins_to_wait_while_the_store_is_unreachable_waits_for_it(
    running: AppJobs, store: FaultyDriver
) -> None:
    receipt = await running.quick.delay("1ms")
    store.fail("records", times=3)
    assert await running.quick.result(receipt) == "done"
    store.fail("records")
    with pytest.raises(StoreUnavailable):
        await running.quick.result(receipt, timeout="0s")
    with pytest.raises(TimeoutError, match="has not finished within 30ms"):
        await running.quick.result(receipt, timeout="30ms")


async def test_the_timeout_holds_while_the_store_does_not_reply(jobs: AppJobs, store: FaultyDriver) -> None:
    receipt = await jobs.quick.enqueue()
    store.fail("records", kind="hang")
    with pytest.raises(TimeoutError, match="has not finished within 30ms; it goes on"):
        await jobs.quick.result(receipt, timeout="30ms")


async def test_without_any_time_a_finished_job_has_a_result_all_the_same(jobs: AppJobs, store: FaultyDriver) -> None:
    receipt = await jobs.quick.enqueue()
    with pytest.raises(TimeoutError, match="has not finished within 0s; it goes on"):
        await jobs.quick.result(receipt, timeout="0s")
    assert store.calls["watch"] == 0
    await Runner(jobs).run_once()
    assert await jobs.quick.result(receipt, timeout="0s") == "done"


async def test_the_shared_wait_takes_no_context_variables_of_a_caller(
    jobs: AppJobs, store: FaultyDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = ContextVar("request", default="none")
    requests: set[str] = set()
    watch = store.watch

    async def noting_watch(given: Watch) -> list[str]:
        requests.add(request.get())
        return await watch(given)

    monkeypatch.setattr(store, "watch", noting_watch)
    receipt = await jobs.quick.enqueue()
    request.set("the first")
    async with aclosing(jobs.quick.watch(receipt)) as updates:
        await anext(updates)
    assert requests == {"none"}


async def test_a_change_whose_message_was_lost_is_known_after_the_next_answer(
    running: AppJobs, store: FaultyDriver
) -> None:
    """The store has returned the change, and its answer did not arrive."""
    receipt = await running.quick.delay("50ms")
    waiting = asyncio.create_task(running.quick.result(receipt))
    await asyncio.sleep(0.01)
    store.fail("watch", kind="after", times=3)
    assert await waiting == "done"


class Forgetful(MemoryDriver):
    """A store whose changes never reach a watcher, as in a failover to a replica that does not know of it."""

    async def watch(self, watch: Watch) -> list[str]:
        await super().watch(watch)
        return []


@pytest.mark.faults
async def test_a_change_that_is_never_pushed_is_known_within_seconds() -> None:
    async with asyncio.timeout(PATIENCE), AppJobs(context=None, driver=Forgetful()) as jobs:
        receipt = await jobs.quick.enqueue()
        waiting = asyncio.create_task(jobs.quick.result(receipt))
        await asyncio.sleep(0.05)
        await Runner(jobs).run_once()
        assert await waiting == "done"


async def test_closing_the_registry_ends_all_waiting(store: FaultyDriver) -> None:
    jobs = AppJobs(context=None, driver=store)
    receipt = await jobs.quick.enqueue()
    waiting = asyncio.create_task(jobs.quick.result(receipt))
    watching = asyncio.create_task(seen(jobs.quick.watch(receipt)))
    await asyncio.sleep(0.01)
    await jobs.aclose()
    for task in (waiting, watching):
        with pytest.raises(StrategyError, match="closed while a job was awaited"):
            await task
