"""The schedules: by key, and those with a next tick in the order of their ticks."""

from __future__ import annotations

from dataclasses import replace
from heapq import nsmallest
from typing import assert_never

from flowli_core.drivers._times import stamp
from flowli_core.drivers.memory._index import Index
from flowli_core.stored import ScheduleByKey, SchedulesAfter, SchedulesDue, StoredSchedule


class Schedules:
    """Not safe against threads: the driver's lock is held around each call."""

    def __init__(self) -> None:
        self._schedules: dict[str, StoredSchedule] = {}
        self._ticks = Index()
        self._revision = 0

    def is_current(self, key: str, revision: int) -> bool:
        """Return True if a schedule was not changed since this revision of it was read."""
        current = self._schedules.get(key)
        return revision == (0 if current is None else current.revision)

    def put(self, schedule: StoredSchedule, *, last_record_id: str | None) -> None:
        """Store a schedule under a revision that none has had."""
        self._revision += 1
        last = last_record_id or schedule.last_record_id
        self._schedules[schedule.key] = replace(schedule, revision=self._revision, last_record_id=last)
        if schedule.next_tick is None:
            self._ticks.discard(schedule.key)
        else:
            self._ticks.put(schedule.key, stamp(schedule.next_tick))

    def remove(self, key: str) -> None:
        """Forget a schedule that may be there."""
        self._ticks.discard(key)
        self._schedules.pop(key, None)

    def first_tick(self) -> int | None:
        """Answer when the next tick is."""
        first = self._ticks.first()
        return None if first is None else first[0]

    def find(self, query: ScheduleByKey | SchedulesDue | SchedulesAfter, now: int) -> list[StoredSchedule]:
        """Return the schedules that a query asks for."""
        match query:
            case ScheduleByKey():
                return [self._schedules[query.key]] if query.key in self._schedules else []
            case SchedulesDue():
                ticks = [place for place in self._ticks.places() if place[0] <= now]
                return [self._schedules[key] for _, key in nsmallest(query.limit, ticks)]
            case SchedulesAfter():
                keys = [key for key in self._schedules if query.after is None or key > query.after]
                return [self._schedules[key] for key in nsmallest(query.limit, keys)]
            case _ as never:
                assert_never(never)
