"""A plugin for pytest. In conftest.py: `pytest_plugins = ["flowli_core.testing.pytest_plugin"]`.

The fixtures are plain ones, so they work in plain tests, and with pytest-asyncio and anyio.

The plugin also guards real stores. An application that is started in a test is refused with StrategyError if its jobs
are on another driver than MemoryDriver: the test would store jobs there, and an embedded runner would run those that
wait. Mark a test that needs another store with `@pytest.mark.flowli_real_store`.
"""

from collections.abc import Generator
from typing import Any

import pytest

from flowli_core import embedded
from flowli_core._jobs.registry import Jobs, runtime_of
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.errors import StrategyError
from flowli_core.testing import ManualClock

__all__ = ["flowli_clock", "flowli_driver"]

_MARKER = "flowli_real_store"


@pytest.fixture
def flowli_clock() -> ManualClock:
    """Return the clock of `flowli_driver`. It stands still until the test advances it."""
    return ManualClock()


@pytest.fixture
def flowli_driver(flowli_clock: ManualClock) -> MemoryDriver:
    """Return an empty store: `AppJobs(context=..., driver=flowli_driver)`."""
    return MemoryDriver(clock=flowli_clock)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", f"{_MARKER}: lets an application use another store than MemoryDriver")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Guard the stores while a test runs, including its fixtures of all scopes."""
    with pytest.MonkeyPatch.context() as patch:
        if item.get_closest_marker(_MARKER) is None:
            patch.setattr(embedded, "open_registry", _open_in_memory)
        return (yield)


_open_registry = embedded.open_registry


async def _open_in_memory(jobs: Jobs[Any]) -> None:
    driver = runtime_of(jobs).driver
    if driver is None or isinstance(driver, MemoryDriver):
        return await _open_registry(jobs)
    raise StrategyError(
        f"a test would use the store of {driver!r}: pass the application a registry on MemoryDriver() and no runner, "
        f"or mark the test with @pytest.mark.{_MARKER}"
    )
