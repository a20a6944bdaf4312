"""Storing schedules together with the records of their ticks, and reading them."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from itertools import islice

from flowli_core.drivers._times import moment_or_none, stamp
from flowli_core.drivers.sqlite._damage import SCHEDULE, DamagedRowError, find_damage, noted
from flowli_core.drivers.sqlite._enqueue import enqueue
from flowli_core.drivers.sqlite._sql import run
from flowli_core.drivers.sqlite._transaction import Transaction, first_tick
from flowli_core.new_records import NewRecord
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
    if revision != (0 if current is None else _revision(current[-2])):
        return False
    answers = enqueue(transaction, records) if records else []
    if schedule is None:
        transaction.run("remove_schedule", key=key)
        return True
    accepted = [answer.id for answer in answers if answer.disposition == "accepted"]
    before = first_tick(transaction.connection)
    next_revision = transaction.run("next_revision", known=revision, now=transaction.now).fetchone()[0]
    if type(next_revision) is not int:
        raise DamagedRowError
    transaction.run(
        "put_schedule",
        key=key,
        queue=schedule.queue,
        spec=schedule.spec,
        next_tick=_stamp_or_none(schedule.next_tick),
        last_tick=_stamp_or_none(schedule.last_tick),
        paused=schedule.paused,
        last_record_id=accepted[-1] if accepted else schedule.last_record_id,
        revision=next_revision,
    )
    first = first_tick(transaction.connection)
    if first is not None and (before is None or first < before):
        transaction.tick_moved = schedule.queue
    return True


def find_schedules(
    connection: sqlite3.Connection, query: ScheduleByKey | SchedulesDue | SchedulesAfter, now: int
) -> list[StoredSchedule]:
    """Return the schedules that a query asks for."""
    limit = 1 if isinstance(query, ScheduleByKey) else query.limit
    if isinstance(query, ScheduleByKey):
        rows = run(connection, "find_schedule", key=query.key)
    elif isinstance(query, SchedulesDue):
        due = [_stored(row) for row in run(connection, "find_due_schedules", now=now, limit=query.limit)]
        if any(schedule.damage is not None for schedule in due):
            raise DamagedRowError
        return due
    else:
        rows = run(connection, "page_schedules", after=query.after or "")
    # One with a damaged key cannot be named by any call.
    return [_stored(row) for row in islice((row for row in rows if type(row["key"]) is str), limit)]


def _revision(stored: object) -> int:
    return stored if type(stored) is int else 0


def _stored(row: sqlite3.Row) -> StoredSchedule:
    damage = noted(row["damage"]) or find_damage(row, SCHEDULE)
    if damage is not None:
        queue, last_record_id = (
            row[column] if type(row[column]) is str else "" for column in ("queue", "last_record_id")
        )
        return StoredSchedule(
            key=row["key"],
            queue=queue,
            spec=row["spec"],
            next_tick=None,
            paused=row["paused"] == 1,
            last_record_id=last_record_id or None,
            revision=_revision(row["revision"]),
            damage=damage,
        )
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
