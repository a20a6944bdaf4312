"""Pauses between attempts to reach a store, and how to tell a cancelled task from a failed call."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Seconds between attempts to reach the store; they double from the first, and each is spread over half its length."""


def is_cancelled(error: BaseException) -> bool:
    """Whether this task was cancelled. A CancelledError alone may as well come from something inside a driver."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def pauses() -> Iterator[float]:
    """Growing pauses in seconds, without end, capped and jittered so that a fleet does not come back in step."""
    pause = FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.5, 1)  # noqa: S311 - no secret
        pause = min(pause * 2, LONGEST_PAUSE)
