"""Middleware in a worker: timeouts, cancellation, a stopping worker, and the trace of the call."""

import asyncio

import pytest

from flowli_core import Execution, Hooks, JobEvent, Jobs, Middleware, Proceed, Runner, job
from flowli_core.drivers.memory import MemoryDriver
from tests.support.running import running, soon, until


class Progress:
    """The progress of an execution."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.ended: list[str] = []


@job(timeout="1h")
async def hang(ctx: Progress) -> None:
    ctx.started.set()
    await asyncio.Event().wait()


@job(timeout="20ms")
async def hasty() -> None: ...


class AppJobs(Jobs[Progress]):
    hang = hang
    hasty = hasty


async def note_end(call: Execution[Progress], proceed: Proceed) -> object:
    try:
        return await proceed()
    except BaseException as error:
        call.ctx.ended.append(type(error).__name__)
        raise


def registry(*middleware: Middleware[Progress]) -> tuple[AppJobs, Progress]:
    progress = Progress()
    return AppJobs(context=progress, driver=MemoryDriver(), middleware=middleware), progress


async def test_the_timeout_of_a_job_includes_its_middleware() -> None:
    async def slow(call: Execution, proceed: Proceed) -> object:
        await proceed()
        return await asyncio.Event().wait()

    jobs, progress = registry(note_end, slow)
    receipt = await jobs.hasty.enqueue()
    await soon(Runner(jobs).run_once())
    record = await jobs.hasty.get(receipt)
    assert record is not None
    assert record.last_error is not None
    assert (record.state, record.last_error.type) == ("failed", "flowli_core.JobTimeout")
    assert "in slow" in record.last_error.traceback
    assert progress.ended == ["CancelledError"]


async def test_the_cancellation_of_a_job_passes_through_middleware() -> None:
    jobs, progress = registry(note_end)
    receipt = await jobs.hang.enqueue()
    async with running(Runner(jobs, lease="1s")):
        await soon(progress.started.wait())
        await jobs.control.cancel(receipt.id)

        async def is_cancelled() -> bool:
            record = await jobs.hang.get(receipt)
            return record is not None and record.state == "cancelled"

        await until(is_cancelled)
    assert progress.ended == ["CancelledError"]


async def test_a_stopping_worker_returns_a_job_that_is_in_its_middleware() -> None:
    entered = asyncio.Event()

    async def hold(call: Execution, proceed: Proceed) -> object:
        entered.set()
        await asyncio.Event().wait()
        return await proceed()

    jobs, progress = registry(note_end, hold)
    receipt = await jobs.hasty.options(timeout="1h").enqueue()
    runner = Runner(jobs)
    async with running(runner):
        await soon(entered.wait())
        await soon(runner.stop(drain="0s"))
    record = await jobs.hasty.get(receipt)
    assert record is not None
    assert (record.state, record.attempts_made) == ("queued", 0)
    assert progress.ended == ["CancelledError"]


async def test_hooks_see_the_error_of_the_outermost_middleware() -> None:
    failed: list[JobEvent] = []

    async def on_failed(event: JobEvent) -> None:
        failed.append(event)

    async def refuse(call: Execution, proceed: Proceed) -> object:
        raise PermissionError

    jobs, progress = registry(note_end, refuse)
    await jobs.hasty.enqueue()
    await soon(Runner(jobs, hooks=Hooks(on_job_failed=on_failed)).run_once())
    assert [type(event.error) for event in failed] == [PermissionError]
    assert progress.ended == ["PermissionError"]


@pytest.mark.parametrize("concurrency", [1, 50])
async def test_executions_at_once_each_have_their_own_middleware_call(concurrency: int) -> None:
    names: list[tuple[str, str]] = []

    async def note(call: Execution, proceed: Proceed) -> object:
        await asyncio.sleep(0)
        result = await proceed()
        names.append((call.job.id, call.job.name))
        return result

    jobs, _ = registry(note)
    receipts = [await jobs.hasty.options(timeout="1h").enqueue() for _ in range(100)]
    await soon(Runner(jobs, concurrency=concurrency).run_once())
    assert sorted(names) == sorted((receipt.id, "hasty") for receipt in receipts)
