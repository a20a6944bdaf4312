"""Retries of calls to the store: growing pauses, and the difference between a failed call and a cancelled task."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from flowli_core.errors import StrategyError

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Seconds between two tries. Each pause doubles the last; jitter shortens it by up to a half."""

T = TypeVar("T")


async def keep_trying(
    call: Callable[[], Awaitable[T]],
    *,
    on_error: Callable[[BaseException], None],
    tries: int | None = None,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> T:
    """Call until the call succeeds, with growing pauses, and return its result.

    Calls `on_error` after each failed try but the last. It may raise, to give up. Raises the error of the last try if
    the number of `tries` is limited. Raises a StrategyError at once, because a closed registry stays closed, and the
    cancellation of this task.
    """
    waits, failures = pauses(), 0
    while True:
        try:
            return await call()
        except StrategyError:
            raise
        except (Exception, asyncio.CancelledError) as error:
            failures += 1
            if is_cancelled(error) or failures == tries:
                raise
            on_error(error)
        await sleep(next(waits))


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
