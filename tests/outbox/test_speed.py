"""Committed jobs start about as soon as enqueued ones, and relays send what was left behind in seconds."""

from __future__ import annotations

import asyncio
import os
import time
from statistics import median
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Engine, create_engine, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from flowli_core import Jobs, Runner, job
from flowli_core._jobs.registry import runtime_of
from flowli_core._running.relay import relay_all
from flowli_core.drivers.redis import RedisDriver
from flowli_core.drivers.sqlite import SqliteDriver
from flowli_core.new_records import NewRecord
from flowli_core.sqlalchemy import SqlOutbox
from flowli_core.sqlalchemy._table import make_rows
from tests.outbox.conftest import AppJobs, rows
from tests.outbox.databases import for_plain_code
from tests.redis.server import clean_up, fresh_prefix, shared_url
from tests.support.figures import note_figures

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


def relay_in_process(url: str, store: Path) -> tuple[int, int]:
    """Send all rows in a process. Return its id, and a pipe to read how many the store has accepted."""
    readable, writable = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writable)
        return pid, readable

    async def relay() -> int:
        outbox = SqlOutbox(create_async_engine(url), rows)
        async with AppJobs(context=None, driver=SqliteDriver(store), outbox=outbox) as jobs:
            deliveries = runtime_of(jobs).require_deliveries()
            await relay_all(deliveries)
            return deliveries.count

    try:
        os.write(writable, str(asyncio.run(relay())).encode())
    finally:
        os._exit(0)


def check_two_relays(url: str, store: Path, count: int) -> None:
    engine = create_engine(for_plain_code(url))
    left = [NewRecord(id=f"left-{number}", name="ship", queue="default", input=b"1") for number in range(count)]
    with engine.begin() as connection:
        for start in range(0, count, 1000):
            some = [make_rows([one], transaction=one.id, now=0, claimed_until=0)[0] for one in left[start:][:1000]]
            connection.execute(insert(rows), some)
    began = time.perf_counter()
    relays = [relay_in_process(url, store) for _ in range(2)]
    sent = [int(os.read(readable, 100)) for _, readable in relays]
    seconds = time.perf_counter() - began
    for pid, readable in relays:
        os.waitpid(pid, 0)
        os.close(readable)
    kind = engine.dialect.name
    note_figures(f"outbox on {kind}: two relays sent {count} rows in {seconds:.2f} s, {sent[0]} and {sent[1]}")
    assert sum(sent) == count, "each row once"
    assert _left(engine) == 0
    engine.dispose()


def _left(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(rows)) or 0


def test_two_relays_send_each_of_many_rows_once(url: str, tmp_path: Path) -> None:
    check_two_relays(url, tmp_path / "jobs.db", 1000)


@pytest.mark.faults
def test_two_relays_send_each_of_ten_thousand_rows_once(url: str, tmp_path: Path) -> None:
    check_two_relays(url, tmp_path / "jobs.db", 10_000)


@job(int)
async def note_start(input: int, ctx: dict[int, asyncio.Future[float]]) -> None:
    ctx[input].set_result(time.perf_counter())


class Starts(Jobs[dict[int, asyncio.Future[float]]]):
    note_start = note_start


@pytest.mark.faults
async def test_a_committed_job_starts_about_as_soon_as_one_that_is_enqueued(url: str, kind: str) -> None:
    """From the call of `enqueue`, and from the end of the commit, to the start of the handler."""
    engine, starts = create_async_engine(url), dict[int, asyncio.Future[float]]()
    driver = RedisDriver.from_url(shared_url(), prefix=fresh_prefix())
    async with Starts(context=starts, driver=driver, outbox=SqlOutbox(engine, rows)) as jobs, Runner(jobs):

        async def directly(number: int) -> float:
            began = time.perf_counter()
            await jobs.note_start.enqueue(number)
            return began

        async def with_session(number: int) -> float:
            async with AsyncSession(engine) as session:
                await jobs.note_start.options(session=session).enqueue(number)
                await session.commit()
                return time.perf_counter()

        async def with_connection(number: int) -> float:
            async with engine.connect() as connection:
                await jobs.note_start.options(session=connection).enqueue(number)
                await connection.commit()
                return time.perf_counter()

        ways: dict[str, Callable[[int], Awaitable[float]]] = {
            "enqueue": directly,
            "session": with_session,
            "connection": with_connection,
        }
        waits: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(300):
            way = "connection" if number >= 200 else ("enqueue", "session")[number % 2]
            starts[number] = asyncio.get_running_loop().create_future()
            began = await ways[way](number)
            waits[way].append(await starts[number] - began)
            await asyncio.sleep(0.005)
    await engine.dispose()
    clean_up()
    shown = ", ".join(f"{way} {median(waits[way]) * 1000:.2f} ms" for way in ways)
    ratio = median(waits["session"]) / median(waits["enqueue"])
    note_figures(f"outbox on {kind}: from the commit to the start, median: {shown}; session to enqueue {ratio:.2f}")
