"""The app that sends mail, over a store whose time stands still."""

from __future__ import annotations

import pytest

from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import ManualClock
from tests.support.counting import CountingDriver
from tests.support.mailing import START, AppJobs, ran


@pytest.fixture
def clock() -> ManualClock:
    """The clock of the store."""
    return ManualClock(START)


@pytest.fixture
def driver(clock: ManualClock) -> CountingDriver:
    """The store, which nothing was done to yet."""
    ran.clear()
    return CountingDriver(MemoryDriver(clock=clock))


@pytest.fixture
def jobs(driver: CountingDriver) -> AppJobs:
    """The app."""
    return AppJobs(context=None, driver=driver)
