"""A bulk change on Redis goes on where a cancelled one stopped, while other jobs fail."""

from __future__ import annotations

import asyncio
import time

import pytest

from flowli_core import Jobs, Runner, job
from flowli_core.drivers.redis import RedisDriver
from tests.support.figures import note_figures


@job(int)
async def fail(input: int) -> None:
    raise ConnectionError(str(input))


class Failing(Jobs[None]):
    fail = fail
    queues = ("waiting",)


async def requeue_in_two_calls(driver: RedisDriver, number: int) -> tuple[int, float]:
    """Requeue all of so many failed jobs, by a call that is cancelled halfway and by another one.

    Return how many the second call requeued, and how many seconds both took.
    """
    jobs = Failing(context=None, driver=driver)
    await jobs.fail.enqueue_many(list(range(number)), queue="waiting")
    assert (await Runner(jobs, concurrency=100).run_once()).failed == number
    changed = asyncio.Event()

    def report(_: int, done: int) -> None:
        if 2 * done >= number:
            changed.set()

    started = time.monotonic()
    first = asyncio.create_task(jobs.control.requeue_all(error="ConnectionError", on_progress=report))
    await changed.wait()
    first.cancel()
    await asyncio.wait([first])
    await jobs.fail.enqueue_many(range(10))
    await Runner(jobs, queues=("default",)).run_once()
    result = await jobs.control.requeue_all(queue="waiting", error="ConnectionError")
    assert result.skipped == 0
    counts = await jobs.inspect.get_queue_counts()
    assert (counts.queued, counts.failed) == (number, 10)
    return result.changed, time.monotonic() - started


async def test_a_bulk_change_goes_on_where_a_cancelled_one_stopped(driver: RedisDriver) -> None:
    changed, _ = await requeue_in_two_calls(driver, 300)
    assert 0 < changed <= 150


@pytest.mark.faults
async def test_thousands_of_jobs_are_requeued_in_two_calls(driver: RedisDriver) -> None:
    """A registry keeps the last 10,000 failed jobs."""
    changed, seconds = await requeue_in_two_calls(driver, 9_000)
    note_figures(f"requeued 9,000 failed jobs in two calls, {changed:,} of them in the second: {seconds:.1f} s")
