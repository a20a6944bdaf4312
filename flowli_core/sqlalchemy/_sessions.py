"""Records that wait for the commit of a session or a connection."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, Table, event, insert
from sqlalchemy.engine import RootTransaction
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

from flowli_core.errors import DefinitionError
from flowli_core.new_records import NewRecord
from flowli_core.outbox import OnCommit
from flowli_core.sqlalchemy._table import make_rows

T = TypeVar("T")

CLAIMED_SECONDS = 10
"""The process that commits a transaction has this long to send its records before another process may."""

_KEY = "flowli.outbox"

Clock = Callable[[], int]
"""Returns the milliseconds since 1970."""


@dataclass(frozen=True, slots=True)
class Target:
    """The table for records, its clock, and the function that sends them after the commit."""

    table: Table
    now: Clock
    on_commit: OnCommit


async def add(session: object, records: Sequence[NewRecord], target: Target) -> None:
    """Store records with the transaction of a session or a connection: see `Outbox.add`."""
    match session:
        case AsyncSession():
            _add_to_session(session.sync_session, records, target)
        case Session():
            _add_to_session(session, records, target)
        case scoped_session() | async_scoped_session():
            # `run_sync` calls this in another thread, which has another session.
            raise DefinitionError("give the session itself, not the scoped session: options(session=session())")
        case AsyncConnection():
            await session.run_sync(_add_to_connection, records, target)
        case Connection():
            _add_to_connection(session, records, target)
        case _:
            raise DefinitionError(
                "session must be an AsyncSession, a Session, an AsyncConnection or a Connection of SQLAlchemy, got "
                f"{type(session).__name__}"
            )


@dataclass(slots=True, eq=False)
class _Added:
    """A record that was added to the open transaction of a session.

    `savepoint` is that in which it was added, if any, and `written_in` the transaction or savepoint in which its row
    was written. Both may differ: the commit of a savepoint writes the rows of all records.
    """

    record: NewRecord
    target: Target
    savepoint: SessionTransaction | None
    written_in: SessionTransaction | None = None


class _SessionRecords:
    """The records that were added to the open transaction of a session, in the order of the calls."""

    def __init__(self, session: Session) -> None:
        self._added: list[_Added] = []
        self._id = ""
        self._is_joined = False
        self._committed: SessionTransaction | None = None
        event.listen(session, "before_commit", self._write)
        event.listen(session, "after_commit", self._note_commit)
        event.listen(session, "after_transaction_end", self._note_end)

    def add(self, session: Session, records: Sequence[NewRecord], target: Target) -> None:
        """Keep records in memory until the commit. They are then written by one statement, in the caller's thread."""
        self._id = self._id or uuid.uuid4().hex
        self._is_joined = _is_joined(session, target.table)
        if not session.in_transaction():
            session.begin()  # Otherwise a rollback would do nothing, and the records would wait for another commit.
        savepoint = session.get_nested_transaction()
        self._added += [_Added(record, target, savepoint) for record in records]

    def _write(self, session: Session) -> None:
        """Write the rows of all records that have none, before the commit of a transaction or of a savepoint.

        The event does not say whose commit begins. If a savepoint is open when its outer transaction is committed, this
        is called for the savepoint alone.
        """
        innermost = session.get_nested_transaction() or session.get_transaction()
        unwritten = [added for added in self._added if added.written_in is None]
        for target, some in _group(unwritten, lambda added: added.target).items():
            now = target.now()
            claimed_until = 0 if self._is_joined else now + CLAIMED_SECONDS * 1000
            records = [added.record for added in some]
            rows = make_rows(records, transaction=self._id, now=now, claimed_until=claimed_until)
            session.execute(insert(target.table), rows)
            for added in some:
                added.written_in = innermost

    def _note_commit(self, session: Session) -> None:
        """Send the records after the commit of the transaction. The event is that of savepoints, too."""
        self._committed = session.get_nested_transaction() or session.get_transaction()
        if session.in_nested_transaction():
            return
        committed, self._added = self._added, []
        if not self._is_joined:
            for on_commit, some in _group(committed, lambda added: added.target.on_commit).items():
                on_commit([added.record for added in some])

    def _note_end(self, _: Session, ended: SessionTransaction) -> None:
        """Forget what was added in a transaction or a savepoint that ended without a commit."""
        if ended.parent is None:
            self._added, self._id = [], ""
        elif ended.nested and ended is not self._committed:
            self._added = [added for added in self._added if not _is_within(added.savepoint, ended)]
            for added in self._added:
                if _is_within(added.written_in, ended):
                    added.written_in = None
        self._committed = None


def _add_to_session(session: Session, records: Sequence[NewRecord], target: Target) -> None:
    known: _SessionRecords | None = session.info.get(_KEY)
    if known is None:
        known = session.info[_KEY] = _SessionRecords(session)
    known.add(session, records, target)


def _is_joined(session: Session, table: Table) -> bool:
    """Return True if the session is part of a transaction that its code did not begin, as in many test suites.

    Nobody can know here when that is committed. Until then, no other process sees its rows.
    """
    try:
        bind: Connection | Engine = session.get_bind(clause=insert(table))
    except UnboundExecutionError as error:
        raise DefinitionError(
            f"the session has no engine for the table {table.fullname}: add it to the binds of the session"
        ) from error
    return isinstance(bind, Connection)


def _is_within(savepoint: SessionTransaction | None, outer: SessionTransaction) -> bool:
    while savepoint is not None:
        if savepoint is outer:
            return True
        savepoint = savepoint.parent
    return False


def _group(added: list[_Added], key: Callable[[_Added], T]) -> dict[T, list[_Added]]:
    groups: dict[T, list[_Added]] = {}
    for one in added:
        groups.setdefault(key(one), []).append(one)
    return groups


_transactions: WeakKeyDictionary[RootTransaction, str] = WeakKeyDictionary()
"""The ids of the open transactions of connections that have stored records."""

_listening: WeakKeyDictionary[Connection, set[OnCommit]] = WeakKeyDictionary()
"""The functions that are called at the commits of connections."""


def _add_to_connection(connection: Connection, records: Sequence[NewRecord], target: Target) -> None:
    """Write the rows at once: they belong to the connection's savepoint, if it has one."""
    transaction = connection.get_transaction() or connection.begin()
    number = _transactions.setdefault(transaction, uuid.uuid4().hex)
    connection.execute(insert(target.table), make_rows(records, transaction=number, now=target.now(), claimed_until=0))
    called = _listening.setdefault(connection, set())
    if not called:
        event.listen(connection, "commit", _connection_commits)
    called.add(target.on_commit)


def _connection_commits(connection: Connection) -> None:
    """Let the rows be searched for: this event comes before the commit."""
    if connection.get_transaction() in _transactions:
        for on_commit in _listening[connection]:
            on_commit(())
