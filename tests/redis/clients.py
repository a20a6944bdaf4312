"""Clients as a user makes them, with a driver that closes them in their owner's place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowli_core.drivers.redis import RedisDriver

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flowli_core.clock import Clock
    from flowli_core.drivers.redis.clients import UserClient


class OwningDriver(RedisDriver):
    """A driver over a client that nobody else uses."""

    def __init__(
        self,
        client: UserClient,
        close_client: Callable[[], Awaitable[object]],
        *,
        prefix: str,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(client, prefix=prefix, clock=clock)
        self._close_client = close_client

    async def close(self) -> None:
        """Close the driver, and then its client."""
        await super().close()
        await self._close_client()
