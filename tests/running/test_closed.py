"""A runner whose registry is closed while it runs."""

import asyncio

import pytest

from flowli_core import Jobs, Runner, StrategyError
from flowli_core.drivers.memory import MemoryDriver
from tests.support.running import soon, until


class NoJobs(Jobs[None]):
    """A registry without jobs."""


async def test_closing_the_registry_ends_its_runner_with_an_error() -> None:
    jobs = NoJobs(context=None, driver=MemoryDriver())
    runner = Runner(jobs)
    task = asyncio.create_task(runner.run())
    await until(lambda: runner.health().since_reserve is not None)
    await jobs.aclose()
    with pytest.raises(StrategyError, match="this registry is closed"):
        await soon(task)
    assert not runner.health().is_running
