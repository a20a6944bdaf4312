"""Storing schedules together with the records of their ticks, and reading them."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from flowli_core.driver import NewRecord
from flowli_core.drivers._times import moment_or_none, stamp
from flowli_core.drivers.sqlite._enqueue import enqueue
from flowli_core.drivers.sqlite._sql import run
from flowli_core.drivers.sqlite._transaction import Transaction, first_tick
from flowli_core.stored import ScheduleByKey, SchedulesAfter, SchedulesDue, StoredSchedule


def put_schedule(
    transaction: Transaction,
    key: str,
    schedule: StoredSchedule | None,
    *,
    revision: int,
    records: Sequence[NewRecord],
) -> bool:
    """Compare the revision; store the records, and then the schedule with its next tick."""
    current = transaction.run("find_schedule", key=key).fetchone()
    if revision != (0 if current is None else current[-1]):
        return False
    answers = enqueue(transaction, records) if records else []
    if schedule is None:
        transaction.run("remove_schedule", key=key)
        return True
    accepted = [answer.id for answer in answers if answer.disposition == "accepted"]
    before = first_tick(transaction.connection)
    transaction.run(
        "put_schedule",
        key=key,
        queue=schedule.queue,
        spec=schedule.spec,
        next_tick=_stamp_or_none(schedule.next_tick),
        last_tick=_stamp_or_none(schedule.last_tick),
        paused=schedule.paused,
        last_record_id=accepted[-1] if accepted else schedule.last_record_id,
        revision=transaction.run("next_revision", now=transaction.now).fetchone()[0],
    )
    first = first_tick(transaction.connection)
    if first is not None and (before is None or first < before):
        transaction.tick_moved = schedule.queue
    return True


def find_schedules(
    connection: sqlite3.Connection, query: ScheduleByKey | SchedulesDue | SchedulesAfter, now: int
) -> list[StoredSchedule]:
    """Return the schedules that a query asks for."""
    if isinstance(query, ScheduleByKey):
        rows = run(connection, "find_schedule", key=query.key)
    elif isinstance(query, SchedulesDue):
        rows = run(connection, "find_due_schedules", now=now, limit=query.limit)
    else:
        rows = run(connection, "page_schedules", after=query.after or "", limit=query.limit)
    return [_stored(row) for row in rows]


def _stored(row: sqlite3.Row) -> StoredSchedule:
    return StoredSchedule(
        key=row["key"],
        queue=row["queue"],
        spec=row["spec"],
        next_tick=moment_or_none(row["next_tick"]),
        last_tick=moment_or_none(row["last_tick"]),
        paused=bool(row["paused"]),
        last_record_id=row["last_record_id"],
        revision=row["revision"],
    )


def _stamp_or_none(moment: datetime | None) -> int | None:
    return None if moment is None else stamp(moment)
