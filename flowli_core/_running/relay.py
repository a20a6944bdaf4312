"""The part of a run that serves the outbox of its registry: it sends the records that another process left behind."""

import asyncio
import random

from flowli_core._jobs.deliveries import Deliveries
from flowli_core._logger import logger
from flowli_core._pauses import keep_trying
from flowli_core.errors import StrategyError

_SECONDS_BETWEEN = 5.0
"""Seconds between two searches. The process that commits a transaction sends its records itself, at once."""

_SECONDS_BEFORE_LAST = 0.05
"""Seconds before one more search after the last row was found: another process may just have returned its claims."""

_END_WITHIN = 2.0
"""Seconds that a relay has after its cancellation for the records that it has claimed. Others may not send them."""


async def relay_for_ever(deliveries: Deliveries) -> None:
    """Send what was left behind in the outbox, again and again. No fault of the database or the store ends it.

    It ends when the registry is closed.
    """
    logged: str | None = None

    def note_failure(error: BaseException) -> None:
        nonlocal logged
        described = f"{type(error).__name__}: {error}"
        if described != logged:
            logged = described
            logger.warning("the outbox cannot be relayed, retrying: %s", described)

    found_before = 0
    while True:
        try:
            found = await keep_trying(lambda: _relay(deliveries), on_error=note_failure)
        except StrategyError:
            return
        if logged is not None:
            logged = None
            logger.info("the outbox is relayed again")
        if not found:
            # With jitter, so that a fleet does not search all at once.
            pause = _SECONDS_BEFORE_LAST if found_before else _SECONDS_BETWEEN
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
        found_before = found


async def relay_all(deliveries: Deliveries) -> int:
    """Send all that waits in the outbox and is not being sent by another process. Return how many records were found.

    Raises OutboxUnavailable if the database fails, and StoreUnavailable if the store does.
    """
    await deliveries.finish()
    total = 0
    while found := await deliveries.relay():
        total += found
    return total


async def _relay(deliveries: Deliveries) -> int:
    """Relay once. A cancellation waits until what was claimed is sent, but only for seconds."""
    relay = asyncio.ensure_future(deliveries.relay())
    try:
        return await asyncio.shield(relay)
    except asyncio.CancelledError:
        await asyncio.wait((relay,), timeout=_END_WITHIN)
        relay.cancel()
        await asyncio.wait((relay,))
        raise
