"""The service's own database: records, and the work done for them."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Self
from uuid import uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from .models import AuditLine, NewRecord, Record, RecordDetails

_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    created_at TEXT NOT NULL,
    reference TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    email TEXT NOT NULL,
    currency TEXT NOT NULL,
    amount TEXT NOT NULL,
    booked_on TEXT NOT NULL,
    note TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS audit (record_id TEXT, action TEXT, request_id TEXT, PRIMARY KEY (record_id, action));
CREATE TABLE IF NOT EXISTS deliveries (message_id TEXT PRIMARY KEY, record_id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS follow_ups (job_id TEXT PRIMARY KEY, record_id TEXT NOT NULL, finding TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS refunds (id TEXT PRIMARY KEY, record_id TEXT NOT NULL, cents INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS deliveries_of ON deliveries (record_id);
CREATE INDEX IF NOT EXISTS follow_ups_of ON follow_ups (record_id);
"""

_INSERT = """
INSERT INTO records (id, created_at, reference, name, email, currency, amount, booked_on, note)
VALUES (:id, :created_at, :reference, :name, :email, :currency, :amount, :booked_on, :note)
ON CONFLICT (reference) DO NOTHING
"""


class ReferenceTakenError(Exception):
    """Another record has this reference."""


class RecordStore:
    """Records in a SQLite file. Every plain method blocks, so call it in a thread; any number of threads may.

    Jobs run at least once, so each row that a job writes is keyed by the job: writing it twice stores it once.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.sessions = async_sessionmaker(engine, expire_on_commit=False)
        self._lock = threading.Lock()
        self._opened: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        self._opened = sqlite3.connect(str(self.engine.url.database), check_same_thread=False)
        self._opened.row_factory = sqlite3.Row
        self._opened.execute("PRAGMA journal_mode = WAL")
        self._opened.execute("PRAGMA synchronous = NORMAL")
        self._opened.executescript(_SCHEMA)
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None

    async def add(self, session: AsyncSession, new: NewRecord) -> Record:
        """Store a record in the transaction of a session, or return the stored one if it is the same.

        Raises ReferenceTakenError if it differs.
        """
        record = Record(id=str(uuid4()), created_at=datetime.now(UTC), **new.model_dump())
        await session.execute(text(_INSERT), record.model_dump(mode="json"))
        query = text("SELECT * FROM records WHERE reference = :reference")
        stored = _record((await session.execute(query, {"reference": new.reference})).mappings().one())
        if stored.model_copy(update={"id": record.id, "created_at": record.created_at}) != record:
            raise ReferenceTakenError
        return stored

    def add_audit(self, record_id: str, *, action: str, request_id: str | None) -> None:
        """Store an action on a record, once."""
        with self._transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO audit VALUES (?, ?, ?)", (record_id, action, request_id))

    def add_delivery(self, message_id: str, *, record_id: str) -> None:
        """Store that a message was sent."""
        with self._transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO deliveries VALUES (?, ?)", (message_id, record_id))

    def add_follow_up(self, job_id: str, *, record_id: str) -> str:
        """Check whether a record's message was sent; store and return the finding."""
        with self._transaction() as connection:
            query = "SELECT count(*) FROM deliveries WHERE record_id = ?"
            (sent,) = connection.execute(query, (record_id,)).fetchone()
            finding = "notified" if sent else "not notified yet"
            connection.execute("INSERT OR IGNORE INTO follow_ups VALUES (?, ?, ?)", (job_id, record_id, finding))
        return finding

    def get(self, record_id: str) -> RecordDetails | None:
        """Return a record with the work done for it, or None."""
        with self._transaction() as connection:
            row = connection.execute("SELECT * FROM records WHERE id = ?", (record_id,)).fetchone()
            if row is None:
                return None
            audit, deliveries, follow_ups, refunds = (
                connection.execute(query, (record_id,)).fetchall()
                for query in (
                    "SELECT action, request_id FROM audit WHERE record_id = ?",
                    "SELECT message_id FROM deliveries WHERE record_id = ?",
                    "SELECT finding FROM follow_ups WHERE record_id = ?",
                    "SELECT id FROM refunds WHERE record_id = ? ORDER BY id",
                )
            )
        return RecordDetails(
            **_record(row).model_dump(),
            audit=[AuditLine(action=line["action"], request_id=line["request_id"]) for line in audit],
            deliveries=[line["message_id"] for line in deliveries],
            follow_ups=[line["finding"] for line in follow_ups],
            refunds=[line["id"] for line in refunds],
        )

    def count(self) -> int:
        """Count the records."""
        with self._transaction() as connection:
            (found,) = connection.execute("SELECT count(*) FROM records").fetchone()
        return int(found)

    def page(self, *, limit: int, offset: int) -> list[Record]:
        """List records in the order in which they were added."""
        with self._transaction() as connection:
            query = "SELECT * FROM records ORDER BY number LIMIT ? OFFSET ?"
            return [_record(row) for row in connection.execute(query, (limit, offset))]

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        with self._lock:
            if self._opened is None:
                raise RuntimeError("the store is not open: `with store:`")
            with self._opened:
                yield self._opened


def _record(row: Any) -> Record:
    return Record.model_validate({name: row[name] for name in Record.model_fields})
