"""Reading records and the overview, which never waits for a writer."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime

from flowli_core.driver import WORKER_ALIVE
from flowli_core.drivers._times import milliseconds, moment, moment_or_none, stamp
from flowli_core.drivers.sqlite._records import state_of
from flowli_core.drivers.sqlite._sql import run
from flowli_core.drivers.sqlite._transaction import first_due, snapshot
from flowli_core.stored import (
    Overview,
    QueueCounts,
    RecordById,
    RecordsInState,
    StateCounts,
    StoredRecord,
)

_LAST_TIME = 2**63 - 1
_AFTER_ALL_IDS = "\U0010ffff"
_FIRST_LIMIT = 1_000
_FACTOR = 8

_Entry = tuple[int, str, int]
"""The time, the id and the number of a record in a listing."""


def read_records(connection: sqlite3.Connection, query: RecordById | RecordsInState, now: int) -> list[StoredRecord]:
    """Return the records that a query asks for."""
    if isinstance(query, RecordById):
        return [_stored(row, now) for row in run(connection, "find_stored", id=query.id)]
    with snapshot(connection):
        page = _page(connection, query, now)
        wanted = {"numbers": json.dumps([number for _, _, number in page]), "payloads": query.payloads}
        found = {row["id"]: _stored(row, now) for row in run(connection, "find_page", **wanted)}
    return [found[record_id] for _, record_id, _ in page]


def _page(connection: sqlite3.Connection, query: RecordsInState, now: int) -> list[_Entry]:
    state, limit, after = query.state, query.limit, query.after
    # An empty id comes before all others, so at the last time no record is behind this position.
    time, record_id = (_LAST_TIME, "") if after is None else (stamp(after.at), after.id)
    if state == "active":
        before = _AFTER_ALL_IDS if after is None else record_id
        return run(connection, "page_active", id=before, limit=limit).fetchall()
    if state not in {"queued", "scheduled"}:
        return run(connection, "page_finished", state=state, time=time, id=record_id, limit=limit).fetchall()
    if state == "queued" and time > now:
        time, record_id = now + 1, ""  # scheduled records come before the queued ones
    page: list[_Entry] = []
    later_than = now if state == "scheduled" else -1
    for queue, status, _ in run(connection, "read_counts").fetchall():
        for suspect in (False, True) if status == "waiting" else ():
            place = {"queue": queue, "suspect": suspect, "after": later_than, "time": time, "id": record_id}
            page += [(row[0], row[1], row[2]) for row in run(connection, "page_waiting", **place, limit=limit)]
    return sorted(page, reverse=True)[:limit]


def read_overview(connection: sqlite3.Connection, now: int) -> Overview:
    """Count the records, find the oldest due record of each queue, and list the workers that are alive."""
    found: dict[str, dict[str, int]] = {}
    oldest: dict[str, datetime] = {}
    with snapshot(connection):
        workers = run(connection, "find_workers", since=now - milliseconds(WORKER_ALIVE)).fetchall()
        for queue, status, n in run(connection, "read_counts").fetchall():
            counts = found.setdefault(queue, {})
            if status != "waiting":
                counts[status] = n
                continue
            counts["scheduled"] = _count_scheduled(connection, queue, n, now)
            counts["queued"] = n - counts["scheduled"]
            dues = [due for due in first_due(connection, queue) if due is not None and due <= now]
            oldest |= {queue: moment(min(dues))} if dues else {}
    return Overview(
        now=moment(now),
        counts=QueueCounts.of({queue: StateCounts(**counts) for queue, counts in found.items()}),
        oldest=oldest,
        workers={name: moment(seen) for name, seen in workers},
    )


def _count_scheduled(connection: sqlite3.Connection, queue: str, waiting: int, now: int) -> int:
    """Count the scheduled records by counting the fewer of the due and the scheduled, with a growing limit."""
    limit = _FIRST_LIMIT
    while True:
        due: int = run(connection, "count_due", queue=queue, now=now, limit=limit).fetchone()[0]
        if due < limit:
            return max(waiting - due, 0)
        later: int = run(connection, "count_later", queue=queue, now=now, limit=limit).fetchone()[0]
        if later < limit:
            return min(later, waiting)
        limit *= _FACTOR


def _stored(row: sqlite3.Row, now: int) -> StoredRecord:
    return StoredRecord(
        id=row["id"],
        name=row["name"],
        queue=row["queue"],
        state=state_of(row["state"], row["due"], now),
        input=row["input"],
        meta=row["meta"],
        key=row["key"],
        policy=row["policy"],
        progress=row["progress"],
        result=row["result"],
        recoveries=row["recoveries"],
        max_recoveries=row["max_recoveries"],
        worker=row["worker"],
        created_at=moment(row["created_at"]),
        updated_at=moment(row["updated_at"]),
        scheduled_for=moment(row["due"]),
        failed_at=moment_or_none(row["failed_at"]),
        started_at=moment_or_none(row["started_at"]),
        finished_at=moment_or_none(row["finished_at"]),
    )
