"""A driver with a file of its own, and another program's connection to that file."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flowli_core.clock import Clock, SystemClock
from flowli_core.drivers.sqlite import SqliteDriver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the file."""
    return tmp_path / "jobs.sqlite3"


@pytest.fixture
def clock() -> Clock:
    """Return the clock of the drivers."""
    return SystemClock()


@pytest.fixture
async def driver(path: Path, clock: Clock) -> AsyncIterator[SqliteDriver]:
    """Yield an open driver."""
    made = SqliteDriver(path, clock=clock)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def elsewhere(path: Path, clock: Clock, driver: SqliteDriver) -> AsyncIterator[SqliteDriver]:
    """Yield a second driver of the same file, like one in another process."""
    made = SqliteDriver(path, clock=clock)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def foreign(path: Path, driver: SqliteDriver) -> Iterator[sqlite3.Connection]:
    """Yield another program's connection to the file that the driver has open."""
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """Yield a folder that every user may read, for a program that runs as another user."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)
