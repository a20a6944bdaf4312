"""The outbox of a database: claims committed records, and removes those that were sent."""

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeVar, cast

from sqlalchemy import ColumnElement, Connection, Engine, Table, and_, delete, func, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from flowli_core._logger import logger
from flowli_core.driver import NewRecord
from flowli_core.errors import DefinitionError, OutboxUnavailable
from flowli_core.outbox import MOST_ROWS, Backlog, OnCommit, Transaction
from flowli_core.sqlalchemy._sessions import add
from flowli_core.sqlalchemy._table import unpack

T = TypeVar("T")

_CLAIM_MS = 30_000
_POSTPONE_MS = 60_000
_REFUSED = "refused"
"""The claim of rows whose record the store has refused, or that cannot be read. They hold up no other row."""


class SqlOutbox:
    """An outbox in a database of SQLAlchemy, for the `outbox` of a registry. `table` is made by `outbox_table`.

    `engine` is that of the database in which the sessions store, an AsyncEngine or an Engine. The calls of an Engine
    run in threads. The clocks of the machines should agree to within a few seconds: otherwise two processes may send
    the same record, which the store then stores once.

    Raises DefinitionError for another engine or table.
    """

    def __init__(self, engine: AsyncEngine | Engine, table: Table) -> None:
        _check(engine, table)
        self._engine = engine
        self._table = table

    def __repr__(self) -> str:
        return f"SqlOutbox({self._engine.url.render_as_string()}, {self._table.fullname})"

    async def add(self, session: Transaction, records: Sequence[NewRecord], *, on_commit: OnCommit) -> None:
        """Store the records with the transaction of the session: see `Outbox`."""
        await add(session, self._table, records, now=_now, on_commit=on_commit)

    async def claim(self) -> list[NewRecord]:
        """Return committed records that wait, and claim them for half a minute: see `Outbox`."""
        rows = await self._run(self._claim)
        records, unreadable = list[NewRecord](), list[int]()
        for number, record_id, wire in rows:
            try:
                records.append(unpack(wire))
            except ValueError as error:
                described = (record_id, self._table.fullname, error)
                logger.error("the job %s cannot be read, and stays in %s: %s", *described)  # noqa: TRY400 - says all
                unreadable.append(number)
        if unreadable:
            await self._refuse(self._table.c.number.in_(unreadable))
        return records

    async def remove(self, ids: Sequence[str]) -> None:
        """Remove the rows of these records."""
        statement = delete(self._table).where(self._table.c.id.in_(ids))
        await self._run(lambda connection: connection.execute(statement))

    async def postpone(self, ids: Sequence[str]) -> None:
        """Leave the rows of these records alone for a minute."""
        await self._refuse(self._table.c.id.in_(ids))

    async def backlog(self) -> Backlog:
        """Count the rows."""
        statement = select(func.count(), func.min(self._table.c.created_at))
        row = await self._run(lambda connection: connection.execute(statement).one())
        count, oldest = row[0], row[1]
        return Backlog(count, timedelta(milliseconds=max(_now() - oldest, 0)) if count else timedelta(0))

    async def _refuse(self, rows: ColumnElement[bool]) -> None:
        values = {"claimed_until": _now() + _POSTPONE_MS, "claimed_by": _REFUSED}
        await self._run(lambda connection: connection.execute(update(self._table).where(rows).values(values)))

    def _claim(self, connection: Connection) -> list[tuple[int, str, str]]:
        """Claim the oldest rows. Return number, id and record of each.

        A claim is a time in the row, not a lock: the transaction does not stay open while the store is called.
        """
        table, now, claimant = self._table, _now(), uuid.uuid4().hex
        free = table.c.claimed_until <= now
        oldest = select(table.c.number).where(free).order_by(table.c.number).limit(MOST_ROWS)
        if connection.dialect.name == "sqlite":
            numbers = table.c.number.in_(oldest)  # One statement: a read before a write cannot wait for another writer.
        else:
            # Other claims skip these rows instead of waiting for them.
            found = connection.scalars(oldest.with_for_update(skip_locked=True)).all()
            if not found:
                return []
            numbers = table.c.number.in_(found)
        values = {"claimed_until": now + _CLAIM_MS, "claimed_by": claimant}
        claimed = connection.execute(update(table).where(and_(numbers, free)).values(values))
        if not claimed.rowcount:
            return []
        mine = table.c.claimed_by == claimant
        rows = connection.execute(
            select(table.c.number, table.c.id, table.c.record, table.c.transaction_id)
            .where(mine)
            .order_by(table.c.number)
        ).all()
        held = self._find_held_up(connection, {row.transaction_id for row in rows}, claimant)
        if held:
            late = and_(mine, table.c.transaction_id.in_(held))
            connection.execute(update(table).where(late).values(claimed_until=0, claimed_by=None))
        return [(row.number, row.id, row.record) for row in rows if row.transaction_id not in held]

    def _find_held_up(self, connection: Connection, transactions: set[str], claimant: str) -> set[str]:
        """Return the transactions of which another process is sending an earlier row."""
        table = self._table
        is_mine = table.c.claimed_by == claimant
        others = or_(table.c.claimed_by.is_(None), table.c.claimed_by.not_in((claimant, _REFUSED)))
        first_of_mine = (
            select(table.c.transaction_id, func.min(table.c.number).label("number"))
            .where(is_mine, table.c.transaction_id.in_(transactions))
            .group_by(table.c.transaction_id)
            .subquery()
        )
        earlier = (
            select(table.c.transaction_id)
            .join(first_of_mine, first_of_mine.c.transaction_id == table.c.transaction_id)
            .where(table.c.number < first_of_mine.c.number, others)
            .distinct()
        )
        return set(connection.scalars(earlier))

    async def _run(self, work: Callable[[Connection], T]) -> T:
        """Do work in a transaction. Raises OutboxUnavailable if the database fails."""
        try:
            if isinstance(self._engine, AsyncEngine):
                async with self._engine.begin() as connection:
                    return await connection.run_sync(work)
            return await asyncio.to_thread(_run_in, self._engine, work)
        except (SQLAlchemyError, OSError) as error:
            cause = getattr(error, "orig", None) or error
            raise OutboxUnavailable(f"the database of {self!r} failed: {type(cause).__name__}: {cause}") from error


def _check(engine: object, table: object) -> None:
    if not isinstance(engine, AsyncEngine | Engine):
        raise DefinitionError(f"engine must be an AsyncEngine or an Engine, got {type(engine).__name__}")
    # isinstance cannot see the type parameter that Table has in later releases.
    if not isinstance(table, Table) or "claimed_until" not in cast("Table", table).c:
        raise DefinitionError("table must be made by outbox_table(metadata)")


def _run_in(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.begin() as connection:
        return work(connection)


def _now() -> int:
    return time.time_ns() // 1_000_000
