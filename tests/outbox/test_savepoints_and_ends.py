"""Sessions that end in unusual ways: open savepoints, failed writes, two-phase commits, several registries."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, event, insert
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, registry

from flowli_core import DefinitionError
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.sqlalchemy import SqlOutbox, outbox_table
from tests.outbox.conftest import AppJobs, Shop, metadata, orders, rows, until
from tests.outbox.databases import for_plain_code
from tests.outbox.test_relay import DyingOutbox, unclaim

if TYPE_CHECKING:
    from collections.abc import Callable


class Order:
    """An order, mapped to its table."""

    def __init__(self, id: int) -> None:
        self.id = id


registry(metadata=metadata).map_imperatively(Order, orders)


async def test_a_commit_with_an_open_savepoint_stores_all_jobs(shop: Shop) -> None:
    """SQLAlchemy then announces the commit of the savepoint only."""
    async with AsyncSession(shop.engine) as session:
        transaction = await session.begin()
        first = await shop.jobs.ship.options(session=session).enqueue(1)
        await session.begin_nested()
        second = await shop.jobs.ship.options(session=session).enqueue(2)
        await session.begin_nested()
        third = await shop.jobs.ship.options(session=session).enqueue(3)
        await transaction.commit()
    await shop.sent(first.id, second.id, third.id)


async def test_a_job_before_a_savepoint_survives_the_rollback_that_takes_its_row_along(shop: Shop) -> None:
    """The commit of the inner savepoint has written the row of the first job, and the outer rollback removes it."""
    jobs = AppJobs(context=None, driver=shop.store, outbox=DyingOutbox(shop.engine, rows))
    async with AsyncSession(shop.engine) as session:
        work = jobs.ship.options(session=session)
        first = await work.enqueue(1)
        outer = await session.begin_nested()
        async with session.begin_nested():
            await work.enqueue(2)
        await outer.rollback()
        last = await work.enqueue(3)
        await session.commit()
    await unclaim(shop)
    assert [record.id for record in await shop.outbox.claim()] == [first.id, last.id]


async def test_a_savepoint_may_come_first(shop: Shop) -> None:
    async with AsyncSession(shop.engine) as session:
        async with session.begin_nested():
            receipt = await shop.jobs.ship.options(session=session).enqueue(1)
        await session.commit()
    await shop.sent(receipt.id)


async def test_a_savepoint_that_is_closed_takes_its_jobs_along(shop: Shop, url: str) -> None:
    engine = create_engine(for_plain_code(url))
    with Session(engine) as session:
        session.execute(insert(orders).values(id=1))
        nested = session.begin_nested()
        await shop.jobs.ship.options(session=session).enqueue(1)
        nested.close()
        kept = await shop.jobs.ship.options(session=session).enqueue(2)
        session.commit()
    engine.dispose()
    await shop.sent(kept.id)


async def test_a_write_that_fails_is_repeated_by_the_next_commit(shop: Shop, kind: str) -> None:
    """As with SQLite's "database is locked", after which the transaction can still be committed."""
    if kind != "sqlite":
        pytest.skip("the transaction is over after a failed statement")
    failures = ["the database is locked"]

    def fail(*_: object) -> None:
        if failures:
            raise OperationalError("INSERT", {}, Exception(failures.pop()))

    async with AsyncSession(shop.engine) as session:
        receipt = await shop.jobs.ship.options(session=session).enqueue(1)
        event.listen(shop.engine.sync_engine, "before_cursor_execute", fail)
        with pytest.raises(OperationalError, match="locked"):
            await session.commit()
        event.remove(shop.engine.sync_engine, "before_cursor_execute", fail)
        await session.commit()
    await shop.sent(receipt.id)


async def test_a_flush_that_fails_in_the_commit_stores_nothing(shop: Shop) -> None:
    async with AsyncSession(shop.engine) as session, session.begin():
        await session.execute(insert(orders).values(id=1))
    async with AsyncSession(shop.engine) as session:
        await shop.jobs.ship.options(session=session).enqueue(1)
        session.add(Order(id=1))
        with pytest.raises(IntegrityError):
            await session.commit()
        await session.rollback()
        kept = await shop.jobs.ship.options(session=session).enqueue(2)
        await session.commit()
    await shop.sent(kept.id)


async def test_another_listener_that_raises_before_the_commit_stores_nothing(shop: Shop) -> None:
    def refuse(_: Session) -> None:
        raise ZeroDivisionError

    async with AsyncSession(shop.engine) as session:
        await shop.jobs.ship.options(session=session).enqueue(1)
        event.listen(session.sync_session, "before_commit", refuse)
        with pytest.raises(ZeroDivisionError):
            await session.commit()
        await session.rollback()
    assert (await shop.left(), await shop.waiting()) == (0, [])


async def test_a_transaction_in_two_phases_stores_its_jobs(shop: Shop, kind: str, url: str) -> None:
    if kind == "sqlite":
        pytest.skip("SQLite has no two-phase transactions")
    engine = create_engine(for_plain_code(url))
    with Session(engine, twophase=True) as session:
        receipt = await shop.jobs.ship.options(session=session).enqueue(1)
        session.prepare()
        session.commit()
        await shop.jobs.ship.options(session=session).enqueue(2)
        session.prepare()
        session.rollback()
    engine.dispose()
    await shop.sent(receipt.id)


async def test_a_session_serves_two_registries(shop: Shop) -> None:
    other_rows = outbox_table(metadata, name="other_outbox")
    async with shop.engine.begin() as connection:
        await connection.run_sync(other_rows.create)
    try:
        outbox, store = SqlOutbox(shop.engine, other_rows), MemoryDriver()
        async with AppJobs(context=None, driver=store, outbox=outbox) as other, AsyncSession(shop.engine) as session:
            mine = await shop.jobs.ship.options(session=session).enqueue(1)
            theirs = await other.ship.options(session=session).enqueue(2)
            await session.commit()
            await shop.sent(mine.id)
            assert await other.ship.get(theirs) is not None
            assert await other.ship.get(mine.id) is None
    finally:
        async with shop.engine.begin() as connection:
            await connection.run_sync(other_rows.drop)
        metadata.remove(other_rows)


async def test_a_session_whose_binds_lack_the_table_is_refused_at_the_call(shop: Shop, url: str) -> None:
    engine = create_engine(for_plain_code(url))
    with Session(binds={Order: engine}) as session, pytest.raises(DefinitionError, match="no engine for the table"):
        await shop.jobs.ship.options(session=session).enqueue(1)
    with Session(binds={Order: engine, rows: engine}) as session:
        receipt = await shop.jobs.ship.options(session=session).enqueue(1)
        session.commit()
    engine.dispose()
    await shop.sent(receipt.id)


async def test_sessions_and_connections_are_forgotten(shop: Shop) -> None:
    async with AsyncSession(shop.engine) as session, shop.engine.connect() as connection:
        references: list[Callable[[], object]] = [
            weakref.ref(session.sync_session),
            weakref.ref(connection.sync_connection),
        ]
        for one in (session, connection):
            await shop.jobs.ship.options(session=one).enqueue(1)
            await one.commit()
    del session, connection, one
    await until(shop.is_empty)
    gc.collect()
    assert [reference() for reference in references] == [None, None]


async def test_ids_that_differ_in_their_case_are_two_jobs(shop: Shop) -> None:
    """Also in MySQL, which compares texts without regard to case."""
    shop.store.fail("enqueue")
    async with AsyncSession(shop.engine) as session, session.begin():
        await shop.jobs.ship.options(session=session, id="Order-1").enqueue(1)
    await shop.outbox.remove(["order-1"])
    assert await shop.left() == 1
