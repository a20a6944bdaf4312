"""The outbox of a database: claims committed records, and removes those that were sent."""

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeVar, cast

from sqlalchemy import ColumnElement, Connection, Engine, Table, and_, delete, false, func, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from flowli_core._logger import logger
from flowli_core._loops import run_on
from flowli_core._sync import is_background
from flowli_core.errors import DefinitionError, OutboxUnavailable, StrategyError
from flowli_core.new_records import NewRecord
from flowli_core.outbox import MOST_ROWS, Backlog, OnCommit, Transaction
from flowli_core.sqlalchemy._sessions import Target, add
from flowli_core.sqlalchemy._table import unpack

T = TypeVar("T")

_CLAIM_MS = 30_000
_POSTPONE_MS = 60_000
_MOST_TRIES = 10
_CONFLICT_SECONDS = 0.05
"""The longest pause before a transaction that met another one is tried again."""

_DEADLOCK_OF_MYSQL = 1213
_REFUSED = "refused"
"""The claim of rows whose record the store has refused, or that cannot be read. They hold up no other row."""


class SqlOutbox:
    """An outbox in a database of SQLAlchemy, for the `outbox` of a registry. `table` is made by `outbox_table`.

    `engine` is that of the database in which the sessions store: an Engine, whose calls run in threads, or an
    AsyncEngine, unless the process commits in plain code only. Registries may share a table if they share their store.
    The clocks of the machines should agree to within a few seconds: otherwise two processes may send the same record,
    which the store then stores once.

    Raises DefinitionError for another engine or table, and for a SQLite database in memory.
    """

    def __init__(self, engine: AsyncEngine | Engine, table: Table) -> None:
        _check(engine, table)
        self._engine = engine
        self._table = table
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"SqlOutbox({self._engine.url.render_as_string()}, {self._table.fullname})"

    async def add(self, session: Transaction, records: Sequence[NewRecord], *, on_commit: OnCommit) -> None:
        """Store the records with the transaction of the session: see `Outbox`."""
        if isinstance(session, AsyncSession | AsyncConnection):
            self._loop = asyncio.get_running_loop()
        await add(session, records, Target(self._table, _now, on_commit))

    async def claim(self) -> list[NewRecord]:
        """Return committed records that wait, and claim them for half a minute: see `Outbox`."""
        rows = await self._run(self._claim)
        records, unreadable = list[NewRecord](), list[int]()
        now = _now()
        for number, record_id, wire, created_at in rows:
            try:
                records.append(unpack(wire, age=timedelta(milliseconds=max(now - created_at, 0))))
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

    async def release(self, ids: Sequence[str]) -> None:
        """Return the claims of the rows of these records."""
        statement = update(self._table).where(self._table.c.id.in_(ids)).values(claimed_until=0, claimed_by=None)
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

    def _claim(self, connection: Connection) -> list[tuple[int, str, str, int]]:
        """Claim the oldest rows. Return number, id, record and time of each.

        A claim is a time in the row, not a lock: the transaction does not stay open while the store is called.
        """
        table, now, claimant = self._table, _now(), uuid.uuid4().hex
        if connection.dialect.name == "sqlite":
            # Take the lock for writing first: SQLite refuses a write after a read if another process has written since.
            connection.execute(update(table).where(false()).values(claimed_by=None))
        free = table.c.claimed_until <= now
        oldest = select(table.c.number).where(free).order_by(table.c.number).limit(MOST_ROWS)
        # Other claims skip these rows instead of waiting for them.
        numbers = connection.scalars(oldest.with_for_update(skip_locked=True)).all()
        if not numbers:
            return []
        values = {"claimed_until": now + _CLAIM_MS, "claimed_by": claimant}
        connection.execute(update(table).where(table.c.number.in_(numbers), free).values(values))
        mine = and_(table.c.number.in_(numbers), table.c.claimed_by == claimant)
        columns = (table.c.number, table.c.id, table.c.record, table.c.created_at, table.c.transaction_id)
        rows = connection.execute(select(*columns).where(mine).order_by(table.c.number)).all()
        free_until = self._find_held_up(connection, {row.transaction_id for row in rows}, claimant)
        late = [row.number for row in rows if row.number > free_until.get(row.transaction_id, row.number)]
        if late:
            values = {"claimed_until": 0, "claimed_by": None}
            connection.execute(update(table).where(mine, table.c.number.in_(late)).values(values))
        held = set(late)
        return [(row.number, row.id, row.record, row.created_at) for row in rows if row.number not in held]

    def _find_held_up(self, connection: Connection, transactions: set[str], claimant: str) -> dict[str, int]:
        """Return the first row of each of these transactions that another process is sending, or has yet to claim.

        Two processes that claim rows at the same time may each skip some that the other one claims.
        """
        table = self._table
        others = or_(table.c.claimed_by.is_(None), table.c.claimed_by.not_in((claimant, _REFUSED)))
        first = (
            select(table.c.transaction_id, func.min(table.c.number))
            .where(table.c.transaction_id.in_(transactions), others)
            .group_by(table.c.transaction_id)
        )
        return {row[0]: row[1] for row in connection.execute(first)}

    async def _run(self, work: Callable[[Connection], T]) -> T:
        """Do work in a transaction, again if that met another one. Raises OutboxUnavailable if the database fails."""
        for tries_left in reversed(range(_MOST_TRIES)):
            try:
                if isinstance(self._engine, AsyncEngine):
                    return await self._run_on_its_loop(self._engine, work)
                return await _run_in_thread(self._engine, work)
            except (SQLAlchemyError, OSError, RuntimeError) as error:  # RuntimeError: an event loop or a process ends
                cause = getattr(error, "orig", None) or error
                if not tries_left or not _is_conflict(cause):
                    text = f"the database of {self!r} failed: {type(cause).__name__}: {cause}"
                    raise OutboxUnavailable(text) from error
            await asyncio.sleep(_CONFLICT_SECONDS * random.random())  # noqa: S311 - no secret
        raise AssertionError("unreachable")

    async def _run_on_its_loop(self, engine: AsyncEngine, work: Callable[[Connection], T]) -> T:
        """Do work on the event loop of the engine, because its connections belong to that loop."""
        here = asyncio.get_running_loop()
        if self._loop is None or not self._loop.is_running():
            if is_background(here):
                # Connections that are made here could not be used by the loop that uses the engine later.
                raise OutboxUnavailable(f"{self!r} has an AsyncEngine, and plain code needs an Engine")
            self._loop = here
        if self._loop is here:
            return await _run_in_task(engine, work)
        try:
            return await run_on(self._loop, _run_in_task(engine, work))
        except StrategyError as error:
            raise OutboxUnavailable(f"the event loop of {self!r} has ended") from error


def _check(engine: object, table: object) -> None:
    if not isinstance(engine, AsyncEngine | Engine):
        raise DefinitionError(f"engine must be an AsyncEngine or an Engine, got {type(engine).__name__}")
    if isinstance(engine.pool, StaticPool | SingletonThreadPool):
        raise DefinitionError(
            "engine has one connection for all, so an outbox would commit the transactions of sessions: use a database "
            "in a file"
        )
    # isinstance cannot see the type parameter that Table has in later releases.
    if not isinstance(table, Table) or "claimed_until" not in cast("Table", table).c:
        raise DefinitionError("table must be made by outbox_table(metadata)")


def _is_conflict(cause: object) -> bool:
    """Return True for a deadlock, and for transactions that cannot be serialized: the same transaction may succeed.

    These are two standard states of SQL, and the number of a deadlock in MySQL, whose drivers name no state.
    """
    if getattr(cause, "sqlstate", None) in ("40001", "40P01"):
        return True
    arguments: tuple[object, ...] = getattr(cause, "args", ())
    return bool(arguments) and arguments[0] == _DEADLOCK_OF_MYSQL


async def _run_in_task(engine: AsyncEngine, work: Callable[[Connection], T]) -> T:
    async with engine.begin() as connection:
        return await connection.run_sync(work)


async def _run_in_thread(engine: Engine, work: Callable[[Connection], T]) -> T:
    def run() -> T:
        with engine.begin() as connection:
            return work(connection)

    return await asyncio.to_thread(run)


def _now() -> int:
    return time.time_ns() // 1_000_000
