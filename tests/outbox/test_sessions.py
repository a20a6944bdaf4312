"""A job that is enqueued with a session exists if and only if the transaction of the session commits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import pytest
from sqlalchemy import Engine, create_engine, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from flowli_core import DefinitionError, StrategyError, ValidationError, run_sync
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.sqlalchemy import SqlOutbox
from tests.outbox.conftest import AppJobs, Shop, orders, rows, until
from tests.outbox.databases import for_plain_code

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.fixture(params=["session", "connection"])
def begin(request: pytest.FixtureRequest, shop: Shop) -> Callable[[], Any]:
    """Open a session or a connection, without a transaction."""

    ways: dict[str, Callable[[], Any]] = {
        "session": lambda: AsyncSession(shop.engine),
        "connection": shop.engine.connect,
    }
    return ways[request.param]


async def test_a_job_is_stored_after_the_commit_and_not_before(shop: Shop, begin: Callable[[], Any]) -> None:
    async with begin() as session:
        await session.execute(insert(orders).values(id=1))
        receipt = await shop.jobs.ship.options(session=session).enqueue(1)
        assert (receipt.disposition, receipt.state, receipt.name) == ("outbox", "queued", "ship")
        assert await shop.waiting() == []
        await session.commit()
    await shop.sent(receipt.id)


async def test_a_job_whose_transaction_is_rolled_back_never_exists(shop: Shop, begin: Callable[[], Any]) -> None:
    async with begin() as session:
        await shop.jobs.ship.options(session=session).enqueue(1)
        await session.rollback()
        kept = await shop.jobs.ship.options(session=session).enqueue(2)
        await session.commit()
    await shop.sent(kept.id)


async def test_a_session_that_is_closed_without_a_commit_stores_nothing(shop: Shop, begin: Callable[[], Any]) -> None:
    async with begin() as session:
        await shop.jobs.ship.options(session=session).enqueue(1)
        await session.close()
    async with begin() as session:
        kept = await shop.jobs.ship.options(session=session).enqueue(2)
        await session.commit()
    await shop.sent(kept.id)


async def test_an_exception_in_a_transaction_takes_its_jobs_along(shop: Shop) -> None:
    async def fail() -> None:
        async with AsyncSession(shop.engine) as session, session.begin():
            await shop.jobs.ship.options(session=session).enqueue(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert (await shop.left(), await shop.waiting()) == (0, [])


async def test_a_commit_that_fails_stores_nothing(shop: Shop) -> None:
    async with AsyncSession(shop.engine) as session, session.begin():
        await session.execute(insert(orders).values(id=1))
    async with AsyncSession(shop.engine) as session:
        await shop.jobs.ship.options(session=session).enqueue(1)
        with pytest.raises(IntegrityError):
            await session.execute(insert(orders).values(id=1))
        await session.rollback()
        await session.commit()
    assert (await shop.left(), await shop.waiting()) == (0, [])


async def test_a_savepoint_that_is_rolled_back_takes_its_jobs_along(shop: Shop, begin: Callable[[], Any]) -> None:
    """Also those of a savepoint within it that was released."""
    async with begin() as session:
        await session.execute(insert(orders).values(id=1))
        work = shop.jobs.ship.options(session=session)
        first = await work.enqueue(1)
        outer = await session.begin_nested()
        await work.enqueue(2)
        inner = await session.begin_nested()
        await work.enqueue(3)
        await inner.commit()
        await outer.rollback()
        async with session.begin_nested():
            second = await work.enqueue(4)
        await session.commit()
    await shop.sent(first.id, second.id)


async def test_many_jobs_of_a_session_are_stored_in_their_order(shop: Shop, begin: Callable[[], Any]) -> None:
    async with begin() as session:
        receipts = list(await shop.jobs.ship.options(session=session).enqueue_many(range(300)))
        receipts += [await shop.jobs.ship.options(session=session).enqueue(number) for number in range(20)]
        await session.commit()
    await shop.sent(*[receipt.id for receipt in receipts])


async def test_a_session_may_be_used_for_several_transactions(shop: Shop) -> None:
    async with AsyncSession(shop.engine) as session:
        work = shop.jobs.ship.options(session=session)
        first = await work.enqueue(1)
        await session.commit()
        await shop.sent(first.id)
        second = await work.enqueue(2)
        await session.commit()
        await session.commit()
    await shop.sent(first.id, second.id)


async def test_options_and_arguments_reach_the_store(shop: Shop) -> None:
    work = shop.jobs.ship.options(id="mine", key="k", queue="mail", meta="ü")
    before = datetime.now(UTC)
    async with AsyncSession(shop.engine) as session, session.begin():
        receipt = await work.options(session=session, expires="1m").delay("1h", 7)
    assert receipt.state == "scheduled"
    assert timedelta(hours=1) <= receipt.scheduled_for - before < timedelta(hours=1, minutes=1)
    await until(shop.is_empty)
    record = await shop.jobs.ship.get("mine")
    assert record is not None
    assert (record.input, record.meta, record.key, record.queue) == (7, "ü", "k", "mail")
    assert abs(record.scheduled_for - receipt.scheduled_for) < timedelta(seconds=10)
    assert record.expires_at == record.scheduled_for + timedelta(minutes=1)


async def test_an_invalid_call_is_refused_before_the_commit(shop: Shop) -> None:
    async with AsyncSession(shop.engine) as session, session.begin():
        with pytest.raises(ValidationError):
            await shop.jobs.ship.options(session=session).enqueue("seven")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    assert (await shop.left(), await shop.waiting()) == (0, [])


async def test_two_sessions_do_not_mix(shop: Shop) -> None:
    async with AsyncSession(shop.engine) as one, AsyncSession(shop.engine) as other:
        kept = await shop.jobs.ship.options(session=one).enqueue(1)
        await shop.jobs.ship.options(session=other).enqueue(2)
        await one.commit()
        await other.rollback()
    await shop.sent(kept.id)


def test_plain_sessions_in_threads_store_jobs(shop_of_plain_code: tuple[AppJobs, Engine]) -> None:
    """A Session and a Connection, committed in a thread without an event loop."""
    jobs, engine = shop_of_plain_code

    ways: tuple[Callable[[], Any], ...] = (lambda: Session(engine), engine.connect)
    for way in ways:
        with way() as session:
            receipt = run_sync(jobs.ship.options(session=session).enqueue(1))
            nested = session.begin_nested()
            run_sync(jobs.ship.options(session=session).enqueue(2))
            nested.rollback()
            session.commit()
        record = None
        while record is None:
            record = run_sync(jobs.inspect.get_job(receipt.id))
        assert record.state == "queued"
    assert run_sync(jobs.inspect.get_queue_counts()).queued == 2
    with engine.connect() as connection:
        while connection.execute(select(rows)).first() is not None:
            connection.rollback()


async def test_a_scoped_session_is_refused(shop: Shop) -> None:
    sessions = async_scoped_session(async_sessionmaker(shop.engine), scopefunc=asyncio.current_task)
    with pytest.raises(DefinitionError, match=r"session=session\(\)"):
        await shop.jobs.ship.options(session=sessions).enqueue(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    receipt = await shop.jobs.ship.options(session=sessions()).enqueue(1)
    await sessions.commit()
    await sessions.remove()
    await shop.sent(receipt.id)


def test_the_scoped_session_of_a_thread_is_refused(shop_of_plain_code: tuple[AppJobs, Engine]) -> None:
    jobs, engine = shop_of_plain_code
    session = scoped_session(sessionmaker(engine))
    with pytest.raises(DefinitionError, match=r"session=session\(\)"):
        run_sync(jobs.ship.options(session=session).enqueue(1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    receipt = run_sync(jobs.ship.options(session=session()).enqueue(1))
    session.commit()
    while run_sync(jobs.inspect.get_job(receipt.id)) is None:
        pass
    session.remove()


@pytest.fixture
def shop_of_plain_code(url: str) -> Generator[tuple[AppJobs, Engine]]:
    engine = create_engine(for_plain_code(url))
    jobs = AppJobs(context=None, driver=MemoryDriver(), outbox=SqlOutbox(engine, rows))
    yield jobs, engine
    run_sync(jobs.aclose())
    engine.dispose()


async def test_a_session_within_a_transaction_of_other_code_stores_its_jobs_with_that(shop: Shop, kind: str) -> None:
    """As in a test suite that rolls back everything at the end of each test."""
    # The sqlite3 module begins no transaction before a savepoint.
    mode: Literal["create_savepoint", "rollback_only"] = "rollback_only" if kind == "sqlite" else "create_savepoint"
    async with shop.engine.connect() as connection:
        transaction = await connection.begin()
        async with AsyncSession(connection, join_transaction_mode=mode) as session:
            await shop.jobs.ship.options(session=session).enqueue(1)
            await session.commit()
        await transaction.rollback()
    assert (await shop.left(), await shop.waiting()) == (0, [])


async def test_a_registry_without_an_outbox_refuses_a_session(shop: Shop) -> None:
    async with AsyncSession(shop.engine) as session, AppJobs(context=None, driver=MemoryDriver()) as jobs:
        with pytest.raises(StrategyError, match="no outbox"):
            await jobs.ship.options(session=session).enqueue(1)


async def test_an_object_that_is_no_session_is_refused(shop: Shop) -> None:
    class Pretended:
        def in_transaction(self) -> bool:
            return True

    with pytest.raises(DefinitionError, match="got Pretended"):
        await shop.jobs.ship.options(session=Pretended()).enqueue(1)


async def test_a_schedule_takes_no_session(shop: Shop) -> None:
    async with AsyncSession(shop.engine) as session:
        with pytest.raises(ValidationError, match="session="):
            await shop.jobs.ship.options(session=session).schedule("k", every="1m", input=1)


def test_wrong_parts_of_an_outbox_are_refused() -> None:
    with pytest.raises(DefinitionError, match="engine must be"):
        SqlOutbox("sqlite://", rows)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(DefinitionError, match="outbox_table"):
        SqlOutbox(create_engine("sqlite:///unused.db"), orders)
    with pytest.raises(DefinitionError, match="in a file"):
        SqlOutbox(create_engine("sqlite://"), rows)
    with pytest.raises(DefinitionError, match="outbox must be"):
        AppJobs(context=None, driver=MemoryDriver(), outbox=SqlOutbox)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
