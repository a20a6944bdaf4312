"""The request to stop a run, and the deadline that it sets."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

from flowli_core._running.steps import StepClient
from flowli_core.errors import StoreUnavailable

T = TypeVar("T")


class Stop:
    """A stop that may be requested at any time, and again with an earlier deadline."""

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
        """Request a stop, and end what runs in `before_deadline` after this many seconds."""
        deadline = asyncio.get_running_loop().time() + within
        self._deadline = deadline if self._deadline is None else min(self._deadline, deadline)
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(self._deadline)
        self._requested.set()

    async def before_deadline(self, work: Coroutine[Any, Any, T]) -> T:
        """Await the work. Raises StoreUnavailable at the deadline: then the store hangs, or was not reached."""
        timeout = self._timeout = asyncio.timeout_at(self._deadline)
        try:
            async with timeout:
                return await work
        except TimeoutError:
            if not timeout.expired():
                raise
            raise StoreUnavailable(
                f"the store did not answer in the time that the stop allowed ({self._client.last_error})"
            ) from None
        finally:
            self._timeout = None

    async def sleep(self, seconds: float) -> None:
        """Sleep, but not beyond the moment at which a stop is requested."""
        if self.is_requested:
            await asyncio.sleep(seconds)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._requested.wait()
