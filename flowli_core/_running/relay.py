"""The part of a run that serves the outbox of its registry: it sends the records that another process left behind."""

import asyncio
import random

from flowli_core._jobs.deliveries import Deliveries
from flowli_core._logger import logger
from flowli_core._pauses import keep_trying

_SECONDS_BETWEEN = 5.0
"""Seconds between two searches. The process that commits a transaction sends its records itself, at once."""


async def relay_for_ever(deliveries: Deliveries) -> None:
    """Send what was left behind in the outbox, again and again. No fault of the database or the store ends it."""
    logged: str | None = None

    def note_failure(error: BaseException) -> None:
        nonlocal logged
        described = f"{type(error).__name__}: {error}"
        if described != logged:
            logged = described
            logger.warning("the outbox cannot be relayed, retrying: %s", described)

    while True:
        found = await keep_trying(deliveries.relay, on_error=note_failure)
        if logged is not None:
            logged = None
            logger.info("the outbox is relayed again")
        if not found:
            # With jitter, so that a fleet does not search all at once.
            await asyncio.sleep(_SECONDS_BETWEEN * random.uniform(0.8, 1.2))  # noqa: S311 - no secret


async def relay_all(deliveries: Deliveries) -> int:
    """Send all that waits in the outbox and is not being sent by another process. Return how many records were found.

    Raises OutboxUnavailable if the database fails, and StoreUnavailable if the store does.
    """
    await deliveries.sent()
    total = 0
    while found := await deliveries.relay():
        total += found
    return total
