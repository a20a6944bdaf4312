"""Retries of calls to the store: growing pauses, and the difference between a failed call and a cancelled task."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Seconds between two tries. Each pause doubles the last; jitter shortens it by up to a half."""


def is_cancelled(error: BaseException) -> bool:
    """Return True if this task was cancelled. A CancelledError alone may come from inside a driver."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def pauses() -> Iterator[float]:
    """Yield growing pauses in seconds, without end. They have jitter, so that a fleet does not retry all at once."""
    pause = FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.5, 1)  # noqa: S311 - no secret
        pause = min(pause * 2, LONGEST_PAUSE)
