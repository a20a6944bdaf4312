"""Run each test once with each driver, and check that the driver is consistent afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flowli_core.clock import SystemClock
from flowli_core.testing import ManualClock
from tests.conformance.builders import Worker, assert_consistent
from tests.conformance.drivers import CANDIDATES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from flowli_core.driver import Driver


@pytest.fixture(params=CANDIDATES)
def driver_name(request: pytest.FixtureRequest) -> str:
    """Return the name of the driver under test."""
    name = str(request.param)
    case = str(getattr(request.function, "__name__", ""))
    if reason := CANDIDATES[name].skips.get(case):
        pytest.skip(f"{name}: {reason}")
    return name


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Check what the drivers of the test have left behind. Requested first, so it checks after they are closed."""
    yield
    for candidate in CANDIDATES.values():
        candidate.clean_up()


@pytest.fixture
def clock() -> ManualClock:
    """Return the clock of the driver."""
    return ManualClock()


@pytest.fixture
async def driver(driver_name: str, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Driver]:
    """Yield an open driver whose time stands still."""
    made = CANDIDATES[driver_name].make(tmp_path, clock)
    await made.open()
    yield made
    await assert_consistent(made)
    await made.close()


@pytest.fixture
async def live_driver(driver_name: str, tmp_path: Path) -> AsyncIterator[Driver]:
    """Yield an open driver whose time passes."""
    made = CANDIDATES[driver_name].make(tmp_path, SystemClock())
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def worker(driver: Driver) -> Worker:
    """Return a worker of the queue "q"."""
    return Worker(driver)


@pytest.fixture
def other(driver: Driver) -> Worker:
    """Return another worker of the same queue."""
    return Worker(driver, "other")
