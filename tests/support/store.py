"""Short forms of what tests read from a driver most often."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowli_core.stored import RecordById, RecordsInState, ScheduleByKey, SchedulesAfter, SchedulesDue
from flowli_core.targets import Target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowli_core.driver import Driver
    from flowli_core.new_records import NewRecord
    from flowli_core.stored import Position, State, StoredRecord, StoredSchedule
    from flowli_core.targets import CancelAnswer, RequeueAnswer


async def find(driver: Driver, record_id: str) -> StoredRecord | None:
    """Return the record with this id, or None."""
    found = (await driver.records(RecordById(record_id))).records
    return found[0] if found else None


async def read_page(
    driver: Driver, state: State, *, limit: int, after: Position | None = None, payloads: bool = True
) -> list[StoredRecord]:
    """Return a page of the records in a state."""
    query = RecordsInState(state=state, limit=limit, after=after, payloads=payloads)
    return (await driver.records(query)).records


async def cancel_one(driver: Driver, record_id: str, *, state: State | None = None) -> CancelAnswer:
    """Cancel one record."""
    (answer,) = await driver.cancel([Target(id=record_id, state=state)])
    return answer


async def requeue_one(
    driver: Driver, record_id: str, *, attempts: bytes | None = None, state: State | None = None
) -> RequeueAnswer:
    """Requeue one record."""
    (answer,) = await driver.requeue([Target(id=record_id, state=state, attempts=attempts)])
    return answer


async def put(driver: Driver, schedule: StoredSchedule, records: Sequence[NewRecord] = ()) -> bool:
    """Store a schedule as one that has read it before."""
    return await driver.put_schedule(schedule.key, schedule, revision=schedule.revision, records=records)


async def find_schedule(driver: Driver, key: str) -> StoredSchedule | None:
    """Return the schedule with this key, or None."""
    _, found = await driver.schedules(ScheduleByKey(key))
    return found[0] if found else None


async def due_schedules(driver: Driver, limit: int) -> list[StoredSchedule]:
    """Return the schedules that are due."""
    return (await driver.schedules(SchedulesDue(limit)))[1]


async def page_schedules(driver: Driver, *, limit: int, after: str | None = None) -> list[StoredSchedule]:
    """Return a page of the schedules."""
    return (await driver.schedules(SchedulesAfter(limit=limit, after=after)))[1]
