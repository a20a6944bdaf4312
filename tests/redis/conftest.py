"""Fixtures: a driver with a prefix of its own, a server of its own, and a plain client beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flowli_core.drivers.redis import RedisDriver
from tests.redis.server import Server, clean_up, connect, fresh_prefix, shared_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail if a test leaves keys that never expire. It is set up first, so it runs after the drivers are closed."""
    yield
    clean_up()


@pytest.fixture
def prefix() -> str:
    """Return a prefix that no other test uses."""
    return fresh_prefix()


@pytest.fixture
async def driver(prefix: str) -> AsyncIterator[RedisDriver]:
    """Open a driver on the server that the tests share."""
    made = RedisDriver.from_url(shared_url(), prefix=prefix)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def foreign() -> Iterator[Any]:
    """Connect to that server like another program."""
    client = connect(shared_url())
    yield client
    client.close()


@pytest.fixture
def server() -> Iterator[Server]:
    """Start a server that only this test uses."""
    with Server() as own:
        yield own
