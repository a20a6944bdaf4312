"""The numbers of jobs by minute, by hour, and in total. Times and durations are in milliseconds."""

from collections import Counter
from typing import Literal

from flowli_core.driver import NewRecord
from flowli_core.drivers._times import milliseconds, moment, stamp
from flowli_core.history import (
    DURATION_BUCKETS,
    HOURS_KEPT,
    MINUTES_KEPT,
    MOST_HISTORY_JOBS,
    OTHERS,
    HistoryEntry,
    HistoryQuery,
    Resolution,
    bucket_of,
)

Pair = tuple[str, str]
"""The name of a job, and a queue."""

Event = Literal["enqueued", "completed", "failed", "cancelled", "retried", "recovered"]
Bucket = tuple[Literal["waits", "runs"], int]

_LENGTHS: dict[Resolution, int] = {"minute": 60_000, "hour": 3_600_000}
_KEPT: dict[Resolution, int] = {"minute": milliseconds(MINUTES_KEPT), "hour": milliseconds(HOURS_KEPT)}


class History:
    """The numbers of each pair of job and queue in each period. The total is one period that starts at 0."""

    def __init__(self) -> None:
        self._periods: dict[Resolution, dict[int, dict[Pair, Counter[Event | Bucket]]]] = {
            "minute": {},
            "hour": {},
            "total": {},
        }
        self._minute = 0

    def follow_clock(self, now: int) -> None:
        """Remove the periods that ended too long ago, once a minute."""
        minute = _start("minute", now)
        if minute == self._minute:
            return
        self._minute = minute
        for resolution, kept in _KEPT.items():
            periods = self._periods[resolution]
            for start in [start for start in periods if start + _LENGTHS[resolution] <= now - kept]:
                del periods[start]

    def count(self, now: int, new: NewRecord, *counted: Event | Bucket) -> None:
        """Count what happens to a record now."""
        for resolution, periods in self._periods.items():
            numbers = periods.setdefault(_start(resolution, now), {})
            pair = (new.name, new.queue)
            if pair not in numbers and len(numbers) >= MOST_HISTORY_JOBS:
                pair = (OTHERS, OTHERS)
            counter = numbers.setdefault(pair, Counter())
            for one in counted:
                counter[one] += 1

    def count_attempt(self, now: int, new: NewRecord, *, due: int, started: int) -> None:
        """Count how long a record was due before its handler started, and how long the handler ran until now."""
        self.count(now, new, ("waits", bucket_of(started - due)), ("runs", bucket_of(now - started)))

    def read(self, query: HistoryQuery, now: int) -> list[HistoryEntry]:
        """Return the entries that the query finds."""
        periods = self._periods[query.resolution]
        starts = sorted(periods)
        if query.resolution != "total":
            last = _start(query.resolution, now if query.before is None else stamp(query.before) - 1)
            first = last - (query.periods - 1) * _LENGTHS[query.resolution]
            starts = [start for start in starts if first <= start <= last]
        return [
            _entry(start, pair, counter)
            for start in starts
            for pair, counter in sorted(periods[start].items())
            if query.name in {None, pair[0]} and query.queue in {None, pair[1]}
        ]


def _start(resolution: Resolution, time: int) -> int:
    """Return the start of the period that a time is in."""
    return 0 if resolution == "total" else time - time % _LENGTHS[resolution]


def _entry(start: int, pair: Pair, counter: Counter[Event | Bucket]) -> HistoryEntry:
    return HistoryEntry(
        start=moment(start),
        name=pair[0],
        queue=pair[1],
        enqueued=counter["enqueued"],
        completed=counter["completed"],
        failed=counter["failed"],
        cancelled=counter["cancelled"],
        retried=counter["retried"],
        recovered=counter["recovered"],
        waits=tuple([counter["waits", bucket] for bucket in range(DURATION_BUCKETS)]),
        runs=tuple([counter["runs", bucket] for bucket in range(DURATION_BUCKETS)]),
    )
