"""Processes are killed around commits, relays and settles. The jobs that run are those of committed transactions."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from flowli_core import Jobs, Runner, current_job, job
from flowli_core.drivers.sqlite import SqliteDriver
from flowli_core.sqlalchemy import SqlOutbox, outbox_table
from tests.outbox.databases import for_plain_code, new_database
from tests.support.figures import note_figures

metadata = MetaData()
rows = outbox_table(metadata)
orders = Table("orders", metadata, Column("job", String(64), primary_key=True), Column("number", Integer))


@job(int)
async def ship(input: int, ctx: Path) -> None:
    """Note that this job ran. A line is written whole or not at all."""
    file = os.open(ctx, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{current_job().id}\n".encode())
    os.close(file)


class ShopJobs(Jobs[Path]):
    ship = ship


class Scene:
    """The files and the database of a shop."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.shipped = folder / "shipped"

    def jobs(self) -> tuple[ShopJobs, Any]:
        engine = create_async_engine(self.url)
        driver = SqliteDriver(self.folder / "jobs.db")
        return ShopJobs(context=self.shipped, driver=driver, outbox=SqlOutbox(engine, rows)), engine

    async def sell(self, begun: Callable[[], object]) -> None:
        """Store orders with their jobs for ever, and roll about every fourth back."""
        registry, engine = self.jobs()
        async with registry:
            await registry.inspect.get_overview()
            begun()
            while True:
                async with AsyncSession(engine) as session:
                    receipt = await registry.ship.options(session=session).enqueue(1)
                    await session.execute(insert(orders).values(job=receipt.id, number=1))
                    if random.random() < 0.25:  # noqa: S311
                        await session.rollback()
                    else:
                        await session.commit()

    async def work(self, begun: Callable[[], object]) -> None:
        """Relay and run jobs for ever."""
        registry, _ = self.jobs()
        async with registry:
            begun()
            await Runner(registry, lease="1s").run()

    async def finish(self) -> None:
        """Send and run all that is left. The claims of the dead processes end now, so that the test need not wait."""
        registry, engine = self.jobs()
        async with engine.begin() as connection:
            await connection.execute(update(rows).values(claimed_until=0))
        async with registry, Runner(registry, lease="1s"):
            async with asyncio.timeout(120):
                while True:
                    async with engine.connect() as connection:
                        left = (await connection.execute(select(func.count()).select_from(rows))).scalar_one()
                    counts = await registry.inspect.get_queue_counts()
                    if not left and not counts.queued + counts.active + counts.scheduled:
                        break
                    await asyncio.sleep(0.1)
        await engine.dispose()


def killed(main: Callable[[Callable[[], object]], Coroutine[Any, Any, None]], longest: float) -> None:
    """Run this in a process, and kill it at a random moment after it has begun, within `longest` seconds."""
    readable, writable = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            asyncio.run(main(lambda: os.write(writable, b".")))
        finally:
            os._exit(1)
    os.close(writable)
    assert os.read(readable, 1), "it ended before it began"
    os.close(readable)
    time.sleep(random.uniform(0, longest))  # noqa: S311
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def check(scene: Scene, kills: int) -> None:
    """Kill sellers and workers, and compare the jobs that ran with the orders that were committed."""
    for _ in range(kills // 2):
        killed(scene.sell, 0.2)
        killed(scene.work, 0.3)
    asyncio.run(scene.finish())
    engine = create_engine(for_plain_code(scene.url))
    with engine.connect() as connection:
        committed = set(connection.scalars(select(orders.c.job)))
    engine.dispose()
    ran = Counter(scene.shipped.read_text().split())
    note_figures(
        f"outbox on {scene.url.partition('+')[0]}: {kills} kills, {len(committed)} orders committed, "
        f"{len(ran)} jobs ran, {sum(ran.values()) - len(ran)} of them twice"
    )
    assert set(ran) == committed
    assert committed


@pytest.fixture(params=["sqlite", "postgresql-asyncpg"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    url = new_database(request.param, tmp_path)
    engine = create_engine(for_plain_code(url))
    metadata.create_all(engine)
    engine.dispose()
    return Scene(url, tmp_path)


def test_a_few_kills_lose_no_job_and_add_none(scene: Scene) -> None:
    check(scene, 6)


@pytest.mark.faults
def test_two_hundred_kills_lose_no_job_and_add_none(scene: Scene) -> None:
    check(scene, 200)
