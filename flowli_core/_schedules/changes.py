"""What is done to schedules: read one, decide, and store it where nobody was faster; else read it again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from datetime import datetime

import uuid_utils

from flowli_core._schedules.spec import Planned, ScheduleDisposition, paused, placed, read, record_of, resumed
from flowli_core._wire.versioned import NewerVersionError
from flowli_core.driver import Driver, Enqueued, NewRecord
from flowli_core.durations import ZERO
from flowli_core.errors import DriverError, SchedulingError
from flowli_core.stored import ScheduleByKey, SchedulesAfter, StoredSchedule

_TRIES = 100
_MOMENT = 0.02
_PAGE = 500


async def place(driver: Driver, planned: Planned) -> tuple[ScheduleDisposition, StoredSchedule]:
    """Store a definition, whatever there was before; what is the same already is left alone."""
    for _ in range(_TRIES):
        now, current = await _find(driver, planned.key)
        disposition, what = placed(planned, current, now)
        if disposition == "unchanged" or await put(driver, what.schedule, what.records):
            return disposition, what.schedule
        await _step_aside()
    raise _too_busy(planned.key)


async def restore(driver: Driver, planned: Planned) -> bool:
    """Store a definition where there is none, as after a loss of data; answer whether there was none."""
    now, current = await _find(driver, planned.key)
    return current is None and await put(driver, placed(planned, None, now)[1].schedule)


async def remove(driver: Driver, key: str) -> bool:
    """Remove a schedule; return False if there is none."""
    return await _change(driver, key, lambda _current, _now: None)


async def put(driver: Driver, schedule: StoredSchedule, records: Sequence[NewRecord] = ()) -> bool:
    """Store a changed schedule and the records of its ticks, unless somebody has changed it since it was read."""
    return await driver.put_schedule(schedule.key, schedule, revision=schedule.revision, records=records)


async def pause(driver: Driver, key: str) -> bool:
    """Let a schedule have no ticks; answer whether it is there."""
    return await _change(driver, key, lambda current, _: current if current.paused else paused(current))


async def resume(driver: Driver, key: str) -> bool:
    """Let a paused schedule have its ticks again, from now; answer whether it is there."""
    return await _change(
        driver, key, lambda current, now: resumed(_read(current), current, now) if current.paused else current
    )


async def trigger(driver: Driver, key: str) -> tuple[str, Enqueued] | None:
    """Store a record of a schedule that is due now, beside its ticks; answer the name of its job as well."""
    _, current = await _find(driver, key)
    if current is None:
        return None
    planned = _read(current)
    (answer,) = await driver.enqueue([record_of(planned, str(uuid_utils.uuid7()), due=ZERO)])
    return planned.record.name, answer


async def declared_by(driver: Driver, owner: str) -> list[str]:
    """List the keys of the schedules that this registry has declared, now or before."""
    found: list[str] = []
    after: str | None = None
    while page := (await driver.schedules(SchedulesAfter(limit=_PAGE, after=after)))[1]:
        after = page[-1].key
        for one in page:
            try:
                found += [one.key] if read(one).declared_by == owner else []
            except Exception:  # noqa: BLE001, S112 - written by another release, or damaged: not ours to judge
                continue
    return found


async def _find(driver: Driver, key: str) -> tuple[datetime, StoredSchedule | None]:
    now, found = await driver.schedules(ScheduleByKey(key))
    return now, found[0] if found else None


async def _change(
    driver: Driver, key: str, change: Callable[[StoredSchedule, datetime], StoredSchedule | None]
) -> bool:
    for _ in range(_TRIES):
        now, current = await _find(driver, key)
        if current is None:
            return False
        changed = change(current, now)
        if changed == current or await driver.put_schedule(key, changed, revision=current.revision):
            return True
        await _step_aside()
    raise _too_busy(key)


def _read(stored: StoredSchedule) -> Planned:
    try:
        return read(stored)
    except (NewerVersionError, ValueError):
        raise SchedulingError(
            f"the schedule {stored.key!r} cannot be read here: a later release wrote it, or somebody has damaged it"
        ) from None


async def _step_aside() -> None:
    await asyncio.sleep(random.uniform(0, _MOMENT))  # noqa: S311 - no secret


def _too_busy(key: str) -> DriverError:
    return DriverError(f"the schedule {key!r} is changed by others faster than it can be read")
