"""Money that goes back, kept with SQLAlchemy in the same database."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from pydantic import BaseModel
from sqlalchemy import func, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncSession


class RefundError(Exception):
    """No such record, or more than was paid would go back. Trying again is of no use."""


class NewRefund(BaseModel):
    """A refund, as a client sends it. `id` is the client's own: sent twice, it is one refund."""

    id: str
    amount: Decimal


class Refund(NewRefund):
    """The same, with the record that it is of."""

    record_id: str


class _Base(DeclarativeBase):
    pass


class RefundRow(_Base):
    """A refund as it is stored."""

    __tablename__ = "refunds"

    id: Mapped[str] = mapped_column(primary_key=True)
    record_id: Mapped[str]
    cents: Mapped[int]


class _RecordRow(_Base):
    __tablename__ = "records"

    id: Mapped[str] = mapped_column(primary_key=True)
    amount: Mapped[str]


def make_engine(path: Path) -> AsyncEngine:
    """Make the engine over the service's database, whose tables RecordStore makes."""
    return create_async_engine(f"sqlite+aiosqlite:///{path}")


def make_sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Make what makes sessions."""
    return async_sessionmaker(engine, expire_on_commit=False)


async def add_refund(session: AsyncSession, refund: Refund) -> str:
    """Note a refund, and answer what is left of the payment. What RefundError refuses, the session must roll back.

    It writes before it reads: so it has SQLite's write lock, and no other refund comes between.
    """
    row = {"id": refund.id, "record_id": refund.record_id, "cents": int(refund.amount * 100)}
    await session.execute(insert(RefundRow).values(row).on_conflict_do_nothing())
    paid = await session.scalar(select(_RecordRow.amount).where(_RecordRow.id == refund.record_id))
    total = select(func.sum(RefundRow.cents)).where(RefundRow.record_id == refund.record_id)
    refunded = Decimal(await session.scalar(total) or 0) / 100
    if paid is None:
        raise RefundError("there is no such record")
    if refunded > Decimal(paid):
        raise RefundError("that is more than was paid")
    return str(Decimal(paid) - refunded)
