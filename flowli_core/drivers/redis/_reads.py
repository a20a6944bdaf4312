"""Reads that may take several calls, so that none of them holds up the server however many queues there are."""

from __future__ import annotations

from typing import Any

from flowli_core.drivers._times import stamp
from flowli_core.drivers.redis._packing import is_text
from flowli_core.drivers.redis._scripts import Scripts
from flowli_core.limits import MOST_LOOKED_AT
from flowli_core.stored import RecordQuery, RecordsById, RecordsInState

_QUEUES_PER_CALL, _RECORDS_PER_CALL = 250, 256

_MOST_POSITIONS = 1024
_SPARE_POSITIONS = 50
"""The extra positions that are found, for entries whose record is missing or has moved to another state meanwhile."""

_MOST_AT_FIRST = 100
"""The positions that are found to filter their records, if each of some queues may have that many."""

_Behind = tuple[int, bytes]
"""The ms and the id of the position behind which a page begins."""

_Found = tuple[int, bytes, bytes]
"""The ms, the id and the queue of a waiting record."""


async def read_overview(scripts: Scripts) -> tuple[int, list[Any], list[Any], list[Any]]:
    """Return the server's time, the rows of all queues, their counts, and what overview.lua answers only once."""
    latest, cursor, queues, counts, *others = await scripts.overview(cursor=b"0", most=_QUEUES_PER_CALL)
    while cursor != b"0":
        now, cursor, more_queues, more_counts, *_ = await scripts.overview(cursor=cursor, most=_QUEUES_PER_CALL)
        latest = max(latest, now)
        queues += more_queues
        counts += more_counts
    return latest, queues, counts, others


async def read_rows(scripts: Scripts, query: RecordQuery) -> tuple[list[Any], _Behind | None, int]:
    """Return the rows of the records that a query asks for, as read_records.lua returns them.

    Return also the position behind which a listing goes on, or None, and how many records were looked at.
    """
    if not isinstance(query, RecordsInState):
        if isinstance(query, RecordsById) and not query.ids:
            return [], None, 0
        _, rows = await scripts.read_records(query)
        return rows, None, len(rows)
    after: _Behind | None = (-1, b"") if query.after is None else (stamp(query.after.at), query.after.id.encode())
    rows, total = list[Any](), 0
    while after is not None and len(rows) < query.limit:
        more, after, looked_at = await _read_part(scripts, query, limit=query.limit - len(rows), after=after)
        rows += more
        total += looked_at
        if query.is_filtered():
            break
    return rows, after if total else None, total


async def _read_part(
    scripts: Scripts, query: RecordsInState, *, limit: int, after: _Behind
) -> tuple[list[Any], _Behind | None, int]:
    """Return up to `limit` rows behind a position, and the rest as `read_rows` does.

    The first call searches some of the queues. If there are no others, it reads their records too.
    """
    count = min(limit, _RECORDS_PER_CALL)
    most = max(count, _SPARE_POSITIONS)
    if query.is_filtered():
        searches_queues = query.state in {"queued", "scheduled"} and query.queue is None
        most = _MOST_AT_FIRST if searches_queues else MOST_LOOKED_AT
    cursor, *found = await scripts.read_records(query, limit=count, after=after, most=most)
    if cursor == b"0":
        rows, looked_at, *behind = found
        return rows, behind[0] if behind else None, looked_at
    most = MOST_LOOKED_AT if query.is_filtered() else min(limit, _MOST_POSITIONS) + _SPARE_POSITIONS
    positions = await _find_positions(scripts, query, most=most, after=after)
    rows, total = list[Any](), 0
    while len(rows) < limit and total < len(positions):
        part = positions[total : total + _RECORDS_PER_CALL]
        _, more, looked_at, *_ = await scripts.read_records(query, limit=limit - len(rows), cursor=b"-", positions=part)
        rows += more
        total += looked_at
        if looked_at < len(part):
            break
    has_more = len(positions) == most or total < len(positions)
    return rows, _last_valid(positions[:total]) if has_more else None, total


def _last_valid(positions: list[_Found]) -> _Behind | None:
    """Return the last position with a valid id: no other can be named. If there is none, return one before all ids."""
    for ms, record_id, _ in reversed(positions):
        if is_text(record_id):
            return ms, record_id
    return (positions[-1][0], b"") if positions else None


async def _find_positions(scripts: Scripts, query: RecordsInState, *, most: int, after: _Behind) -> list[_Found]:
    """Return the first `most` waiting records behind a position.

    Each call searches some of the queues. Once `most` positions are found, it returns none that is behind all of them.
    """
    queues = dict[tuple[int, bytes], bytes]()
    cursor, lowest = b"0", -1
    while True:
        cursor, *found = await scripts.read_records(query, after=after, most=most, lowest=lowest, cursor=cursor)
        # A scan may return a queue twice.
        queues |= zip(zip(found[::3], found[1::3], strict=True), found[2::3], strict=True)
        positions = sorted(queues, reverse=True)[:most]
        queues = {position: queues[position] for position in positions}
        if len(positions) == most:
            lowest = positions[-1][0]
        if cursor == b"0":
            return [(ms, record_id, queue) for (ms, record_id), queue in queues.items()]
