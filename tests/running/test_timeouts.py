"""The error that a record shows after a timeout."""

import asyncio

from flowli_core import Jobs, job
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import drain


async def slow_call() -> None:
    await asyncio.Event().wait()


@job(timeout="20ms")
async def ask() -> None:
    await slow_call()


class AppJobs(Jobs[None]):
    ask = ask


async def test_the_traceback_of_a_timeout_shows_where_the_handler_hung() -> None:
    async with AppJobs(context=None, driver=MemoryDriver()) as jobs:
        receipt = await jobs.ask.enqueue()
        await drain(jobs)
        record = await jobs.inspect.get_job(receipt.id)
    assert record is not None
    assert record.last_error is not None
    assert record.last_error.type == "flowli_core.JobTimeout"
    assert record.last_error.message == "the handler ran for longer than 20ms"
    assert "in slow_call" in record.last_error.traceback
