"""Handlers that are ended early, by a timeout or a cancellation, and handlers that ignore it."""

import asyncio
import re
import threading

import pytest
from prometheus_client import CollectorRegistry

from flowli_core import JobRecord, Retry, RunCounts, Runner, current_job, fixed
from flowli_core.metrics import PrometheusMetrics
from tests.support.running import PATIENCE, Work, breathe, running, soon

GRACE = "50ms"
TWICE = Retry(max_attempts=2, backoff=fixed("0s"))


def error_type(record: JobRecord) -> str | None:
    return record.last_error.type if record.last_error else None


async def for_ever(_: int) -> None:
    await asyncio.Event().wait()


async def test_a_handler_that_exceeds_its_timeout_fails() -> None:
    work = Work()
    work.deeds.act = for_ever
    receipt = await work.jobs.act.options(timeout="20ms").enqueue(1)
    assert await work.run() == RunCounts(failed=1)
    record = await work.job(receipt.id)
    assert error_type(record) == "flowli_core.JobTimeout"
    assert record.last_error is not None
    assert "longer than 20ms" in record.last_error.message


async def test_a_timeout_is_retried_like_any_failure() -> None:
    work = Work()
    attempts: list[int] = []

    async def act(_: int) -> str:
        attempts.append(current_job().attempt)
        if len(attempts) == 1:
            await asyncio.Event().wait()
        return "in time"

    work.deeds.act = act
    receipt = await work.jobs.act.options(timeout="20ms", retry=TWICE).enqueue(1)
    assert await work.run() == RunCounts(retried=1, completed=1)
    assert (await work.job(receipt.id)).result == "in time"
    assert attempts == [1, 2]


async def test_a_handler_may_clean_up_after_its_timeout() -> None:
    work = Work()
    cleaned: list[int] = []

    async def act(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(number)

    work.deeds.act = act
    await work.jobs.act.options(timeout="20ms").enqueue(1)
    assert await work.run() == RunCounts(failed=1)
    assert cleaned == [1]


async def test_a_handler_in_a_thread_sees_its_timeout() -> None:
    work = Work()
    ends: list[bool] = []

    def toil(_: int) -> str:
        me = current_job()
        forever = threading.Event()
        while not me.cancelled:
            forever.wait(0.002)
        ends.append(me.cancelled)
        return "half of it"

    work.deeds.toil = toil
    receipt = await work.jobs.toil.options(timeout="20ms").enqueue(1)
    assert await work.run() == RunCounts(failed=1)
    assert ends == [True]
    record = await work.job(receipt.id)
    assert error_type(record) == "flowli_core.JobTimeout"
    assert record.result is None


async def test_a_handler_in_a_thread_that_ends_within_its_grace_completes() -> None:
    """It never read `current_job().cancelled`, and a thread cannot be cancelled: so its work is done."""
    work = Work()
    late = threading.Event()

    def toil(_: int) -> str:
        assert late.wait(PATIENCE)
        return "done"

    work.deeds.toil = toil
    work.deeds.act = for_ever
    receipt = await work.jobs.toil.options(timeout="10ms").enqueue(1)
    other = await work.jobs.act.options(timeout="10ms").enqueue(1)
    task = asyncio.create_task(Runner(work.jobs, cancel_grace="20s").run_once())
    await work.until(other.id, "failed")
    late.set()
    assert await soon(task) == RunCounts(completed=1, failed=1)
    assert (await work.job(receipt.id)).result == "done"


@pytest.mark.parametrize("where", ["act", "toil"])
async def test_a_handler_that_ignores_its_timeout_is_settled_without_it(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The job fails without a retry, because two runs at once are worse than none. The handler keeps its slot."""
    work = Work()
    release, ended = threading.Event(), threading.Event()
    starts: list[int] = []

    def toil(number: int) -> str:
        starts.append(number)
        if number:
            assert release.wait(PATIENCE)
        ended.set()
        return "too late"

    async def act(number: int) -> str:
        starts.append(number)
        while number and not release.is_set():
            try:
                await asyncio.sleep(0.002)
            except asyncio.CancelledError:
                continue
        ended.set()
        return "too late"

    work.deeds.act, work.deeds.toil = act, toil
    job = work.jobs.act if where == "act" else work.jobs.toil
    stubborn = await job.options(timeout="20ms", retry=TWICE).enqueue(1)
    behind = await job.enqueue(0)
    runner = Runner(work.jobs, concurrency=1, cancel_grace=GRACE)
    async with running(runner):
        record = await work.until(stubborn.id, "failed")
        assert record.last_error is not None
        assert record.last_error.message.endswith("it ignored its cancellation")
        assert (
            "was asked to end because it ran for longer than its timeout, but is still running 50ms later"
            in caplog.text
        )
        await breathe()
        health = runner.health()
        assert (health.active, health.hung, health.is_stuck, health.is_ready) == (1, 1, True, False)
        assert starts == [1]
        release.set()
        await work.until(behind.id, "completed")
        assert ended.is_set()
        health = runner.health()
        assert (health.active, health.hung, health.is_stuck, health.is_ready) == (0, 0, False, True)
    acks = [ack.id for step in work.driver.steps for ack in step.acks]
    assert sorted(acks) == sorted([stubborn.id, behind.id]), "its late result is discarded"


async def test_a_warning_names_the_slots_that_are_held_by_handlers_that_do_not_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It comes once half of the slots are held, and once a minute. The runner stays ready until all are."""
    work, release = Work(), threading.Event()
    work.deeds.toil = lambda _: str(release.wait(10))
    runner = Runner(work.jobs, concurrency=4, cancel_grace="1ms")
    registry = CollectorRegistry()
    PrometheusMetrics(registry).watch_runner(runner)
    async with running(runner):
        for hung, lines in enumerate([[], ["2 of 4 slots"], ["2 of 4 slots"]], start=1):
            receipt = await work.jobs.toil.options(timeout="1ms").enqueue(hung)
            await work.until(receipt.id, "failed")
            health = runner.health()
            assert (health.hung, health.is_ready) == (hung, True)
            assert registry.get_sample_value("flowli_hung_slots") == hung
            assert re.findall(r"\d of \d slots", caplog.text) == lines
        release.set()


async def test_run_once_does_not_wait_for_a_handler_that_ignores_its_timeout(
    caplog: pytest.LogCaptureFixture,
) -> None:
    work = Work()
    release = asyncio.Event()

    async def act(_: int) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    work.deeds.act = act
    await work.jobs.act.options(timeout="20ms").enqueue(1)
    assert await work.run(cancel_grace=GRACE) == RunCounts(failed=1)
    assert "is still running as its runner ends" in caplog.text
    release.set()
    await breathe()


async def test_cancelling_a_running_job_cancels_its_handler() -> None:
    work = Work()
    cancelled = asyncio.Event()

    async def act(_: int) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    work.deeds.act = act
    (record_id,) = await work.add(1)
    task = asyncio.create_task(Runner(work.jobs, lease="1s").run_once())
    await work.until(record_id, "active")
    assert await work.jobs.control.cancel(record_id) == "requested"
    await soon(cancelled.wait())
    assert await soon(task) == RunCounts(cancelled=1)
    record = await work.job(record_id)
    assert record.state == "cancelled"
    assert (record.attempts_made, record.failure_count) == (0, 0)


async def test_a_cancelled_handler_that_still_returns_completes_its_job() -> None:
    work = Work()

    async def act(_: int) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "done anyway"
        return "never"

    work.deeds.act = act
    (record_id,) = await work.add(1)
    async with running(Runner(work.jobs, lease="1s")):
        await work.until(record_id, "active")
        await work.jobs.control.cancel(record_id)
        assert (await work.until(record_id, "completed")).result == "done anyway"


async def test_a_cancelled_handler_that_raises_fails_its_job() -> None:
    work = Work()

    async def act(_: int) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("while it was cancelled") from None

    work.deeds.act = act
    (record_id,) = await work.add(1)
    async with running(Runner(work.jobs, lease="1s")):
        await work.until(record_id, "active")
        await work.jobs.control.cancel(record_id)
        assert error_type(await work.until(record_id, "failed")) == "ValueError"


async def test_a_handler_in_a_thread_sees_its_cancellation() -> None:
    work = Work()

    def toil(_: int) -> None:
        me = current_job()
        forever = threading.Event()
        while not me.cancelled:
            forever.wait(0.002)

    work.deeds.toil = toil
    receipt = await work.jobs.toil.enqueue(1)
    async with running(Runner(work.jobs, lease="1s")):
        await work.until(receipt.id, "active")
        await work.jobs.control.cancel(receipt.id)
        await work.until(receipt.id, "cancelled")


async def test_a_job_whose_handler_ignores_the_cancellation_is_cancelled_without_it() -> None:
    work = Work()
    release = asyncio.Event()

    async def act(_: int) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    work.deeds.act = act
    (record_id,) = await work.add(1)
    async with running(Runner(work.jobs, lease="1s", cancel_grace=GRACE)):
        await work.until(record_id, "active")
        await work.jobs.control.cancel(record_id)
        await work.until(record_id, "cancelled")
        release.set()
