"""Records that wait for the commit of a session or a connection."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Table, event, insert
from sqlalchemy.engine import RootTransaction
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

from flowli_core.driver import NewRecord
from flowli_core.errors import DefinitionError
from flowli_core.outbox import OnCommit
from flowli_core.sqlalchemy._table import make_rows

CLAIMED_SECONDS = 10
"""The process that commits a transaction has this long to send its records before another process may."""

_KEY = "flowli.outbox"

Clock = Callable[[], int]
"""Returns the milliseconds since 1970."""


@dataclass(slots=True, eq=False)
class _Pending:
    """The records that were added in the open transaction of a session, with the savepoint of each."""

    table: Table
    now: Clock
    on_commit: OnCommit
    records: list[tuple[NewRecord, SessionTransaction | None]] = field(
        default_factory=list[tuple[NewRecord, SessionTransaction | None]]
    )
    committing: list[NewRecord] = field(default_factory=list[NewRecord])


async def add(session: object, table: Table, records: Sequence[NewRecord], *, now: Clock, on_commit: OnCommit) -> None:
    """Store records with the transaction of a session or a connection: see `Outbox.add`."""
    match session:
        case AsyncSession():
            _add_to_session(session.sync_session, table, records, now, on_commit)
        case async_scoped_session():
            _add_to_session(session().sync_session, table, records, now, on_commit)
        case Session():
            _add_to_session(session, table, records, now, on_commit)
        case scoped_session():
            # `run_sync` calls this in another thread, which has another session.
            raise DefinitionError("give the session of this thread, not its scoped_session: options(session=session())")
        case AsyncConnection():
            await session.run_sync(_add_to_connection, table, records, now, on_commit)
        case Connection():
            _add_to_connection(session, table, records, now, on_commit)
        case _:
            raise DefinitionError(
                "session must be an AsyncSession, a Session, an AsyncConnection or a Connection of SQLAlchemy, got "
                f"{type(session).__name__}"
            )


def _add_to_session(
    session: Session, table: Table, records: Sequence[NewRecord], now: Clock, on_commit: OnCommit
) -> None:
    """Keep the records in memory until the commit. They are then stored by one statement, in the caller's thread."""
    pending: _Pending | None = session.info.get(_KEY)
    if pending is None:
        pending = session.info[_KEY] = _Pending(table, now, on_commit)
        event.listen(session, "before_commit", _before_commit)
        event.listen(session, "after_commit", _after_commit)
        event.listen(session, "after_soft_rollback", _after_rollback)
        event.listen(session, "after_transaction_end", _after_end)
    elif pending.table is not table:
        raise DefinitionError("a session can store jobs in one outbox only")
    pending.on_commit = on_commit
    if not session.in_transaction():
        session.begin()  # Otherwise a rollback would do nothing, and the records would wait for another commit.
    savepoint = session.get_nested_transaction()
    pending.records += [(record, savepoint) for record in records]


def _before_commit(session: Session) -> None:
    pending: _Pending = session.info[_KEY]
    if session.in_nested_transaction() or not pending.records:
        return
    pending.committing = [record for record, _ in pending.records]
    pending.records.clear()
    now = pending.now()
    claimed = 0 if _is_joined(session) else now + CLAIMED_SECONDS * 1000
    rows = make_rows(pending.committing, transaction=uuid.uuid4().hex, now=now, claimed_until=claimed)
    session.execute(insert(pending.table), rows)


def _after_commit(session: Session) -> None:
    pending: _Pending = session.info[_KEY]
    if session.in_nested_transaction() or not pending.committing:
        return
    committed, pending.committing = pending.committing, []
    if not _is_joined(session):
        pending.on_commit(committed)


def _after_rollback(session: Session, previous: SessionTransaction) -> None:
    """Forget what was added in a transaction or a savepoint that was rolled back, and in savepoints within it."""
    pending: _Pending = session.info[_KEY]
    pending.records = [entry for entry in pending.records if not _is_within(entry[1], previous)]


def _after_end(session: Session, ended: SessionTransaction) -> None:
    """Forget what was not committed when the transaction ended: it was rolled back, or the session was closed."""
    if ended.parent is None:
        pending: _Pending = session.info[_KEY]
        pending.records.clear()
        pending.committing.clear()


def _is_within(savepoint: SessionTransaction | None, outer: SessionTransaction) -> bool:
    while savepoint is not None:
        if savepoint is outer:
            return True
        savepoint = savepoint.parent
    return False


def _is_joined(session: Session) -> bool:
    """Return True if the session is part of a transaction that its code did not begin, as in many test suites.

    Nobody can know here when that is committed. Until then, no other process sees its rows.
    """
    return isinstance(session.bind, Connection)


_transactions: WeakKeyDictionary[RootTransaction, str] = WeakKeyDictionary()
"""The ids of the open transactions of connections."""


def _add_to_connection(
    connection: Connection, table: Table, records: Sequence[NewRecord], now: Clock, on_commit: OnCommit
) -> None:
    """Store the rows at once: they belong to the connection's savepoint, if it has one.

    The event of a commit comes before the commit. So the rows are not sent then, but claimed a moment later.
    """
    transaction = connection.get_transaction() or connection.begin()
    known = _transactions.get(transaction)
    if known is None:
        known = _transactions[transaction] = uuid.uuid4().hex
        event.listen(connection, "commit", partial(_connection_commits, on_commit), once=True)
    connection.execute(insert(table), make_rows(records, transaction=known, now=now(), claimed_until=0))


def _connection_commits(on_commit: OnCommit, _: Connection) -> None:
    on_commit(())
