"""Registries, runners and processes that end while jobs are on their way from the outbox to the store."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, event, select, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from flowli_core import (
    DriverError,
    Jobs,
    OutboxUnavailable,
    RecordNotFound,
    Runner,
    StoreUnavailable,
    StrategyError,
    job,
    per_job,
    run_sync,
)
from flowli_core._jobs.registry import runtime_of
from flowli_core._running.relay import relay_for_ever
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.drivers.sqlite import SqliteDriver
from flowli_core.sqlalchemy import SqlOutbox
from flowli_core.testing import drain
from tests.outbox.conftest import AppJobs, Shop, rows, until
from tests.outbox.databases import for_plain_code
from tests.outbox.test_relay import leave, logged
from tests.support.faulty import FaultyDriver

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path


async def commit(jobs: AppJobs, shop: Shop, input: int = 1) -> str:
    async with AsyncSession(shop.engine) as session, session.begin():
        return (await jobs.ship.options(session=session).enqueue(input)).id


async def test_a_job_is_found_right_after_its_commit(shop: Shop) -> None:
    async with AsyncSession(shop.engine) as session:
        receipt = await shop.jobs.ship.options(session=session).enqueue(1)
        with pytest.raises(RecordNotFound):
            await shop.jobs.ship.result(receipt)
        await session.commit()
    assert await shop.jobs.ship.get(receipt) is not None
    async with Runner(shop.jobs):
        receipt = await shop.jobs.ship.options(session=(connection := await shop.engine.connect())).enqueue(2)
        await connection.commit()
        assert await shop.jobs.ship.result(receipt, timeout="10s") == 2
        await connection.close()


async def test_rows_stay_if_their_registry_is_closed_before_the_commit(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncSession(shop.engine) as session, session.begin():
        await shop.jobs.ship.options(session=session).enqueue(1)
        await shop.jobs.aclose()
    await logged(caplog, "committed jobs stay in the outbox (1), and are sent later")
    assert await shop.left() == 1


async def test_a_registry_that_is_closed_waits_for_the_jobs_that_were_just_committed(shop: Shop) -> None:
    async with AppJobs(context=None, driver=shop.store, outbox=shop.outbox) as jobs:
        sent = await commit(jobs, shop)
    assert (await shop.waiting(), await shop.left()) == ([sent], 0)


async def test_a_runner_that_stops_sends_what_it_has_claimed(shop: Shop) -> None:
    ids = await leave(shop, 2)
    gate = shop.store.hold("enqueue")
    runner = Runner(shop.jobs, queues=["mail"])
    running = asyncio.create_task(runner.run())
    await gate.reached.wait()
    stopping = asyncio.create_task(runner.stop(drain="0s"))
    await asyncio.sleep(0)
    gate.opened.set()
    await asyncio.gather(stopping, running)
    assert (await shop.waiting(), await shop.left()) == (ids, 0)


async def test_a_registry_that_is_closed_while_its_runner_runs_ends_the_runner_with_one_error(shop: Shop) -> None:
    running = asyncio.create_task(Runner(shop.jobs).run())
    await until(lambda: _is_waiting(shop))
    await shop.jobs.aclose()
    with pytest.raises(StrategyError):
        await running


async def test_a_relay_returns_its_claims_if_the_store_is_unreachable(shop: Shop) -> None:
    ids, deliveries = await leave(shop, 2), runtime_of(shop.jobs).require_deliveries()
    shop.store.fail("enqueue", times=1)
    with pytest.raises(StoreUnavailable):
        await deliveries.relay()
    assert [record.id for record in await shop.outbox.claim()] == ids


async def test_a_relay_ends_with_its_registry_and_claims_nothing(shop: Shop) -> None:
    ids, deliveries = await leave(shop, 2), runtime_of(shop.jobs).require_deliveries()
    await shop.jobs.aclose()
    await relay_for_ever(deliveries)
    assert [record.id for record in await shop.outbox.claim()] == ids


async def _is_waiting(shop: Shop) -> bool:
    return shop.store.is_waiting


async def test_run_once_raises_the_error_of_the_database(shop: Shop, tmp_path: Path) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'empty.db'}")
    async with AppJobs(context=None, driver=shop.store, outbox=SqlOutbox(engine, rows)) as jobs:
        with pytest.raises(OutboxUnavailable, match="no such table"):
            await Runner(jobs).run_once()
    await engine.dispose()


@job(int)
async def order(input: int, ctx: AsyncSession) -> None:
    """Enqueue as many jobs in the transaction of this one, and fail if the number is odd."""
    jobs = OrderJobs.current()
    await jobs.ship_order.options(session=ctx).enqueue_many(range(input))
    if input % 2:
        raise ZeroDivisionError


@job(int)
def order_in_a_thread(input: int, ctx: AsyncSession) -> None:
    """Enqueue in a session of plain code, which is committed in a thread."""
    engine = create_engine(for_plain_code(ctx.get_bind().engine.url.render_as_string(hide_password=False)))
    with Session(engine) as session, session.begin():
        run_sync(OrderJobs.current().ship_order.options(session=session).enqueue(input))
    engine.dispose()


@job(int)
async def ship_order(input: int) -> None:
    pass


class OrderJobs(Jobs[AsyncSession]):
    order = order
    order_in_a_thread = order_in_a_thread
    ship_order = ship_order


async def test_the_jobs_of_a_handler_are_part_of_its_transaction(shop: Shop) -> None:
    """And a test that drains runs them, too."""

    @asynccontextmanager
    async def new_session() -> AsyncGenerator[AsyncSession]:
        async with AsyncSession(shop.engine) as session, session.begin():
            yield session

    async with OrderJobs(context=per_job(new_session), driver=MemoryDriver(), outbox=shop.outbox) as jobs:
        await jobs.order.enqueue(2)
        await jobs.order.enqueue(3)
        counts = await drain(jobs)
        assert (counts.completed, counts.failed) == (3, 1)
        await jobs.order_in_a_thread.enqueue(1)
        assert (await drain(jobs)).completed == 2
        assert await shop.left() == 0


async def test_a_driver_that_cannot_be_opened_refuses_no_job(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    store = FaultyDriver(shop.store)
    store.fail("open", error=DriverError("the store is of a later release"))
    jobs = AppJobs(context=None, driver=store, outbox=shop.outbox)
    await commit(jobs, shop)
    await logged(caplog, "committed jobs stay in the outbox (1), and are sent later: the store is of a later release")
    async with shop.engine.connect() as connection:
        assert (await connection.execute(select(rows.c.claimed_by))).scalar_one() is None


async def test_an_unknown_error_is_logged_and_ends_no_sender(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    shop.store.fail("enqueue", error=ZeroDivisionError("a bug"), times=1)
    await commit(shop.jobs, shop)
    await logged(caplog, "committed jobs stay in the outbox (1), and are sent later: a bug")
    assert "Traceback" in caplog.text
    sent = await commit(shop.jobs, shop)
    await until(lambda: _has(shop, sent))


async def _has(shop: Shop, id: str) -> bool:
    return id in await shop.waiting()


async def test_rows_that_cannot_be_removed_are_removed_later(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    class Stuck(SqlOutbox):
        async def remove(self, ids: Any) -> None:
            del ids
            raise OutboxUnavailable("the database is locked")

    async with AppJobs(context=None, driver=shop.store, outbox=Stuck(shop.engine, rows)) as jobs:
        sent = await commit(jobs, shop)
        await logged(caplog, "jobs that were sent stay in the outbox (1), and are removed later: the database is lock")
    async with shop.engine.begin() as connection:
        await connection.execute(update(rows).values(claimed_until=0))
    assert (await shop.waiting(), await shop.left()) == ([sent], 1)
    assert (await drain(shop.jobs)).completed == 1
    assert await shop.left() == 0


def test_plain_code_needs_an_engine_unless_an_event_loop_uses_the_outbox(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine, async_engine = create_engine(for_plain_code(url)), create_async_engine(url)
    jobs = AppJobs(context=None, driver=MemoryDriver(), outbox=SqlOutbox(async_engine, rows))
    loops = set[asyncio.AbstractEventLoop]()

    def note_loop(_: object) -> None:
        loops.add(asyncio.get_running_loop())

    event.listen(async_engine.sync_engine, "begin", note_loop)

    def place() -> None:
        with Session(engine) as session, session.begin():
            run_sync(jobs.ship.options(session=session).enqueue(1))

    def left() -> int:
        with engine.connect() as connection:
            return len(connection.execute(select(rows)).all())

    place()
    run_sync(logged(caplog, "plain code needs an Engine"))
    assert left() == 1

    async def has_one_left() -> bool:
        """Return True if the row of the second job was removed, on the event loop of the outbox."""
        return await asyncio.to_thread(left) == 1

    async def main() -> None:
        assert (await drain(jobs)).completed == 1
        await asyncio.to_thread(place)
        await until(has_one_left)
        await jobs.aclose()
        await async_engine.dispose()

    asyncio.run(main())
    engine.dispose()
    assert len(loops) == 1, "its connections belong to one event loop"


SCRIPT = """
import atexit, sys
from sqlalchemy import MetaData, create_engine
from sqlalchemy.orm import Session
from flowli_core import Jobs, job, run_sync
from flowli_core.drivers.sqlite import SqliteDriver
from flowli_core.sqlalchemy import SqlOutbox, outbox_table

@job(int)
async def ship(input: int) -> None: ...

class AppJobs(Jobs[None]):
    ship = ship

metadata = MetaData()
rows = outbox_table(metadata)
engine = create_engine(sys.argv[1])
metadata.create_all(engine)
jobs = AppJobs(context=None, driver=SqliteDriver(sys.argv[2]), outbox=SqlOutbox(engine, rows))

def place():
    with Session(engine) as session, session.begin():
        run_sync(jobs.ship.options(session=session).enqueue(1))

if len(sys.argv) > 3:
    atexit.register(place)
else:
    place()
"""


@pytest.mark.parametrize("words", [(), ("at exit",)])
def test_a_script_may_end_right_after_its_commit(tmp_path: Path, words: tuple[str, ...]) -> None:
    address, store = f"sqlite:///{tmp_path / 'application.db'}", tmp_path / "jobs.db"
    command = [sys.executable, "-c", SCRIPT, address, str(store), *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    for noise in ("Traceback", "never retrieved", "was destroyed", "ResourceWarning"):
        assert noise not in ended.stderr
    engine = create_engine(address)
    with engine.begin() as connection:
        connection.execute(update(rows).values(claimed_until=0))
    jobs = AppJobs(context=None, driver=SqliteDriver(store), outbox=SqlOutbox(engine, rows))
    assert run_sync(drain(jobs)).completed == 1
    run_sync(jobs.aclose())
    engine.dispose()
