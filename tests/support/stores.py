"""A driver of each store, for tests that are run with all of them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from flowli_core.drivers.memory import MemoryDriver
from flowli_core.drivers.redis import RedisDriver
from flowli_core.drivers.sqlite import SqliteDriver
from tests.redis.server import clean_up, fresh_prefix, shared_url

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from flowli_core.driver import Driver

STORES = ("memory", "sqlite", "redis")


@contextmanager
def driver_of(store: str, folder: Path) -> Generator[Driver]:
    """Make a driver of an empty store, and check at the end what it has left in Redis. The test closes it."""
    if store == "memory":
        yield MemoryDriver()
    elif store == "sqlite":
        yield SqliteDriver(folder / "jobs.db")
    else:
        yield RedisDriver.from_url(shared_url(), prefix=fresh_prefix())
        clean_up()
