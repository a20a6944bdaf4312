"""Reads that may take several calls, so that none of them holds up the server however many queues there are."""

from __future__ import annotations

from typing import Any

from flowli_core.drivers._times import stamp
from flowli_core.drivers.redis._packing import Word
from flowli_core.drivers.redis._scripts import Scripts
from flowli_core.stored import RecordById, RecordQuery, RecordsById, RecordsInState

_QUEUES_PER_CALL, _RECORDS_PER_CALL = 250, 256


async def read_overview(scripts: Scripts) -> tuple[int, list[Any], list[Any], list[Any]]:
    """Return the server's time and the rows of all queues, counts and workers, as overview.lua returns them."""
    latest, cursor, queues, counts, workers = await scripts.overview(cursor=b"0", most=_QUEUES_PER_CALL)
    while cursor != b"0":
        now, cursor, more_queues, more_counts, _ = await scripts.overview(cursor=cursor, most=_QUEUES_PER_CALL)
        latest = max(latest, now)
        queues += more_queues
        counts += more_counts
    return latest, queues, counts, workers


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
    after: tuple[int, Word] | None = (-1, "") if query.after is None else (stamp(query.after.at), query.after.id)
    rows = list[Any]()
    while after is not None and len(rows) < query.limit:
        limit = min(query.limit - len(rows), _RECORDS_PER_CALL)
        more, after = await _read_part(scripts, query, limit=limit, after=after)
        rows += more
    return rows


async def _read_part(
    scripts: Scripts, query: RecordsInState, *, limit: int, after: tuple[int, Word]
) -> tuple[list[Any], tuple[int, Word] | None]:
    """Return up to `limit` rows behind a position, and the position behind which there may be more.

    Each call searches some of the queues, and is given the positions that the calls before it have found.
    """
    cursor, found = b"0", list[Word]()
    while True:
        cursor, *found = await scripts.read_records(query, limit=limit, after=after, cursor=cursor, found=found)
        if cursor == b"0":
            rows, *behind = found
            return rows, behind[0] if behind else None
