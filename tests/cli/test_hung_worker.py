"""Workers that exit although a handler or the context hangs."""

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from flowli_core import Jobs, Runner, job
from flowli_core.cli._worker.options import RunOptions
from flowli_core.cli._worker.serve import Worker
from flowli_core.drivers.memory import MemoryDriver
from tests.support.running import PATIENCE, Work


def options(*, burst: bool) -> RunOptions:
    second = timedelta(seconds=1)
    return RunOptions(concurrency=1, queues=(), burst=burst, drain=second, lease=30 * second, stall_limit=second / 10)


async def test_a_worker_whose_slots_are_all_held_by_handlers_that_never_end_exits_with_code_70(
    caplog: pytest.LogCaptureFixture,
) -> None:
    work, release = Work(), threading.Event()
    work.deeds.toil = lambda _: release.wait(PATIENCE)
    worker = Worker(work.jobs, options(burst=False), on_up=lambda _: None)
    worker.runner = Runner(work.jobs, concurrency=1, cancel_grace="10ms")
    await work.jobs.toil.options(timeout="10ms").enqueue(1)
    async with asyncio.timeout(PATIENCE):
        assert await worker.run() == 70
    release.set()
    assert "every slot is held by a handler that did not end when it was cancelled; exiting" in caplog.text
    assert "failed for good" in caplog.text


@job()
async def work() -> None:
    """Do nothing."""


class HungJobs(Jobs[int]):
    """A registry whose context does not close."""

    work = work


@asynccontextmanager
async def never_closing() -> AsyncGenerator[int]:
    yield 1
    await asyncio.Event().wait()


async def test_a_worker_whose_context_does_not_close_exits_and_says_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowli_core.embedded.CLOSE_WITHIN", 0.05)
    worker = Worker(HungJobs(context=never_closing, driver=MemoryDriver()), options(burst=True), on_up=lambda _: None)
    with caplog.at_level(logging.WARNING):
        async with asyncio.timeout(PATIENCE):
            assert await worker.run() == 0
    assert "the context never_closing did not close within 0.05s, and was cancelled" in caplog.text
