"""Changes of stored schedules.

Each reads the schedule, decides what to write, and writes it unless another process changed it meanwhile.
"""

import asyncio
import random
from collections.abc import Callable
from datetime import datetime
from typing import Literal, TypeAlias, TypeVar

import uuid_utils

from flowli_core._schedules.spec import (
    ScheduleChange,
    ScheduleDisposition,
    ScheduleSpec,
    decide_pause,
    decide_resume,
    decide_upsert,
    make_record,
    read_or_none,
)
from flowli_core.driver import Driver
from flowli_core.durations import ZERO
from flowli_core.errors import DriverError, StoreDamaged
from flowli_core.new_records import Enqueued
from flowli_core.stored import ScheduleByKey, SchedulesAfter, StoredSchedule

T = TypeVar("T")

_Write: TypeAlias = ScheduleChange | Literal["remove"] | None
"""The decision about a schedule: what to store, to remove it, or to leave it as it is."""

_TRIES = 100
_LONGEST_PAUSE = 0.02
_PAGE = 50
"""The number of schedules to read at once. Each holds the input of its jobs."""


async def upsert(driver: Driver, spec: ScheduleSpec) -> tuple[ScheduleDisposition, StoredSchedule]:
    """Store a schedule, or update it. Nothing is written if it is unchanged.

    A change with many missed ticks is written in several parts.
    """

    def decide(
        current: StoredSchedule | None, now: datetime
    ) -> tuple[tuple[ScheduleDisposition, ScheduleChange], _Write]:
        disposition, change = decide_upsert(spec, current, now)
        return (disposition, change), None if disposition == "unchanged" else change

    while True:
        disposition, change = await _compare_and_set(driver, spec.key, decide)
        if not change.is_partial:
            return disposition, change.schedule


async def restore(driver: Driver, spec: ScheduleSpec) -> bool:
    """Store a schedule again if the store has lost it. Return False if it is still stored."""

    def decide(current: StoredSchedule | None, now: datetime) -> tuple[bool, _Write]:
        _, change = decide_upsert(spec, None, now)
        return (False, None) if current else (True, change)

    return await _compare_and_set(driver, spec.key, decide)


async def remove(driver: Driver, key: str) -> bool:
    """Remove a schedule. Return False if there is none."""
    return await _change(driver, key, lambda _current, _now: "remove")


async def pause(driver: Driver, key: str) -> bool:
    """Pause a schedule. Return False if there is none."""
    return await _change(driver, key, lambda current, _: None if _sound(current).paused else decide_pause(current))


async def resume(driver: Driver, key: str) -> bool:
    """Resume a paused schedule from now. Return False if there is none."""

    def decide(current: StoredSchedule, now: datetime) -> ScheduleChange | None:
        return decide_resume(_read(current), current, now) if _sound(current).paused else None

    return await _change(driver, key, decide)


async def trigger(driver: Driver, key: str) -> tuple[str, Enqueued] | None:
    """Enqueue the job of a schedule now.

    Return the name of the job and the store's answer, or None if there is no such schedule.
    """
    _, found = await driver.schedules(ScheduleByKey(key))
    if not found:
        return None
    spec = _read(found[0])
    (answer,) = await driver.enqueue([make_record(spec, str(uuid_utils.uuid7()), due=ZERO)])
    return spec.record.name, answer


async def declared_keys(driver: Driver, owner: str) -> list[str]:
    """Return the keys of the stored schedules that this registry declares, or declared in an earlier deploy."""
    keys: list[str] = []
    after: str | None = None
    while page := (await driver.schedules(SchedulesAfter(limit=_PAGE, after=after)))[1]:
        after = page[-1].key
        keys += [one.key for one in page if (spec := read_or_none(one)) is not None and spec.declared_by == owner]
    return keys


async def put(driver: Driver, change: ScheduleChange) -> bool:
    """Store a changed schedule with its records. Return False if the schedule was changed since it was read."""
    schedule = change.schedule
    return await driver.put_schedule(schedule.key, schedule, revision=schedule.revision, records=change.records)


async def _change(driver: Driver, key: str, decide: Callable[[StoredSchedule, datetime], _Write]) -> bool:
    """Change a stored schedule. Return False if there is none."""
    return await _compare_and_set(
        driver, key, lambda current, now: (True, decide(current, now)) if current else (False, None)
    )


async def _compare_and_set(
    driver: Driver, key: str, decide: Callable[[StoredSchedule | None, datetime], tuple[T, _Write]]
) -> T:
    """Read a schedule, decide, write, and return the result of the decision. Start over if another write came first.

    `decide` gets the stored schedule and the store's time. It returns a result, and what to write.
    """
    for _ in range(_TRIES):
        now, found = await driver.schedules(ScheduleByKey(key))
        current = found[0] if found else None
        result, write = decide(current, now)
        if write is None:
            return result
        if write == "remove":
            is_written = await driver.put_schedule(key, None, revision=current.revision if current else 0)
        else:
            is_written = await put(driver, write)
        if is_written:
            return result
        await asyncio.sleep(random.uniform(0, _LONGEST_PAUSE))  # noqa: S311 - no secret
    raise DriverError(
        f"schedule {key!r} was not changed: in {_TRIES} tries, another process changed it first each time"
    )


def _sound(stored: StoredSchedule) -> StoredSchedule:
    if stored.damage is not None:
        raise StoreDamaged(
            f"schedule {stored.key!r} cannot be changed, only removed or declared again: {stored.damage}"
        )
    return stored


def _read(stored: StoredSchedule) -> ScheduleSpec:
    spec = read_or_none(_sound(stored))
    if spec is None:
        raise DriverError(f"schedule {stored.key!r} cannot be read: it is damaged, or was written by a later release")
    return spec
