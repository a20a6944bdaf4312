"""The schedules: compared, stored together with the records of their ticks, and read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, assert_never

from flowli_core.driver import NewRecord
from flowli_core.drivers._times import moment_or_none, stamp
from flowli_core.drivers.sqlite import _statements as sql
from flowli_core.drivers.sqlite._enqueue import enqueue
from flowli_core.drivers.sqlite._transaction import News, Transaction, first_tick, heads
from flowli_core.stored import ScheduleByKey, SchedulesAfter, SchedulesDue, StoredSchedule

if TYPE_CHECKING:
    import sqlite3

Row = tuple[Any, ...]


def put(
    transaction: Transaction,
    key: str,
    schedule: StoredSchedule | None,
    *,
    revision: int,
    records: Sequence[NewRecord],
) -> bool:
    """Compare the revision; store the records, and then the schedule with its next tick."""
    current: Row | None = transaction.run(sql.GET_SCHEDULE, (key,)).fetchone()
    if revision != (0 if current is None else current[-1]):
        return False
    if schedule is None:
        transaction.run(sql.REMOVE_SCHEDULE, (key,))
        return True
    answers = enqueue(transaction, records) if records else []
    accepted = [answer.id for answer in answers if answer.disposition == "accepted"]
    before = first_tick(transaction.connection)
    next_revision: int = transaction.run(sql.NEXT_REVISION).fetchone()[0]
    transaction.run(
        sql.PUT_SCHEDULE,
        (
            key,
            schedule.queue,
            schedule.spec,
            _stamp_or_none(schedule.next_tick),
            _stamp_or_none(schedule.last_tick),
            schedule.paused,
            accepted[-1] if accepted else schedule.last_record_id,
            next_revision,
        ),
    )
    first = first_tick(transaction.connection)
    if first is not None and (before is None or first < before):
        # Somebody must learn of the time.
        transaction.news.append(News(schedule.queue, heads(transaction.connection, schedule.queue), wake=True))
    return True


def find(
    connection: sqlite3.Connection, query: ScheduleByKey | SchedulesDue | SchedulesAfter, now: int
) -> list[StoredSchedule]:
    """Return the schedules that a query asks for."""
    match query:
        case ScheduleByKey():
            return _read(connection, sql.GET_SCHEDULE, query.key)
        case SchedulesDue():
            return _read(connection, sql.FIND_DUE_SCHEDULES, now, query.limit)
        case SchedulesAfter():
            return _read(connection, sql.PAGE_SCHEDULES, query.after or "", query.limit)
        case _ as never:
            assert_never(never)


def _read(connection: sqlite3.Connection, statement: str, *parameters: str | int) -> list[StoredSchedule]:
    return [_stored(row) for row in connection.execute(statement, parameters)]


def _stored(row: Row) -> StoredSchedule:
    key, queue, spec, next_tick, last_tick, paused, last_record_id, revision = row
    return StoredSchedule(
        key=key,
        queue=queue,
        spec=spec,
        next_tick=moment_or_none(next_tick),
        last_tick=moment_or_none(last_tick),
        paused=bool(paused),
        last_record_id=last_record_id,
        revision=revision,
    )


def _stamp_or_none(moment: datetime | None) -> int | None:
    return None if moment is None else stamp(moment)
