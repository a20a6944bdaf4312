"""Refunds, stored with SQLAlchemy in the service's database."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, Field
from sqlalchemy import func, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from .database import Base


class RefundError(Exception):
    """The record does not exist, or the refunds would exceed the payment. Retrying does not help."""


class NewRefund(BaseModel):
    """A refund, as a client sends it. The client chooses `id`; a refund that is sent twice is paid once."""

    id: Annotated[str, Field(pattern=r"^[\w.-]{1,64}$")]
    amount: Annotated[Decimal, Field(gt=0, le=1_000_000, decimal_places=2)]


class Refund(NewRefund):
    """A refund of one record."""

    record_id: str


class RefundRow(Base):
    """A stored refund."""

    __tablename__ = "refunds"

    id: Mapped[str] = mapped_column(primary_key=True)
    record_id: Mapped[str]
    cents: Mapped[int]


class _RecordRow(Base):
    __tablename__ = "records"

    id: Mapped[str] = mapped_column(primary_key=True)
    amount: Mapped[str]


async def add_refund(session: AsyncSession, refund: Refund) -> str:
    """Store a refund, and return the rest of the payment. On RefundError the caller must roll the session back.

    It writes before it reads, so that it holds SQLite's write lock and no other refund can come in between.
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
