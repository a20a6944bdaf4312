"""A driver under a prefix of its own, and what another program would see of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flowli_core.drivers.redis import RedisDriver
from tests.redis.server import Server, clean_up, connect, fresh_prefix, shared_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Let no test leave a key that would stay for ever. Made first, so it ends when the drivers are closed."""
    yield
    clean_up()


@pytest.fixture
def prefix() -> str:
    """A prefix that no other test uses."""
    return fresh_prefix()


@pytest.fixture
async def driver(prefix: str) -> AsyncIterator[RedisDriver]:
    """An open driver on the server that the tests share."""
    made = RedisDriver.from_url(shared_url(), prefix=prefix)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def foreign() -> Iterator[Any]:
    """Another program's connection to that server."""
    client = connect(shared_url())
    yield client
    client.close()


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that the test may ruin."""
    with Server() as own:
        yield own
