"""The contract between the core and an outbox: a table of calls in the database of an application.

A call with `options(session=...)` is stored in the transaction of that session. So the job exists if and only if the
transaction commits. After the commit the records are sent to the store, and their rows are removed. A process that dies
in between leaves rows, which any runner of the registry, or `flowli relay`, sends later. There is an outbox for all
databases of SQLAlchemy: `flowli_core.sqlalchemy`.

The ids of records are made at the call. So a record that is sent twice is stored once, as long as its id is taken.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from flowli_core.new_records import NewRecord

MOST_ROWS = 250
"""The most records that `claim` returns."""

OnCommit = Callable[[Sequence[NewRecord]], None]
"""Takes the records of a transaction after its commit, in the order of the calls."""


class Transaction(Protocol):
    """A session or a connection with a transaction, such as those of SQLAlchemy."""

    def in_transaction(self) -> bool:
        """Return True if it has begun a transaction."""
        ...


@dataclass(frozen=True, slots=True)
class Backlog:
    """The committed records that wait to be sent, and the age of the oldest of them, which is zero without any."""

    count: int = 0
    age: timedelta = timedelta(0)


class Outbox(Protocol):
    """A table of records that wait to be sent to the store.

    Its methods may be called on any event loop. They raise OutboxUnavailable if the database fails.
    """

    async def add(self, session: Transaction, records: Sequence[NewRecord], *, on_commit: OnCommit) -> None:
        """Store the records in the transaction of the session, at once or before its commit.

        Call `on_commit` with them after the commit. If nobody can know here whether the commit succeeds, call it
        without records, and `claim` finds them. What is added in a savepoint that is rolled back is not stored. Raises
        DefinitionError for a session of another kind.
        """
        ...

    async def claim(self) -> list[NewRecord]:
        """Return up to MOST_ROWS committed records that no other process is sending, the oldest first.

        They are claimed for half a minute. Records of one transaction are returned in their order: none is returned
        while an earlier one of its transaction waits elsewhere. The time since the commit is taken from their delays. A
        row that cannot be read is kept, logged and skipped.
        """
        ...

    async def remove(self, ids: Sequence[str]) -> None:
        """Remove the rows of records that the store has accepted."""
        ...

    async def release(self, ids: Sequence[str]) -> None:
        """Return the claims of these rows, because the store is unreachable."""
        ...

    async def postpone(self, ids: Sequence[str]) -> None:
        """Leave these rows alone for a minute, because the store has refused their records."""
        ...

    async def backlog(self) -> Backlog:
        """Count the records that wait."""
        ...
