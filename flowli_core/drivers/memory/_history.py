"""The numbers of jobs by minute, by hour, and in total. Times and durations are in milliseconds."""

from collections import Counter
from typing import Literal

from flowli_core.drivers._periods import KEPT, LENGTHS, start_of
from flowli_core.drivers._times import moment, stamp
from flowli_core.history import DURATION_BUCKETS, MOST_HISTORY_JOBS, OTHERS, HistoryEntry, HistoryQuery, Resolution
from flowli_core.new_records import NewRecord

Pair = tuple[str, str]
"""The name of a job, and a queue."""

Event = Literal["enqueued", "completed", "failed", "cancelled", "retried", "recovered"]
Bucket = tuple[Literal["waits", "runs"], int]
Numbers = Counter[Event | Bucket]


class History:
    """The numbers of each pair of job and queue in each period. The total is one period that starts at 0."""

    def __init__(self) -> None:
        self._periods: dict[Resolution, dict[int, dict[Pair, Numbers]]] = {"minute": {}, "hour": {}, "total": {}}
        self._minute = -1
        self._current: dict[Pair, list[Numbers]] = {}
        """The numbers of the current minute, hour and total, so that they need not be searched for each record."""

    def follow_clock(self, now: int) -> None:
        """Begin a new minute when its time has come, and remove the periods that ended too long ago."""
        minute = start_of("minute", now)
        if minute == self._minute:
            return
        self._minute = minute
        self._current.clear()
        for resolution, kept in KEPT.items():
            periods = self._periods[resolution]
            for start in [start for start in periods if start + LENGTHS[resolution] <= now - kept]:
                del periods[start]

    def count(self, new: NewRecord, *counted: Event | Bucket) -> None:
        """Count what happens to a record now."""
        pair = (new.name, new.queue)
        if pair not in self._current:
            self._current[pair] = [self._find_numbers(resolution, pair) for resolution in self._periods]
        for numbers in self._current[pair]:
            for one in counted:
                numbers[one] += 1

    def _find_numbers(self, resolution: Resolution, pair: Pair) -> Numbers:
        """Return the numbers that count a pair in the current period."""
        period = self._periods[resolution].setdefault(start_of(resolution, self._minute), {})
        if pair not in period and len(period) >= MOST_HISTORY_JOBS:
            pair = (OTHERS, OTHERS)
        return period.setdefault(pair, Counter())

    def read(self, query: HistoryQuery, now: int) -> list[HistoryEntry]:
        """Return the entries that the query finds."""
        periods = self._periods[query.resolution]
        starts = sorted(periods)
        if query.resolution != "total":
            last = start_of(query.resolution, now if query.before is None else stamp(query.before) - 1)
            first = last - (query.periods - 1) * LENGTHS[query.resolution]
            starts = [start for start in starts if first <= start <= last]
        return [
            _entry(start, pair, numbers)
            for start in starts
            for pair, numbers in sorted(periods[start].items())
            if query.name in {None, pair[0]} and query.queue in {None, pair[1]}
        ]


def _entry(start: int, pair: Pair, numbers: Numbers) -> HistoryEntry:
    return HistoryEntry(
        start=moment(start),
        name=pair[0],
        queue=pair[1],
        enqueued=numbers["enqueued"],
        completed=numbers["completed"],
        failed=numbers["failed"],
        cancelled=numbers["cancelled"],
        retried=numbers["retried"],
        recovered=numbers["recovered"],
        waits=tuple([numbers["waits", bucket] for bucket in range(DURATION_BUCKETS)]),
        runs=tuple([numbers["runs", bucket] for bucket in range(DURATION_BUCKETS)]),
    )
