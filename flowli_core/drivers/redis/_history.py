"""Reads the history in calls that are short, however many entries there are: see lua/shared/add_history.lua."""

import re
from collections import Counter

from flowli_core.drivers._periods import KEPT, LENGTHS
from flowli_core.drivers._times import moment, stamp
from flowli_core.drivers.redis._packing import is_text, read_number
from flowli_core.drivers.redis._scripts import Scripts
from flowli_core.history import DURATION_BUCKETS, HistoryEntry, HistoryQuery

_PAIRS_PER_CALL, _ENTRIES_PER_CALL = 10, 500


_PAIR = re.compile(rb"([^\n]*)\n([^\n]*)")
"""The queue and the name of an entry."""

_NUMBER = re.compile(rb"([evFX]|[cfrxw][0-9a-r]) (\d{1,16})(?: |$)")
"""The metric and its number, one of those that an entry holds."""

_EVENTS = {
    "e": "enqueued",
    "v": "recovered",
    "F": "failed",
    "X": "cancelled",
    "c": "completed",
    "f": "failed",
    "r": "retried",
    "x": "cancelled",
}


async def read_history(scripts: Scripts, query: HistoryQuery) -> tuple[int, list[HistoryEntry]]:
    """Return the server's time in ms, and the entries that a query finds.

    The numbers that are not folded yet are folded first. What is counted after that belongs to the next read.
    """
    now, pairs = await scripts.fold_history(most=_PAIRS_PER_CALL)
    for _ in range(_PAIRS_PER_CALL, pairs, _PAIRS_PER_CALL):
        await scripts.fold_history(most=_PAIRS_PER_CALL)
    entries, periods = list[HistoryEntry](), _periods(query, now)
    while periods:
        read, found = await scripts.read_history([key for key, _ in periods], most=_ENTRIES_PER_CALL)
        for position, pair, numbers in zip(found[::3], found[1::3], found[2::3], strict=True):
            names = _PAIR.fullmatch(pair)
            if names is None or not is_text(pair):
                continue
            queue, name = names[1].decode(), names[2].decode()
            if query.name in {None, name} and query.queue in {None, queue}:
                _, start = periods[int(position)]
                entries.append(_to_entry(start, name, queue, numbers))
        periods = periods[read:]
    return now, sorted(entries, key=lambda one: (one.start, one.name, one.queue))


def _periods(query: HistoryQuery, now: int) -> list[tuple[str, int]]:
    """Return the end of the key and the start of each period that a query is about."""
    if query.resolution == "total":
        return [("total", 0)]
    length, kept = LENGTHS[query.resolution], KEPT[query.resolution]
    last = (now if query.before is None else stamp(query.before) - 1) // length
    first = max(last - query.periods + 1, (now - kept) // length)
    # There may be later periods than the present one if the clock was set back.
    numbers = range(first, min(last, (now + kept) // length) + 1)
    return [(f"{query.resolution}:{number}", number * length) for number in numbers]


def _to_entry(start: int, name: str, queue: str, numbers: bytes) -> HistoryEntry:
    events = Counter[str]()
    waits, runs = [0] * DURATION_BUCKETS, [0] * DURATION_BUCKETS
    for metric, digits in _NUMBER.findall(numbers):
        kind, bucket, number = metric[:1].decode(), metric[1:], read_number(digits) or 0
        if kind in _EVENTS:
            events[_EVENTS[kind]] += number
        if bucket:
            histogram = waits if kind == "w" else runs
            histogram[int(bucket, 36)] += number
    return HistoryEntry(start=moment(start), name=name, queue=queue, waits=tuple(waits), runs=tuple(runs), **events)
