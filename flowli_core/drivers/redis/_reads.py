"""Reads that may take several calls, so that none of them holds up the server however many queues there are."""

from __future__ import annotations

from typing import Any

from flowli_core.drivers._times import stamp
from flowli_core.drivers.redis._packing import Word
from flowli_core.drivers.redis._scripts import Scripts
from flowli_core.stored import RecordById, RecordQuery, RecordsById, RecordsInState

_QUEUES_PER_CALL, _RECORDS_PER_CALL = 250, 256

_MOST_POSITIONS = 1024
_SPARE_POSITIONS = 50
"""The extra positions that are found, for entries whose record is missing or has moved to another state meanwhile."""

_Behind = tuple[int, Word]
"""The ms and the id of the position behind which a page begins."""


async def read_overview(scripts: Scripts) -> tuple[int, list[Any], list[Any], list[Any], list[Any]]:
    """Return the server's time and the rows of all queues, counts, workers and paused queues, as overview.lua does."""
    latest, cursor, queues, counts, workers, paused = await scripts.overview(cursor=b"0", most=_QUEUES_PER_CALL)
    while cursor != b"0":
        now, cursor, more_queues, more_counts, *_ = await scripts.overview(cursor=cursor, most=_QUEUES_PER_CALL)
        latest = max(latest, now)
        queues += more_queues
        counts += more_counts
    return latest, queues, counts, workers, paused


async def read_rows(scripts: Scripts, query: RecordQuery) -> list[Any]:
    """Return the rows of the records that a query asks for, as read_records.lua returns them."""
    if isinstance(query, RecordById):
        _, found = await scripts.read_records(query)
        return list(found)
    if isinstance(query, RecordsById):
        if not query.ids:
            return []
        _, found = await scripts.read_records(query)
        return list(found)
    after: _Behind | None = (-1, "") if query.after is None else (stamp(query.after.at), query.after.id)
    rows = list[Any]()
    while after is not None and len(rows) < query.limit:
        more, after = await _read_part(scripts, query, limit=query.limit - len(rows), after=after)
        rows += more
    return rows


async def _read_part(
    scripts: Scripts, query: RecordsInState, *, limit: int, after: _Behind
) -> tuple[list[Any], _Behind | None]:
    """Return up to `limit` rows behind a position, and the position behind which there may be more.

    The first call searches some of the queues. If there are no others, it reads their records too.
    """
    count = min(limit, _RECORDS_PER_CALL)
    most = max(count, _SPARE_POSITIONS)
    cursor, *found = await scripts.read_records(query, limit=count, after=after, most=most)
    if cursor == b"0":
        rows, *behind = found
        return rows, behind[0] if behind else None
    most = min(limit, _MOST_POSITIONS) + _SPARE_POSITIONS
    positions = await _find_positions(scripts, query, most=most, after=after)
    rows, start = list[Any](), 0
    while len(rows) < limit and start < len(positions):
        part = positions[start : start + _RECORDS_PER_CALL]
        _, more = await scripts.read_records(query, limit=limit - len(rows), cursor=b"-", positions=part)
        rows += more
        start += len(part)
    return rows, positions[-1][:2] if len(positions) == most else None


async def _find_positions(
    scripts: Scripts, query: RecordsInState, *, most: int, after: _Behind
) -> list[tuple[int, Word, Word]]:
    """Return the ms, id and queue of the first `most` waiting records behind a position.

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
