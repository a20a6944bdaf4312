"""The app that sends mail, over a store whose time stands still."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import ManualClock
from tests.support.counting import CountingDriver
from tests.support.mailing import START, AppJobs, ran

settings.register_profile("short", deadline=None)
examples = os.environ.get("FLOWLI_FUZZ_EXAMPLES")
if examples is not None:
    settings.register_profile("long", deadline=None, max_examples=int(examples))
settings.load_profile("short" if examples is None else "long")


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
