"""The schedules of the memory driver: by key, and in the order of their next ticks."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from heapq import nsmallest
from typing import assert_never

from flowli_core.drivers._times import duration, stamp
from flowli_core.drivers.memory._store import Index
from flowli_core.stored import ScheduleByKey, SchedulesAfter, SchedulesDue, StoredSchedule


class Schedules:
    """The driver holds its lock around each call."""

    def __init__(self) -> None:
        self._schedules: dict[str, StoredSchedule] = {}
        self._ticks = Index()
        self._revision = 0

    def revision(self, key: str) -> int:
        """Return the revision of a schedule, 0 if it is not stored."""
        current = self._schedules.get(key)
        return 0 if current is None else current.revision

    def remove(self, key: str) -> None:
        """Remove a schedule that may be stored."""
        current = self._schedules.pop(key, None)
        if current is not None and current.next_tick is not None:
            self._ticks.remove(stamp(current.next_tick), key)

    def put(self, key: str, schedule: StoredSchedule, *, last_record_id: str | None) -> None:
        """Store a schedule under a new revision."""
        self.remove(key)
        self._revision += 1
        self._schedules[key] = replace(schedule, revision=self._revision, last_record_id=last_record_id)
        if schedule.next_tick is not None:
            self._ticks.add(stamp(schedule.next_tick), key)

    def first_tick(self) -> int | None:
        """Return the time of the next tick."""
        return self._ticks.first_time()

    def next_tick(self, now: int) -> timedelta | None:
        """Return the time until the next tick."""
        tick = self.first_tick()
        return None if tick is None else duration(max(tick - now, 0))

    def find(self, query: ScheduleByKey | SchedulesDue | SchedulesAfter, now: int) -> list[StoredSchedule]:
        """Return the schedules that a query asks for."""
        match query:
            case ScheduleByKey():
                return [self._schedules[query.key]] if query.key in self._schedules else []
            case SchedulesDue():
                return [self._schedules[key] for _, key in self._ticks.until(now, query.limit)]
            case SchedulesAfter():
                keys = [key for key in self._schedules if key > (query.after or "")]
                return [self._schedules[key] for key in nsmallest(query.limit, keys)]
            case _ as never:
                assert_never(never)
