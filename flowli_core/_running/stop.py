"""The request to stop a run, and the deadline that it sets."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

from flowli_core._running.steps import StepClient
from flowli_core.errors import StoreUnavailable

T = TypeVar("T")


class Stop:
    """The stop of a run: requested once, or again with an earlier deadline."""

    def __init__(self, client: StepClient) -> None:
        self._client = client
        self._requested = asyncio.Event()
        self._deadline: float | None = None
        self._timeout: asyncio.Timeout | None = None

    @property
    def is_requested(self) -> bool:
        """True once a stop was requested."""
        return self._requested.is_set()

    def request(self, *, within: float) -> None:
        """Request a stop. Its deadline is `within` seconds from now, unless an earlier request set an earlier one.

        At the deadline `before_deadline` ends, also if it was called before the request.
        """
        deadline = asyncio.get_running_loop().time() + within
        self._deadline = deadline if self._deadline is None else min(self._deadline, deadline)
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(self._deadline)
        self._requested.set()

    async def before_deadline(self, work: Coroutine[Any, Any, T]) -> T:
        """Await the work, and cancel it at the deadline of the stop.

        Then it raises StoreUnavailable, because only a call to the store can still be waiting at that time.
        """
        timeout = self._timeout = asyncio.timeout_at(self._deadline)
        try:
            async with timeout:
                return await work
        except TimeoutError:
            if not timeout.expired():
                raise
            raise StoreUnavailable(
                f"the store did not answer before the deadline of the stop ({self._client.last_error or 'no error'})"
            ) from None
        finally:
            self._timeout = None

    async def sleep(self, seconds: float) -> None:
        """Sleep. End early when a stop is requested, but sleep in full if it was requested before."""
        if self.is_requested:
            await asyncio.sleep(seconds)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._requested.wait()
