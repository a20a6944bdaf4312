"""The watchers of records as Redis stores them, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flowli_core.drivers.redis import RedisDriver
from flowli_core.limits import WATCHER_MEMORY
from flowli_core.stored import Watch
from flowli_core.testing import ManualClock
from tests.conformance.builders import Worker, record
from tests.redis.server import shared_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

MEMORY_MS = WATCHER_MEMORY.total_seconds() * 1000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def driver(prefix: str, clock: ManualClock) -> AsyncIterator[RedisDriver]:
    """Yield a driver whose time stands still."""
    made = RedisDriver.from_url(shared_url(), prefix=prefix, clock=clock)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def key(prefix: str) -> Callable[[str], str]:
    """Return the function that returns the full name of a key."""
    return lambda name: f"{{{prefix}}}:1:{name}"


async def test_a_record_that_is_not_stored_is_not_watched(driver: RedisDriver, key: Any, foreign: Any) -> None:
    await driver.enqueue([record("a")])
    await driver.watch(Watch(watcher="me", add=("a", "nobody")))
    assert foreign.hkeys(key("watched")) == [b"a"]


async def test_a_watcher_that_has_not_called_for_long_gets_no_changes(
    driver: RedisDriver, clock: ManualClock, key: Any, foreign: Any
) -> None:
    await driver.enqueue([record("a")])
    await driver.watch(Watch(watcher="dead", add=("a",)))
    clock.advance(WATCHER_MEMORY)
    await Worker(driver).take_one()
    assert foreign.exists(key("changed:dead"), key("watched")) == 0


async def test_changes_that_nobody_fetches_expire(driver: RedisDriver, key: Any, foreign: Any) -> None:
    await driver.enqueue([record("a")])
    await driver.watch(Watch(watcher="me", add=("a",)))
    await Worker(driver).take_one()
    assert 0 < foreign.pttl(key("changed:me")) <= MEMORY_MS
