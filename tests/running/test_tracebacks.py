"""The tracebacks of failed jobs, in the log and in their records, begin at the handler."""

import asyncio
import traceback
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from flowli_core import Hooks, JobEvent, Jobs, Runner, job, per_job
from flowli_core.drivers.memory import MemoryDriver

OURS = "flowli_core"


def send() -> None:
    raise ConnectionError("refused")


@job()
async def async_handler() -> None:
    send()


@job()
def plain_handler() -> None:
    send()


@job()
async def group_handler() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.to_thread(send))


@job()
async def chained_handler() -> None:
    try:
        send()
    except ConnectionError as error:
        raise LookupError("no mail") from error


@job(timeout="10ms")
async def hanging_handler() -> None:
    await asyncio.Event().wait()


@job()
async def nested_handler() -> None:
    """Call another job: the frames of the library between both handlers stay."""
    await jobs_of_this_test.async_handler.run()


@dataclass(frozen=True)
class FrozenError(Exception):
    code: int


@job()
async def frozen_handler() -> None:
    raise FrozenError(5)


class FailingJobs(Jobs[None]):
    async_handler = async_handler
    plain_handler = plain_handler
    group_handler = group_handler
    chained_handler = chained_handler
    hanging_handler = hanging_handler
    nested_handler = nested_handler
    frozen_handler = frozen_handler


jobs_of_this_test = FailingJobs(context=None)


async def run(name: str, context: object, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Run a job, and return the tracebacks that its record, its log line and its hook have."""
    seen: list[str] = []

    def on_failed(event: JobEvent) -> None:
        assert event.error is not None
        seen.append("".join(traceback.format_exception(event.error)))

    jobs = FailingJobs(context=context, driver=MemoryDriver())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async with jobs:
        receipt = await getattr(jobs, name).enqueue()
        await Runner(jobs, hooks=Hooks(on_job_failed=on_failed)).run_once()
        record = await jobs.inspect.get_job(receipt.id)
    assert record is not None
    assert record.last_error is not None
    (line,) = [line for line in caplog.records if "failed for good" in line.getMessage()]
    assert line.exc_text is not None or line.exc_info is not None
    assert caplog.handler.formatter is not None
    return [record.last_error.traceback, caplog.handler.formatter.format(line), *seen]


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("async_handler", "in send"),
        ("plain_handler", "in send"),
        ("group_handler", "in send"),
        ("chained_handler", "LookupError: no mail"),
        ("hanging_handler", "in hanging_handler"),
        ("frozen_handler", "in frozen_handler"),
    ],
)
async def test_the_traceback_of_a_failed_job_begins_at_its_handler(
    name: str, last: str, caplog: pytest.LogCaptureFixture
) -> None:
    for text in await run(name, None, caplog):
        assert f"in {name}\n" in text
        assert last in text
        assert f"/{OURS}/" not in text


async def test_the_frames_between_two_handlers_stay(caplog: pytest.LogCaptureFixture) -> None:
    for text in await run("nested_handler", None, caplog):
        frames = [line for line in text.splitlines() if line.startswith("  File")]
        assert "in nested_handler" in frames[0]
        assert f"/{OURS}/" in frames[1]
        assert "in send" in frames[-1]


async def test_the_traceback_of_a_context_that_fails_begins_at_the_context(caplog: pytest.LogCaptureFixture) -> None:
    @asynccontextmanager
    async def session() -> AsyncGenerator[None]:
        send()
        yield

    for text in await run("async_handler", per_job(session), caplog):
        assert "in session\n" in text
        assert f"/{OURS}/" not in text
        assert "contextlib" not in text


async def test_an_error_of_the_library_itself_keeps_its_frames(caplog: pytest.LogCaptureFixture) -> None:
    def generate() -> Any:
        yield

    for text in await run("async_handler", per_job(generate), caplog):
        assert "the context factory is a generator" in text
        assert "in _check\n" in text
