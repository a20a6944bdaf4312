"""The history of jobs: how many were enqueued and how they ended, by minute and hour. See `flowli_core/driver.py`.

A driver counts in the same transition as it stores or moves a record, once per step and not once per job. So each
change is counted exactly once, also if a step is sent again. If the numbers of a minute cannot be read, the driver
removes them: a damaged history never keeps a job from being stored or settled.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

Resolution = Literal["minute", "hour", "total"]
"""minute: the last MINUTES_KEPT. hour: the last HOURS_KEPT. total: since the store was made, never removed."""

MINUTES_KEPT, HOURS_KEPT = timedelta(hours=3), timedelta(days=7)
"""A driver keeps the numbers of a minute and of an hour for at least this long, and not much longer."""

MOST_HISTORY_JOBS = 250
"""The most pairs of job and queue that are counted apart within one period. Others are counted under OTHERS."""

OTHERS = ""
"""The name and the queue of the entry for all pairs beyond the first MOST_HISTORY_JOBS of a period."""

DURATION_BUCKETS = 28
"""The length of a histogram. Bucket 0 counts durations below 1 ms, bucket i others below 2**i ms, the last the rest.

The last bound is 2**26 ms, nearly 19 hours.
"""


def bucket_of(milliseconds: int) -> int:
    """Return the bucket of a histogram that counts a duration. A negative duration counts as 0."""
    return min(max(milliseconds, 0).bit_length(), DURATION_BUCKETS - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """The numbers of one job in one queue in one period.

    `start` is the start of the minute or hour, and 1970 for a total. An enqueued record is counted when it is accepted,
    also if it is due later. `completed`, `failed` and `cancelled` count records that finished, whoever finished them;
    `retried` counts attempts that failed and were followed by another one, and `recovered` expired leases. A record
    that is set aside because it is damaged is not counted.

    `waits` and `runs` are histograms with DURATION_BUCKETS numbers, of the acks that completed, failed, retried or
    cancelled an attempt: how long its record was due before its handler started, and how long the handler ran.
    """

    start: datetime
    name: str
    queue: str
    enqueued: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    retried: int = 0
    recovered: int = 0
    waits: tuple[int, ...] = (0,) * DURATION_BUCKETS
    runs: tuple[int, ...] = (0,) * DURATION_BUCKETS


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryQuery:
    """Finds the entries of the last `periods` minutes or hours that start before `before` (None: up to now).

    A period without entries counts as one of them. `periods` and `before` mean nothing for totals. `name` and `queue`
    leave out the entries of others.
    """

    resolution: Resolution
    periods: int = 1
    before: datetime | None = None
    name: str | None = None
    queue: str | None = None
