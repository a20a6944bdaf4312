"""The history of jobs as `jobs.inspect` returns it: sums, quantiles, and the reads of a span in parts."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any

from flowli_core import _checks
from flowli_core.driver import Driver
from flowli_core.durations import Duration, duration
from flowli_core.errors import ValidationError
from flowli_core.history import DURATION_BUCKETS, HOURS_KEPT, MINUTES_KEPT, HistoryEntry, HistoryQuery, Resolution

ENTRIES_PER_CALL = 1_000
"""A call reads at most so many entries, so that it does not hold up the store."""

_LENGTHS: dict[Resolution, timedelta] = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1)}
_MS = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COUNTS = ("enqueued", "completed", "failed", "cancelled", "retried", "recovered")


@dataclass(frozen=True, slots=True)
class Durations:
    """A histogram of durations: `counts[0]` of them were below 1 ms, and `counts[i]` others below 2**i ms.

    The last of the 28 numbers counts all others, of 2**26 ms (nearly 19 hours) or more.
    """

    counts: tuple[int, ...] = (0,) * DURATION_BUCKETS

    @property
    def count(self) -> int:
        """The number of all durations."""
        return sum(self.counts)

    def __add__(self, other: "Durations") -> "Durations":
        """Return the histogram of both."""
        return Durations(tuple(map(sum, zip(self.counts, other.counts, strict=True))))

    def quantile(self, q: float) -> timedelta | None:
        """Estimate the duration that a share `q` (0 to 1) of all durations did not exceed. None if there are none.

        Durations are taken to be spread evenly over their bucket, so the estimate may be up to twice or half of the
        true value. Raises ValidationError.
        """
        if not 0 <= q <= 1:
            raise ValidationError(f"q must be from 0 to 1, got {_checks.shown(q)}")
        rank = q * self.count
        for bucket, (count, up_to) in enumerate(zip(self.counts, accumulate(self.counts), strict=True)):
            if count and up_to >= rank:
                low = 2 ** (bucket - 1) if bucket else 0
                width = 0 if bucket == DURATION_BUCKETS - 1 else 2**bucket - low
                return (low + width * (1 - (up_to - rank) / count)) * _MS
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryNumbers:
    """The numbers of jobs that were enqueued and that ended.

    `completed`, `failed` and `cancelled` count jobs that finished, also those that no worker ran. `retried` counts
    attempts that failed and were followed by another one, and `recovered` expired leases. `waits` are the times from
    when a job was due until its handler started, and `runs` the durations of handlers, both of the attempts that ended.
    """

    enqueued: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    retried: int = 0
    recovered: int = 0
    waits: Durations = Durations()
    runs: Durations = Durations()

    def __add__(self, other: "HistoryNumbers") -> "HistoryNumbers":
        """Return the sums of both, so that `sum(points, HistoryNumbers())` are those of several points."""
        counts = {name: getattr(self, name) + getattr(other, name) for name in _COUNTS}
        return HistoryNumbers(**counts, waits=self.waits + other.waits, runs=self.runs + other.runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPoint(HistoryNumbers):
    """The numbers of one minute or hour."""

    start: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class JobHistory(HistoryNumbers):
    """The numbers of one job in one queue. Both names are empty for the sum of all that are not counted apart.

    In each minute or hour, 250 pairs of job and queue are counted apart.
    """

    job: str
    queue: str


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The numbers of jobs up to `now`, which is the time of the store.

    There is a point for each period of the length `resolution`, a minute or an hour. They are ordered by time, and the
    last is the period that is not over yet. `by_job` has the sums of all points by job and queue, in the order of these
    names, and `total` the sums of all.
    """

    now: datetime
    resolution: timedelta
    points: tuple[HistoryPoint, ...]
    by_job: tuple[JobHistory, ...]
    total: HistoryNumbers


async def read_history(driver: Driver, last: Duration, *, job: str | None, queue: str | None) -> History:
    """Read the history of a span that ends now."""
    span = duration(last, argument="last", longest=HOURS_KEPT, error=ValidationError)
    resolution: Resolution = "minute" if span <= MINUTES_KEPT else "hour"
    length = _LENGTHS[resolution]
    # No period has more entries than the total.
    now, totals = await driver.history(HistoryQuery(resolution="total"))
    per_call = max(ENTRIES_PER_CALL // max(len(totals), 1), 1)
    end = now - (now - _EPOCH) % length + length
    starts = [end - ago * length for ago in range(-(-span // length), 0, -1)]
    points: list[HistoryPoint] = []
    by_job: defaultdict[tuple[str, str], list[HistoryEntry]] = defaultdict(list)
    for first in range(0, len(starts), per_call):
        part = starts[first : first + per_call]
        before = part[-1] + length
        query = HistoryQuery(resolution=resolution, periods=len(part), before=before, name=job, queue=queue)
        by_start: defaultdict[datetime, list[HistoryEntry]] = defaultdict(list)
        for entry in (await driver.history(query))[1]:
            by_start[entry.start].append(entry)
            by_job[entry.name, entry.queue].append(entry)
        points += [HistoryPoint(start=start, **_add_up(by_start[start])) for start in part]
    return History(
        now=now,
        resolution=length,
        points=tuple(points),
        by_job=tuple([JobHistory(job=one, queue=of, **_add_up(some)) for (one, of), some in sorted(by_job.items())]),
        total=sum(points, HistoryNumbers()),
    )


def sum_entries(entries: list[HistoryEntry]) -> HistoryNumbers:
    """Return the sums of entries."""
    return HistoryNumbers(**_add_up(entries))


def _add_up(entries: list[HistoryEntry]) -> dict[str, Any]:
    """Return the sums of entries, as the arguments of a HistoryNumbers."""
    counts = {name: sum([getattr(entry, name) for entry in entries]) for name in _COUNTS}
    waits, runs = _merge([entry.waits for entry in entries]), _merge([entry.runs for entry in entries])
    return {**counts, "waits": waits, "runs": runs}


def _merge(histograms: list[tuple[int, ...]]) -> Durations:
    return Durations(tuple(map(sum, zip(*histograms, strict=True)))) if histograms else Durations()
