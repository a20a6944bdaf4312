"""Pages of listings, which are read in parts, so that no call holds up the store."""

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from flowli_core.limits import MAX_BATCH_BYTES

T = TypeVar("T")
P = TypeVar("P")

_BYTES_PER_CALL = 1024 * 1024
"""A call reads about this much: its answer must pass a slow network within the time limit of a call."""


async def read_page(
    read: Callable[[int, P | None], Awaitable[tuple[list[T], P | None]]],
    limit: int,
    *,
    after: P | None,
    size: Callable[[T], int],
    first: int,
    most: int,
    seconds: float | None = None,
) -> tuple[list[T], P | None]:
    """Return a page of up to `limit` entries, and the position from which the next page goes on.

    `read` returns up to so many entries behind a position, and the position from which it goes on, or None if there are
    no others. The first call reads `first` entries, and each later one as many as fit by their `size`, but not more
    than `most`. The page ends early once it exceeds 8 MiB, or after so many seconds.
    """
    found: list[T] = []
    total, started = 0, time.monotonic()
    while True:
        fitting = _BYTES_PER_CALL * len(found) // max(total, 1) if found else first
        part, after = await read(min(limit - len(found), max(fitting, 1), most), after)
        found += part
        total += sum(map(size, part))
        is_late = seconds is not None and time.monotonic() - started > seconds
        if after is None or len(found) >= limit or total > MAX_BATCH_BYTES or is_late:
            return found, after
