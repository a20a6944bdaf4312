"""One transition: a write transaction with its time, and what the waiters are to hear of it once it is committed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from flowli_core.drivers.sqlite import _statements as sql

T = TypeVar("T")


class Place(NamedTuple):
    """The first of the waiting records of a queue, as it is now: given back, it will be another place."""

    due: int
    id: str
    settled: int | None
    recoveries: int


class Heads(NamedTuple):
    """The first suspect of a queue, and the first of the others."""

    ordinary: Place | None
    suspect: Place | None


class News(NamedTuple):
    """What a transition has left in a queue. `wake`: somebody should come and take it."""

    queue: str
    heads: Heads
    wake: bool


@dataclass(slots=True)
class Transaction:
    """A write transaction: `now` is its time, `stirred` are the queues into which it has put something."""

    connection: sqlite3.Connection
    now: int
    changes_before: int
    stirred: set[str] = field(default_factory=set[str])
    news: list[News] = field(default_factory=list[News])

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run a statement."""
        return self.connection.execute(statement, parameters)

    def run_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run a statement once for each row."""
        self.connection.executemany(statement, rows)

    def has_written(self) -> bool:
        """Whether a row has been changed."""
        return self.connection.total_changes != self.changes_before


def transact(
    connection: sqlite3.Connection,
    read_clock: Callable[[], int],
    work: Callable[[Transaction], T],
    commit: Callable[[Transaction], None],
) -> T:
    """Do the work in a transaction; `commit` ends it. A work that changes nothing writes nothing to the file."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        # The time is read under the lock: to wait for it may take long.
        transaction = Transaction(connection, read_clock(), connection.total_changes)
        last = _follow_clock(transaction)
        answer = work(transaction)
        if transaction.now != last and transaction.has_written():
            transaction.run(sql.WRITE_TIME, (transaction.now,))
        commit(transaction)
    except BaseException:
        # Some errors of SQLite have ended the transaction already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return answer


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Generator[None, None, None]:
    """Have all statements read the same moment."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        # Some errors of SQLite have ended the transaction already.
        if connection.in_transaction:
            connection.execute("COMMIT")


def heads(connection: sqlite3.Connection, queue: str) -> Heads:
    """Answer what comes first in a queue."""
    return Heads(first_after(connection, queue, suspect=False), first_after(connection, queue, suspect=True))


def first_after(connection: sqlite3.Connection, queue: str, *, suspect: bool, after: int = -1) -> Place | None:
    """Answer the first record of a queue that is due after a time."""
    row = connection.execute(sql.FIND_HEAD, (queue, suspect, after)).fetchone()
    return None if row is None else Place._make(row)


def first_lease(connection: sqlite3.Connection) -> tuple[int, int] | None:
    """Answer when the first lease ends, and the number of its record."""
    row: tuple[int, int] | None = connection.execute(sql.FIND_FIRST_LEASE).fetchone()
    return row


def first_tick(connection: sqlite3.Connection) -> int | None:
    """Answer when the next tick of any schedule is."""
    row: tuple[int] | None = connection.execute(sql.FIND_FIRST_TICK).fetchone()
    return None if row is None else row[0]


def _follow_clock(transaction: Transaction) -> int:
    """Answer the time of the last write. Where the clock was set back since, move what depends on it.

    What was due stays so, and leases keep what they had left: or all would wait for the clock to catch up.
    """
    last: int = transaction.run(sql.READ_TIME).fetchone()[0]
    if transaction.now < last:
        transaction.run(sql.CLOCK_BACK_LEASES, (last - transaction.now, transaction.now))
        transaction.run(sql.CLOCK_BACK_DUE, (transaction.now, last))
        transaction.run(sql.WRITE_TIME, (transaction.now,))
        return transaction.now
    return last
