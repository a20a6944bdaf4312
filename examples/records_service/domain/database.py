"""The service's database, for SQLAlchemy: its engine, and the table of jobs that wait for the commit."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from flowli_core.sqlalchemy import outbox_table


class Base(DeclarativeBase):
    """The base of mapped classes."""


OUTBOX = outbox_table(Base.metadata)


def make_engine(path: Path) -> AsyncEngine:
    """Make the engine. RecordStore creates the tables."""
    return create_async_engine(f"sqlite+aiosqlite:///{path}")
