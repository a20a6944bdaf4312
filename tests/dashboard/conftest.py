"""A shop whose jobs are in every state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flowli_core import Driver
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import ManualClock, drain
from tests.dashboard.shop import ShopJobs
from tests.dashboard.visitor import Visitor, visiting

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


@pytest.fixture
def clock() -> ManualClock:
    """The clock of the store."""
    return ManualClock()


@pytest.fixture
def driver(clock: ManualClock) -> MemoryDriver:
    """An empty store."""
    return MemoryDriver(clock=clock)


@pytest.fixture
async def jobs(driver: Driver) -> AsyncGenerator[ShopJobs]:
    """A registry over the store."""
    async with ShopJobs(context=None, driver=driver) as jobs:
        yield jobs


@pytest.fixture
async def busy(jobs: ShopJobs, clock: ManualClock) -> ShopJobs:
    """The registry, with jobs in every state but active. Their ids are those of their states."""
    for state, to in (("completed", "ada@example.com"), ("failed", "bounce@example.com")):
        await jobs.send_email.options(id=state).enqueue(to=to)
    await drain(jobs)
    clock.advance("10s")
    await drain(jobs)
    for state in ("queued", "cancelled"):
        await jobs.send_email.options(id=state).enqueue(to=f"{state}@example.com")
    await jobs.control.cancel("cancelled")
    await jobs.send_email.options(id="scheduled").delay("1h", to="later@example.com")
    clock.advance("1s")
    return jobs


@pytest.fixture
async def visitor(busy: ShopJobs) -> AsyncGenerator[Visitor]:
    """Somebody who may do everything."""
    async with visiting(busy) as visitor:
        yield visitor
