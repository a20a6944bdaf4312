"""Clients made as a user makes them, and a driver that also opens and closes its client."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

import coredis
from redis.asyncio import Redis
from valkey.asyncio import Valkey

from flowli_core.drivers.redis import RedisDriver

if TYPE_CHECKING:
    from flowli_core.clock import Clock
    from flowli_core.durations import Duration

Library = Literal["redis", "valkey", "coredis"]


def client_of(library: Library, url: str) -> Any:
    """Make a client of one server."""
    if library == "redis":
        return Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]
    if library == "valkey":
        return Valkey.from_url(url)
    return coredis.Redis.from_url(url)


class OwningDriver(RedisDriver):
    """A driver whose client only it uses. A task enters and leaves the client, like a user's `async with`."""

    def __init__(self, client: Any, *, prefix: str, clock: Clock | None = None, patience: Duration = "5s") -> None:
        super().__init__(client, prefix=prefix, clock=clock, patience=patience)
        self._given = client
        self._owner: asyncio.Task[None] | None = None
        self._entered, self._leaving = asyncio.Event(), asyncio.Event()

    async def open(self) -> None:
        """Enter the client, then open the driver."""
        if self._owner is None:
            self._owner = asyncio.create_task(self._hold_client())
            await self._entered.wait()
        await super().open()

    async def close(self) -> None:
        """Close the driver, then leave the client."""
        await super().close()
        self._leaving.set()
        if self._owner is not None:
            await self._owner
        self._owner = None

    async def _hold_client(self) -> None:
        self._leaving.clear()
        async with self._given:
            self._entered.set()
            await self._leaving.wait()
        self._entered.clear()
