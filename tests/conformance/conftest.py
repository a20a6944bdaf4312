"""Each test runs once with each driver, and leaves it consistent."""

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
    """The name of the driver under test."""
    name = str(request.param)
    case = str(getattr(request.function, "__name__", ""))
    if reason := CANDIDATES[name].skips.get(case):
        pytest.skip(f"{name}: {reason}")
    return name


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Let each driver look for what the test's drivers have left; made first, so it ends when they are closed."""
    yield
    for candidate in CANDIDATES.values():
        candidate.clean_up()


@pytest.fixture
def clock() -> ManualClock:
    """The clock of the driver."""
    return ManualClock()


@pytest.fixture
async def driver(driver_name: str, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Driver]:
    """An open driver whose time stands still."""
    made = CANDIDATES[driver_name].make(tmp_path, clock)
    await made.open()
    yield made
    await assert_consistent(made)
    await made.close()


@pytest.fixture
async def live_driver(driver_name: str, tmp_path: Path) -> AsyncIterator[Driver]:
    """An open driver whose time goes on."""
    made = CANDIDATES[driver_name].make(tmp_path, SystemClock())
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def worker(driver: Driver) -> Worker:
    """A worker of the queue "q"."""
    return Worker(driver)


@pytest.fixture
def other(driver: Driver) -> Worker:
    """Another worker of the same queue."""
    return Worker(driver, "other")
