"""The schedules: by key, and those with a next tick in the order of their ticks."""

from __future__ import annotations

from dataclasses import replace
from heapq import nsmallest

from flowli_core.driver import StoredSchedule
from flowli_core.drivers._times import stamp
from flowli_core.drivers.memory._index import Index


class Schedules:
    """Not safe against threads: the driver's lock is held around each call."""

    def __init__(self) -> None:
        self._schedules: dict[str, StoredSchedule] = {}
        self._ticks = Index()
        self._revision = 0

    def get(self, key: str) -> StoredSchedule | None:
        """Answer a schedule."""
        return self._schedules.get(key)

    def is_current(self, schedule: StoredSchedule) -> bool:
        """Whether it was not changed since it was read."""
        current = self._schedules.get(schedule.key)
        return schedule.revision == (0 if current is None else current.revision)

    def put(self, schedule: StoredSchedule, *, last_record_id: str | None) -> None:
        """Store a schedule under a revision that none has had."""
        self._revision += 1
        last = last_record_id or schedule.last_record_id
        self._schedules[schedule.key] = replace(schedule, revision=self._revision, last_record_id=last)
        if schedule.next_tick is None:
            self._ticks.discard(schedule.key)
        else:
            self._ticks.put(schedule.key, stamp(schedule.next_tick))

    def remove(self, key: str) -> bool:
        """Forget a schedule."""
        self._ticks.discard(key)
        return self._schedules.pop(key, None) is not None

    def first_tick(self) -> int | None:
        """Answer when the next tick is."""
        first = self._ticks.first()
        return None if first is None else first[0]

    def due(self, now: int, limit: int) -> list[StoredSchedule]:
        """Answer the schedules whose tick has come, the earliest first."""
        places = nsmallest(limit, [place for place in self._ticks.places() if place[0] <= now])
        return [self._schedules[key] for _, key in places]

    def page(self, after: str | None, limit: int) -> list[StoredSchedule]:
        """List the schedules in the order of their keys."""
        keys = [key for key in self._schedules if after is None or key > after]
        return [self._schedules[key] for key in nsmallest(limit, keys)]
