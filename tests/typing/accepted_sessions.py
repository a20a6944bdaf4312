"""Right uses of sessions and of an outbox. This file is never run."""

from typing import assert_type

from flowli_core import Jobs, Receipt, job
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.outbox import Backlog
from flowli_core.sqlalchemy import SqlOutbox, outbox_table
from pydantic import BaseModel
from sqlalchemy import Connection, Engine, MetaData
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_scoped_session
from sqlalchemy.orm import DeclarativeBase, Session


class Base(DeclarativeBase):
    pass


class Order(BaseModel):
    number: int


class AuditedSession(AsyncSession):
    pass


@job(Order)
async def ship(input: Order) -> int:
    return input.number


class AppJobs(Jobs[None]):
    ship = ship


def make(engine: AsyncEngine, plain: Engine) -> tuple[AppJobs, AppJobs]:
    rows = outbox_table(Base.metadata)
    other = outbox_table(MetaData(), name="jobs", schema="shop")
    return (
        AppJobs(context=None, driver=MemoryDriver(), outbox=SqlOutbox(engine, rows)),
        AppJobs(context=None, driver=MemoryDriver(), outbox=SqlOutbox(plain, other)),
    )


async def takes_sessions(
    jobs: AppJobs, asynchronous: AsyncSession, audited: AuditedSession, scoped: async_scoped_session[AsyncSession]
) -> None:
    assert_type(await jobs.ship.options(session=asynchronous).enqueue(number=1), Receipt[int])
    assert_type(await jobs.ship.options(session=audited).delay("1m", Order(number=1)), Receipt[int])
    assert_type(await jobs.ship.options(session=scoped(), key="k").enqueue(number=1), Receipt[int])


async def takes_plain_sessions_and_connections(
    jobs: AppJobs, plain: Session, connection: AsyncConnection, plain_connection: Connection
) -> None:
    assert_type(await jobs.ship.options(session=plain).enqueue_many([Order(number=1)]), tuple[Receipt[int], ...])
    assert_type(await jobs.ship.options(session=connection).enqueue(number=1), Receipt[int])
    assert_type(await jobs.ship.options(session=plain_connection).enqueue(number=1), Receipt[int])
    assert_type(await jobs.inspect.get_outbox(), Backlog | None)
