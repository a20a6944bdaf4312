"""A registry with an outbox, in each database."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, delete, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from flowli_core import Jobs, job
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.sqlalchemy import SqlOutbox, outbox_table
from tests.outbox.databases import DATABASES, for_plain_code, new_database, shared_database
from tests.support.faulty import FaultyDriver

metadata = MetaData()
rows = outbox_table(metadata)
orders = Table("orders", metadata, Column("id", Integer, primary_key=True, autoincrement=False))


@job(int, meta=str)
async def ship(input: int, meta: str | None) -> int:
    return input


class AppJobs(Jobs[None]):
    ship = ship
    queues = ("default", "mail")


@dataclass(frozen=True, slots=True)
class Shop:
    """An application with orders, and a job for each."""

    jobs: AppJobs
    engine: AsyncEngine
    outbox: SqlOutbox
    store: FaultyDriver

    async def waiting(self) -> list[str]:
        """Return the ids of the records in the store, in the order in which they run."""
        page = await self.jobs.inspect.find("queued", limit=1000)
        return [record.id for record in reversed(page.items)]

    async def left(self) -> int:
        """Count the rows of the outbox."""
        async with self.engine.connect() as connection:
            return (await connection.execute(select(func.count()).select_from(rows))).scalar_one()

    async def is_empty(self) -> bool:
        """Return True if the outbox is empty."""
        return not await self.left()

    async def sent(self, *ids: str) -> None:
        """Wait until exactly these records are in the store, and the outbox is empty."""
        await until(lambda: self._is_sent(ids))

    async def _is_sent(self, ids: tuple[str, ...]) -> bool:
        return await self.waiting() == list(ids) and not await self.left()


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a check succeeds."""
    async with asyncio.timeout(20):
        while not await is_so():  # noqa: ASYNC110 - no event says that a database has changed
            await asyncio.sleep(0.005)


@pytest.fixture(params=DATABASES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(kind: str, tmp_path: Path) -> Iterator[str]:
    """Return the address of a database with empty tables. The tests of a server share one."""
    found = new_database(kind, tmp_path) if kind == "sqlite" else shared_database(kind)
    engine = create_engine(for_plain_code(found))
    with engine.begin() as connection:
        metadata.create_all(connection)
        for table in metadata.sorted_tables:
            connection.execute(delete(table))
    engine.dispose()
    yield found
    if kind == "mariadb":
        # aiomysql never closes a connection if the task that opens it is cancelled, as a relay is when a run ends.
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            gc.collect()


@pytest_asyncio.fixture
async def shop(url: str) -> AsyncIterator[Shop]:
    engine = create_async_engine(url)
    store = FaultyDriver(MemoryDriver())
    outbox = SqlOutbox(engine, rows)
    async with AppJobs(context=None, driver=store, outbox=outbox) as jobs:
        yield Shop(jobs, engine, outbox, store)
    await engine.dispose()
