"""The history of jobs: writing what transactions have counted, and reading it. See `flowli_core/history.py`.

The counts of the running minute are `recent`: one for each event of a job, such as "enqueued" or "completed 5 3", with
the buckets of the wait and of the run. When the minute has ended, they are added to the metrics of the minute, the hour
and the total. So a transaction writes few rows, most often one.
"""

import sqlite3
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal, NamedTuple

from flowli_core.drivers._periods import KEPT, LAST_TIME, LENGTHS, start_of
from flowli_core.drivers._times import moment, stamp
from flowli_core.drivers.sqlite._damage import decoding
from flowli_core.drivers.sqlite._sql import run
from flowli_core.drivers.sqlite._transaction import Pair, Transaction, read_time, snapshot
from flowli_core.history import DURATION_BUCKETS, MOST_HISTORY_JOBS, OTHERS, HistoryEntry, HistoryQuery, Resolution

_Kind = Resolution | Literal["recent"]


_REMOVED = 5_000
"""Once so many old rows were removed, the next period waits for another minute: no transaction takes long."""

_OTHERS: Pair = (OTHERS, OTHERS)

_WAITS = [f"waits{bucket}" for bucket in range(DURATION_BUCKETS)]
_RUNS = [f"runs{bucket}" for bucket in range(DURATION_BUCKETS)]


class _Count(NamedTuple):
    """A row of the table.

    `metric` is a field of HistoryEntry, with the number of the bucket in a histogram ("waits5"). Of a recent row it is
    an event.
    """

    kind: _Kind
    start: int
    name: str
    queue: str
    metric: str
    n: int


class History:
    """Writes what the transactions of a driver have counted. Used only on the thread that writes."""

    def __init__(self) -> None:
        self._minute = -1
        self._pairs: set[Pair] = set()

    def write(self, transaction: Transaction) -> None:
        """Store what a transaction has counted. The first one in a minute also sums the minutes before it."""
        minute = start_of("minute", transaction.now)
        if minute != self._minute:
            _sum_ended(transaction, minute)
            self._minute, self._pairs = minute, set()
        if not transaction.counted:
            return
        rows: list[dict[str, Any]] = []
        for (pair, event), n in transaction.counted.items():
            if pair not in self._pairs and len(self._pairs) < MOST_HISTORY_JOBS:
                # Another process may have counted it.
                self._pairs |= _find_pairs(transaction.connection, "recent", minute)
            name, queue = _counted_as(pair, self._pairs)
            rows.append({"kind": "recent", "start": minute, "name": name, "queue": queue, "metric": event, "n": n})
        transaction.run_many("add_count", rows)


def read_history(connection: sqlite3.Connection, query: HistoryQuery, now: int) -> tuple[datetime, list[HistoryEntry]]:
    """Return the time, and the entries that a query finds."""
    found: dict[tuple[int, str, str], dict[str, int]] = {}
    with snapshot(connection):
        now = read_time(connection, now)
        kind, length = query.resolution, LENGTHS[query.resolution]
        last = start_of(kind, now if query.before is None or kind == "total" else stamp(query.before) - 1)
        first = 0 if kind == "total" else last - (query.periods - 1) * length
        counts = _find(connection, kind, first, last, name=query.name, queue=query.queue)
        recent = _in_periods(connection, kind, _find(connection, "recent", first, last + length - 1))
        counts += [count for count in recent if query.name in {None, count.name} and query.queue in {None, count.queue}]
    for _, start, name, queue, metric, n in counts:
        metrics = found.setdefault((start, name, queue), {})
        metrics[metric] = metrics.get(metric, 0) + n
    return moment(now), [_entry(*key, metrics) for key, metrics in sorted(found.items())]


def _sum_ended(transaction: Transaction, minute: int) -> None:
    """Add the recent counts of other minutes to those of the minute, the hour and the total. Remove old counts."""
    connection = transaction.connection
    ended = [count for count in _find(connection, "recent", 0, LAST_TIME) if count.start != minute]
    for resolution, length in LENGTHS.items():
        counts = _in_periods(connection, resolution, ended)
        transaction.run_many("add_count", [count._asdict() for count in counts])
        if resolution in KEPT:
            until = transaction.now - KEPT[resolution] - length
            transaction.run("remove_old_counts", kind=resolution, until=until, limit=_REMOVED)
    transaction.run("remove_ended_counts", minute=minute)


def _in_periods(connection: sqlite3.Connection, resolution: Resolution, recent: Iterable[_Count]) -> list[_Count]:
    """Return recent counts as those of the periods that they are in."""
    pairs: dict[int, set[Pair]] = {}
    counts: list[_Count] = []
    for count in recent:
        start = start_of(resolution, count.start)
        if start not in pairs:
            pairs[start] = _find_pairs(connection, resolution, start)
        pair = _counted_as((count.name, count.queue), pairs[start])
        metric, *buckets = count.metric.split(" ")
        metrics = [metric, *[f"{histogram}{n}" for histogram, n in zip(("waits", "runs"), buckets, strict=False)]]
        counts += [_Count(resolution, start, *pair, metric, count.n) for metric in metrics]
    return counts


def _counted_as(pair: Pair, pairs: set[Pair]) -> Pair:
    """Return the pair under which a pair is counted, and add it to those that are counted apart."""
    if pair == _OTHERS or (pair not in pairs and len(pairs) >= MOST_HISTORY_JOBS):
        return _OTHERS
    pairs.add(pair)
    return pair


def _find_pairs(connection: sqlite3.Connection, kind: _Kind, start: int) -> set[Pair]:
    """Return the pairs of name and queue that are counted apart in a period."""
    with decoding(connection):
        return {(name, queue) for name, queue in run(connection, "find_pairs", kind=kind, start=start)} - {_OTHERS}


def _find(
    connection: sqlite3.Connection,
    kind: _Kind,
    first: int,
    last: int,
    *,
    name: str | None = None,
    queue: str | None = None,
) -> list[_Count]:
    """Return the counts of the periods that start between two times. Damaged ones are left out."""
    with decoding(connection):
        rows = run(connection, "find_counts", kind=kind, first=first, last=last, name=name, queue=queue)
        counts = [_Count(kind, *row) for row in rows]
    return [count for count in counts if type(count.name) is type(count.queue) is type(count.metric) is str]


def _entry(start: int, name: str, queue: str, metrics: dict[str, int]) -> HistoryEntry:
    return HistoryEntry(
        start=moment(start),
        name=name,
        queue=queue,
        enqueued=metrics.get("enqueued", 0),
        completed=metrics.get("completed", 0),
        failed=metrics.get("failed", 0),
        cancelled=metrics.get("cancelled", 0),
        retried=metrics.get("retried", 0),
        recovered=metrics.get("recovered", 0),
        waits=tuple([metrics.get(metric, 0) for metric in _WAITS]),
        runs=tuple([metrics.get(metric, 0) for metric in _RUNS]),
    )
