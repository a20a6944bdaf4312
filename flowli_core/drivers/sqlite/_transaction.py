"""Transactions: a write transaction at one time, and snapshots for reading."""

import sqlite3
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from flowli_core.drivers._times import SKIPPED_NUMBERS
from flowli_core.drivers.sqlite._sql import SQL, run

T = TypeVar("T")

Pair = tuple[str, str]
"""The name of a job, and a queue."""

_DAY = 24 * 60 * 60 * 1000


class FirstDue(NamedTuple):
    """The due times of the first suspect of a queue and of the first of its other waiting records."""

    ordinary: int | None
    suspect: int | None


@dataclass(slots=True)
class Transaction:
    """A write transaction at the time `now`.

    `changed` are the queues in which records may have become due. `left` are those in which a step may have left due
    records. `tick_moved` is the queue of a schedule that now ticks before all others. `counted` is for the history: how
    often what has happened to the jobs of each name and queue.
    """

    connection: sqlite3.Connection
    now: int
    changes_before: int
    changed: set[str] = field(default_factory=set[str])
    left: set[str] = field(default_factory=set[str])
    tick_moved: str | None = None
    counted: dict[tuple[Pair, str], int] = field(default_factory=dict[tuple[Pair, str], int])
    _first_due: dict[str, FirstDue] = field(default_factory=dict[str, FirstDue])

    def run(self, statement: str, **parameters: Any) -> sqlite3.Cursor:
        """Run the statement with this name."""
        return run(self.connection, statement, **parameters)

    def run_many(self, statement: str, rows: Iterable[dict[str, Any]]) -> None:
        """Run the statement with this name once for each row."""
        self.connection.executemany(SQL[statement], rows)

    def has_written(self) -> bool:
        """Return True if a row has been changed."""
        return self.connection.total_changes != self.changes_before

    def count(self, name: str, queue: str, event: str) -> None:
        """Count an event for the history."""
        key = ((name, queue), event)
        self.counted[key] = self.counted.get(key, 0) + 1

    def note_due(self, queue: str) -> None:
        """Note that a record of a queue may have become due, after `first_due` was called."""
        self.changed.add(queue)
        self._first_due.pop(queue, None)

    def first_due(self, queue: str) -> FirstDue:
        """Return the first due times of a queue. Call it only after the last change, because it remembers them."""
        if queue not in self._first_due:
            self._first_due[queue] = first_due(self.connection, queue)
        return self._first_due[queue]


def transact(
    connection: sqlite3.Connection,
    read_clock: Callable[[], int],
    work: Callable[[Transaction], T],
    commit: Callable[[Transaction], None],
) -> T:
    """Do the work in a transaction, which `commit` ends. Work that changes nothing writes nothing to the file."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Read the time under the lock: waiting for the lock may take long.
        transaction = Transaction(connection, read_clock(), connection.total_changes)
        last = _follow_clock(transaction)
        answer = work(transaction)
        if transaction.now != last and transaction.has_written():
            transaction.run("write_time", now=transaction.now)
        commit(transaction)
    except BaseException:
        # Some errors of SQLite have ended the transaction already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return answer


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Generator[None]:
    """Let all statements see the file at the same moment."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        # Some errors of SQLite have ended the transaction already.
        if connection.in_transaction:
            connection.execute("COMMIT")


def read_time(connection: sqlite3.Connection, now: int) -> int:
    """Return the time for a read at `now`. After the clock was set back, this is the time of the last write.

    What was due then is due. A time that is damaged is ignored.
    """
    last = run(connection, "read_time").fetchone()[0]
    return last if type(last) is int and now < last and not _is_damaged(connection, now, last) else now


def first_due(connection: sqlite3.Connection, queue: str, *, after: int = -1) -> FirstDue:
    """Return the first due times of a queue after a time."""
    return FirstDue(
        *[
            _first(run(connection, "find_first_due", queue=queue, suspect=suspect, after=after))
            for suspect in (False, True)
        ]
    )


def first_lease(connection: sqlite3.Connection) -> int | None:
    """Return when the first lease ends."""
    return _first(run(connection, "find_first_lease"))


def first_tick(connection: sqlite3.Connection) -> int | None:
    """Return the next tick of any schedule."""
    return _first(run(connection, "find_first_tick"))


def _first(cursor: sqlite3.Cursor) -> int | None:
    row: tuple[int] | None = cursor.fetchone()
    return row and row[0]


def _is_damaged(connection: sqlite3.Connection, now: int, last: int) -> bool:
    """Return True if the time of the last write is damaged: more than a day later than now and than all stored times.

    Setting times back by so much would make every record due, and end every lease.
    """
    if last - now <= _DAY:
        return False
    times: list[object] = run(connection, "find_last_times").fetchone()
    return last - max([now, *[time for time in times if isinstance(time, int)]]) > _DAY


def _follow_clock(transaction: Transaction) -> int:
    """Return the time of the last write. If the clock was set back since then, set back due times and leases.

    What was due stays due, and leases keep the time that they had left. Otherwise everything would wait until the clock
    reaches the old time again. Some tokens and revisions are skipped.
    """
    now = transaction.now
    last: int = transaction.run("read_time").fetchone()[0]
    if now < last:
        if not _is_damaged(transaction.connection, now, last):
            transaction.run("set_leases_back", by=last - now, now=now)
            transaction.run("set_due_back", now=now, seen=last)
            transaction.run("set_due_back_apart", now=now, seen=last)
            transaction.run("set_starts_back", now=now)
            transaction.run("set_turns_back", now=now)
            transaction.run("skip_numbers", skipped=SKIPPED_NUMBERS)
        transaction.run("write_time", now=now)
        return now
    return last
