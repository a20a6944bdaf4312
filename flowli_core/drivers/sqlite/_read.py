"""Reading records and the overview, which never waits for a writer."""

import json
import sqlite3
from collections.abc import Iterable
from datetime import datetime
from itertools import islice

from flowli_core.drivers._times import milliseconds, moment, moment_or_none, stamp
from flowli_core.drivers.sqlite._damage import CUT, LONGEST, RECORD, STATUSES, DamagedRowError, find_damage, noted
from flowli_core.drivers.sqlite._lanes import list_lanes, unpack
from flowli_core.drivers.sqlite._records import state_of
from flowli_core.drivers.sqlite._reports import split_lines
from flowli_core.drivers.sqlite._sql import run
from flowli_core.drivers.sqlite._transaction import read_time, snapshot
from flowli_core.limits import MOST_LOOKED_AT, WORKER_LISTED
from flowli_core.stored import (
    Found,
    Overview,
    Position,
    QueueCounts,
    RecordById,
    RecordQuery,
    RecordsInState,
    StateCounts,
    StoredRecord,
    StoredWorker,
)

_LAST_TIME = 2**63 - 1
_AFTER_ALL_IDS = "\U0010ffff"

_MOST_BYTES = 1024 * 1024
"""A call with filters ends once it has read this much of attempts."""

_Entry = tuple[int, str]
"""The position of a record in a listing."""


def read_records(connection: sqlite3.Connection, query: RecordQuery, now: int) -> Found:
    """Return the records that a query asks for."""
    now = read_time(connection, now)
    if isinstance(query, RecordsInState):
        with snapshot(connection):
            return _list(connection, query, now)
    ids, by_id = ([query.id], True) if isinstance(query, RecordById) else (list(query.ids), False)
    stored = _find(connection, ids, now, payloads=by_id, results=not by_id, log=by_id)
    found = [stored[record_id] for record_id in ids if record_id in stored]
    return Found(found, looked_at=len(found))


def _list(connection: sqlite3.Connection, query: RecordsInState, now: int) -> Found:
    is_filtered = query.is_filtered()
    most = MOST_LOOKED_AT if is_filtered else max(query.limit, 0)
    entries = _page(connection, query, now, most)
    ids, looked_at = [record_id for _, record_id in entries], len(entries)
    if is_filtered:
        ids, looked_at = _filter(connection, query, now, ids)
    found = _find(connection, ids, now, payloads=query.payloads)
    has_more = len(entries) == most or looked_at < len(entries)
    time, last_id = entries[looked_at - 1] if looked_at else (0, "")
    rest = Position(moment(time), last_id) if looked_at and has_more else None
    return Found([found[record_id] for record_id in ids], rest, looked_at)


def _filter(connection: sqlite3.Connection, query: RecordsInState, now: int, ids: list[str]) -> tuple[list[str], int]:
    """Return the first ids whose records match the query, and how many records it took to find them."""
    matching, looked_at, size = list[str](), 0, 0
    before = None if query.older_than is None else now - milliseconds(query.older_than)
    filters = {"name": query.name, "queue": query.queue, "hold": query.attempts_hold, "before": before}
    for record_id, does_match, length in run(connection, "match", ids=json.dumps(ids), **filters):
        looked_at, size = looked_at + 1, size + length
        if does_match:
            matching.append(record_id)
        if len(matching) == query.limit or size > _MOST_BYTES:
            break
    return matching, looked_at


def _find(
    connection: sqlite3.Connection,
    ids: list[str],
    now: int,
    *,
    payloads: bool,
    results: bool = False,
    log: bool = False,
) -> dict[str, StoredRecord]:
    limits = {"longest": LONGEST, "cut": CUT}
    rows = run(
        connection,
        "find_stored",
        ids=json.dumps(ids),
        payloads=payloads,
        results=payloads or results,
        log=log,
        **limits,
    )
    return {row["id"]: _stored(row, now) for row in rows}


def _page(connection: sqlite3.Connection, query: RecordsInState, now: int, limit: int) -> list[_Entry]:
    state, after = query.state, query.after
    # An empty id comes before all others, so at the last time no record is behind this position.
    time, record_id = (_LAST_TIME, "") if after is None else (stamp(after.at), after.id)
    if state == "active":
        before = _AFTER_ALL_IDS if after is None else record_id
        return _take(run(connection, "page_active", id=before), limit)
    if query.older_than is not None:
        time, record_id = min((time, record_id), (now - milliseconds(query.older_than), ""))
    if state not in {"queued", "scheduled"}:
        return _take(run(connection, "page_finished", state=state, time=time, id=record_id), limit)
    if state == "queued" and time > now:
        time, record_id = now + 1, ""  # scheduled records come before the queued ones
    page: list[_Entry] = []
    later_than = now if state == "scheduled" else -1
    queues = run(connection, "find_latest_due", after=later_than, time=time, queue=query.queue)
    for queue, suspect, latest in queues:
        if len(page) == limit and latest < page[-1][0]:
            break  # the other queues have earlier due times only
        limits = {"queue": queue, "suspect": suspect, "after": later_than, "time": time, "id": record_id}
        page += _take(run(connection, "page_apart" if suspect is None else "page_waiting", **limits), limit)
        page = sorted(page, reverse=True)[:limit]
    return page


def _take(entries: Iterable[_Entry], limit: int) -> list[_Entry]:
    """Return the first entries. Those with a damaged id cannot be named by any call, and are left out."""
    return list(islice(((time, record_id) for time, record_id in entries if type(record_id) is str), limit))


def read_overview(connection: sqlite3.Connection, now: int) -> Overview:
    """Count the records, find the oldest due record of each queue, and list the workers that are alive."""
    found: dict[str, dict[str, int]] = {}
    oldest: dict[str, datetime] = {}
    with snapshot(connection):
        now = read_time(connection, now)
        workers = run(connection, "find_workers", since=now - milliseconds(WORKER_LISTED)).fetchall()
        waiting = {row[0]: row[1:] for row in run(connection, "count_waiting", now=now)}
        for queue, status, n in run(connection, "read_counts").fetchall():
            if type(n) is not int or status not in STATUSES:
                raise DamagedRowError
            # The queue of a record that was set aside may be damaged.
            counts = found.setdefault(queue if type(queue) is str else "", {})
            if status != "waiting":
                counts[status] = counts.get(status, 0) + n
                continue
            counts["scheduled"], *first_dues = waiting[queue]
            counts["queued"] = n - counts["scheduled"]
            dues = [due for due in first_dues if due is not None]
            oldest |= {queue: moment(min(dues))} if dues else {}
        paused = run(connection, "read_paused").fetchall()
        lanes, lane_count = list_lanes(connection, now)
    if not all(type(name) is str for name, _, _ in workers):
        raise DamagedRowError
    return Overview(
        now=moment(now),
        counts=QueueCounts.of({queue: StateCounts(**counts) for queue, counts in found.items()}),
        oldest=oldest,
        workers={
            name: StoredWorker(seen=moment(seen), about=about if type(about) is bytes else b"")
            for name, seen, about in workers
        },
        paused={queue: moment(int(since)) for queue, since in paused if type(queue) is str},
        lanes=lanes,
        lane_count=lane_count,
    )


def _stored(row: sqlite3.Row, now: int) -> StoredRecord:
    damage = noted(row["damage"]) or find_damage(row, RECORD)
    if damage is not None:
        return _damaged(row, now, damage)
    is_active = row["state"] == "active"
    return StoredRecord(
        id=row["id"],
        name=row["name"],
        queue=row["queue"],
        state=state_of(row["state"], row["due"], now),
        input=row["input"],
        meta=row["meta"],
        key=row["key"],
        policy=row["policy"],
        attempts=row["attempts"],
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
        lease_until=moment_or_none(row["lease_end"]),
        cancel_requested=is_active and row["cancel_at"] > 0,
        expires_at=moment_or_none(None if is_active else row["cancel_at"] or None),
        expired=row["state"] == "cancelled" and row["cancel_at"] > 0,
        lane=unpack(row["lane"]),
        progress=row["progress"],
        log=split_lines(row["log"]),
    )


def _damaged(row: sqlite3.Row, now: int, damage: str) -> StoredRecord:
    """Return a damaged record with what can be read of it."""

    def text(column: str) -> str | None:
        return row[column] if type(row[column]) is str else None

    def number(column: str) -> int:
        return row[column] if type(row[column]) is int else 0

    finished_at = number("finished_at")
    return StoredRecord(
        id=row["id"],
        name=text("name") or "",
        queue=text("queue") or "",
        state=state_of(STATUSES.get(row["state"], "failed"), number("due"), now),
        input=row["input"],
        meta=row["meta"],
        key=text("key"),
        policy=row["policy"],
        attempts=row["attempts"],
        result=row["result"],
        recoveries=number("recoveries"),
        max_recoveries=number("max_recoveries"),
        worker=text("worker"),
        created_at=moment(row["created_at"]),
        updated_at=moment(row["updated_at"]),
        scheduled_for=moment(number("due")),
        failed_at=moment_or_none(row["failed_at"]),
        started_at=moment_or_none(row["started_at"]),
        finished_at=moment(finished_at) if finished_at else None,
        progress=row["progress"],
        log=split_lines(row["log"]),
        damage=damage,
    )
