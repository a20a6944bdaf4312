"""The schedules: compared, stored together with the records of their ticks, and read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flowli_core.driver import NewRecord, StoredSchedule
from flowli_core.drivers._times import moment_or_none, stamp
from flowli_core.drivers.sqlite import _statements as sql
from flowli_core.drivers.sqlite._enqueue import enqueue
from flowli_core.drivers.sqlite._transaction import News, Transaction, first_tick, heads

if TYPE_CHECKING:
    import sqlite3

Row = tuple[Any, ...]


def put(transaction: Transaction, schedule: StoredSchedule, records: Sequence[NewRecord]) -> bool:
    """Compare the revision; store the records, and then the schedule with its next tick."""
    current = get(transaction.connection, schedule.key)
    if schedule.revision != (0 if current is None else current.revision):
        return False
    answers = enqueue(transaction, records) if records else []
    accepted = [answer.id for answer in answers if answer.disposition == "accepted"]
    before = first_tick(transaction.connection)
    revision: int = transaction.run(sql.NEXT_REVISION).fetchone()[0]
    transaction.run(
        sql.PUT_SCHEDULE,
        (
            schedule.key,
            schedule.queue,
            schedule.spec,
            _stamp_or_none(schedule.next_tick),
            _stamp_or_none(schedule.last_tick),
            schedule.paused,
            accepted[-1] if accepted else schedule.last_record_id,
            revision,
        ),
    )
    first = first_tick(transaction.connection)
    if first is not None and (before is None or first < before):
        # Somebody must learn of the time.
        transaction.news.append(News(schedule.queue, heads(transaction.connection, schedule.queue), wake=True))
    return True


def remove(transaction: Transaction, key: str) -> bool:
    """Remove a schedule; answer whether there was one."""
    return transaction.run(sql.REMOVE_SCHEDULE, (key,)).rowcount > 0


def get(connection: sqlite3.Connection, key: str) -> StoredSchedule | None:
    """Answer the schedule, or None."""
    row: Row | None = connection.execute(sql.GET_SCHEDULE, (key,)).fetchone()
    return None if row is None else _stored(row)


def due(connection: sqlite3.Connection, now: int, limit: int) -> list[StoredSchedule]:
    """Answer the schedules whose next tick has come, the earliest first."""
    return [_stored(row) for row in connection.execute(sql.FIND_DUE_SCHEDULES, (now, limit))]


def page(connection: sqlite3.Connection, after: str | None, limit: int) -> list[StoredSchedule]:
    """List the schedules in the order of their keys, from behind `after`."""
    return [_stored(row) for row in connection.execute(sql.PAGE_SCHEDULES, (after or "", limit))]


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
