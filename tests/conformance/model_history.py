"""The rules of the history in the simplest form: a list of everything that has happened, which each query sums up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from flowli_core.history import DURATION_BUCKETS, HistoryEntry, HistoryQuery, bucket_of

if TYPE_CHECKING:
    from flowli_core.history import Resolution
    from flowli_core.new_records import NewRecord

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_LENGTHS: dict[Resolution, timedelta] = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1)}


@dataclass(slots=True)
class HistoryModel:
    """All that has happened: when, to a record of which job and queue, and what."""

    events: list[tuple[datetime, tuple[str, str], str]] = field(
        default_factory=list[tuple[datetime, tuple[str, str], str]]
    )

    def count(self, now: datetime, new: NewRecord, *what: str) -> None:
        """Count what happens to a record."""
        self.events += [(now, (new.name, new.queue), one) for one in what]

    def count_attempt(self, now: datetime, new: NewRecord, *, due: datetime, started: datetime | None) -> None:
        """Count the wait and the duration of an attempt that ends now."""
        assert started is not None
        waited, ran = (started - due) // _MS, (now - started) // _MS
        self.count(now, new, f"wait {bucket_of(waited)}", f"run {bucket_of(ran)}")

    def read(self, query: HistoryQuery, now: datetime) -> list[HistoryEntry]:
        """Return the entries that a query finds."""
        found: dict[tuple[datetime, str, str], Counter[str]] = {}
        for at, (name, queue), what in self.events:
            start = self._start(query.resolution, at)
            if query.name in {None, name} and query.queue in {None, queue} and self._is_in(query, start, now):
                found.setdefault((start, name, queue), Counter())[what] += 1
        return [_entry(*key, counts) for key, counts in sorted(found.items())]

    @staticmethod
    def _start(resolution: Resolution, at: datetime) -> datetime:
        return at - (at - _EPOCH) % _LENGTHS[resolution] if resolution in _LENGTHS else _EPOCH

    def _is_in(self, query: HistoryQuery, start: datetime, now: datetime) -> bool:
        if query.resolution == "total":
            return True
        last = self._start(query.resolution, now if query.before is None else query.before - _MS)
        return last - query.periods * _LENGTHS[query.resolution] < start <= last


def _entry(start: datetime, name: str, queue: str, counts: Counter[str]) -> HistoryEntry:
    return HistoryEntry(
        start=start,
        name=name,
        queue=queue,
        enqueued=counts["enqueued"],
        completed=counts["completed"],
        failed=counts["failed"],
        cancelled=counts["cancelled"],
        retried=counts["retried"],
        recovered=counts["recovered"],
        waits=tuple([counts[f"wait {bucket}"] for bucket in range(DURATION_BUCKETS)]),
        runs=tuple([counts[f"run {bucket}"] for bucket in range(DURATION_BUCKETS)]),
    )
