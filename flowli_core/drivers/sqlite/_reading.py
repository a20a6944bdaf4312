"""What is read without waiting for those who write: one record, a page of them, the counts."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from flowli_core.driver import WORKER_ALIVE
from flowli_core.drivers._times import milliseconds, moment, moment_or_none, stamp
from flowli_core.drivers.sqlite import _statements as sql
from flowli_core.drivers.sqlite._rows import Status, state_of
from flowli_core.drivers.sqlite._transaction import heads, snapshot
from flowli_core.stored import (
    Overview,
    Position,
    QueueCounts,
    RecordById,
    RecordsInState,
    State,
    StateCounts,
    StoredRecord,
)

if TYPE_CHECKING:
    import sqlite3

_LAST_TIME = 2**63 - 1
_BEHIND_ALL_IDS = "\U0010ffff"
_FIRST_LOOK = 1_000
_LOOK_FURTHER = 8

_Place = tuple[int, str, int]
"""The time, the id and the number of a record in a listing."""


class StoredRow(NamedTuple):
    """A record as it is read."""

    id: str
    name: str
    queue: str
    status: Status
    input: bytes
    meta: bytes | None
    key: str | None
    policy: bytes
    progress: bytes | None
    result: bytes | None
    recoveries: int
    max_recoveries: int
    worker: str | None
    created_at: int
    updated_at: int
    due: int
    failed_at: int | None
    started_at: int | None
    finished_at: int | None


def records(connection: sqlite3.Connection, query: RecordById | RecordsInState, now: int) -> list[StoredRecord]:
    """Return the records that a query asks for."""
    if isinstance(query, RecordsInState):
        return _page(connection, query.state, limit=query.limit, after=query.after, now=now)
    return [_stored(StoredRow._make(row), now) for row in connection.execute(sql.GET, (query.id,))]


def _page(
    connection: sqlite3.Connection, state: State, *, limit: int, after: Position | None, now: int
) -> list[StoredRecord]:
    """List the records in a state, newest first, from behind `after`."""
    # An empty id comes before all others, so that nothing at the last time is behind this place.
    time, record_id = (_LAST_TIME, "") if after is None else (stamp(after.at), after.id)
    with snapshot(connection):
        match state:
            case "queued" | "scheduled":
                if state == "queued" and time > now:
                    time, record_id = now + 1, ""  # what is due now comes behind what is due next
                after_time = now if state == "scheduled" else -1
                places = _waiting(connection, after_time, (time, record_id), limit)
            case "active":
                before = _BEHIND_ALL_IDS if after is None else record_id
                places = connection.execute(sql.PAGE_ACTIVE, (before, limit)).fetchall()
            case _:
                places = connection.execute(sql.PAGE_FINISHED, (state, time, record_id, limit)).fetchall()
        numbers = json.dumps([number for _, _, number in places])
        rows = {row[0]: StoredRow._make(row) for row in connection.execute(sql.GET_MANY, (numbers,))}
    return [_stored(rows[record_id], now) for _, record_id, _ in places]


def overview(connection: sqlite3.Connection, now: int) -> Overview:
    """Count the records, find the oldest due record of each queue, and list the workers that are alive."""
    found: dict[str, dict[str, int]] = {}
    oldest: dict[str, datetime] = {}
    with snapshot(connection):
        workers = connection.execute(sql.FIND_WORKERS, (now - milliseconds(WORKER_ALIVE),)).fetchall()
        for queue, status, n in connection.execute(sql.COUNTS).fetchall():
            of_queue = found.setdefault(queue, {})
            if status == "waiting":
                of_queue["scheduled"] = _count_scheduled(connection, queue, n, now)
                of_queue["queued"] = n - of_queue["scheduled"]
                dues = [place.due for place in heads(connection, queue) if place is not None and place.due <= now]
                oldest |= {queue: moment(min(dues))} if dues else {}
            else:
                of_queue[status] = n
    return Overview(
        now=moment(now),
        counts=QueueCounts.of({queue: StateCounts(**of_queue) for queue, of_queue in found.items()}),
        oldest=oldest,
        workers={name: moment(at) for name, at in workers},
    )


def _count_scheduled(connection: sqlite3.Connection, queue: str, waiting: int, now: int) -> int:
    """Count those that wait and are not due, by counting what is fewer: it looks at both ends, further each time."""
    limit = _FIRST_LOOK
    while True:
        due: int = connection.execute(sql.COUNT_DUE, (queue, now, limit)).fetchone()[0]
        if due < limit:
            return max(waiting - due, 0)
        later: int = connection.execute(sql.COUNT_LATER, (queue, now, limit)).fetchone()[0]
        if later < limit:
            return min(later, waiting)
        limit *= _LOOK_FURTHER


def _waiting(connection: sqlite3.Connection, after: int, before: tuple[int, str], limit: int) -> list[_Place]:
    """Merge the pages of all queues, which are read from the index alone."""
    places: list[_Place] = []
    for queue, status, _ in connection.execute(sql.COUNTS).fetchall():
        if status == "waiting":
            for suspect in (False, True):
                places += connection.execute(sql.PAGE_WAITING, (queue, suspect, after, *before, limit))
    return sorted(places, reverse=True)[:limit]


def _stored(row: StoredRow, now: int) -> StoredRecord:
    return StoredRecord(
        id=row.id,
        name=row.name,
        queue=row.queue,
        state=state_of(row.status, row.due, now),
        input=row.input,
        meta=row.meta,
        key=row.key,
        policy=row.policy,
        progress=row.progress,
        result=row.result,
        recoveries=row.recoveries,
        max_recoveries=row.max_recoveries,
        worker=row.worker,
        created_at=moment(row.created_at),
        updated_at=moment(row.updated_at),
        scheduled_for=moment(row.due),
        failed_at=moment_or_none(row.failed_at),
        started_at=moment_or_none(row.started_at),
        finished_at=moment_or_none(row.finished_at),
    )
