"""Script calls over the connections of redis-py or valkey-py, without the detours of their client objects.

What those do around each command (a connection from the pool under a lock, metrics, response callbacks, a retry object)
takes longer than the call. Connections, their set-up and their errors stay the library's.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import random
from collections.abc import Callable
from typing import Any

from flowli_core.drivers.redis._packing import Word
from flowli_core.drivers.redis.clients._limits import LEAST_PAUSE, LONGEST_PAUSE, MOST_CONNECTIONS

hiredis: Any = importlib.import_module("hiredis") if importlib.util.find_spec("hiredis") else None


_MOST_IDLE = 32
"""How many connections are kept for later."""


class Express:
    """Connections of a pool's kind, each used for one exchange at a time. `retries`: how often one is sent again."""

    def __init__(self, pool: Any, *, broken: type[Exception], refused: type[Exception], retries: int) -> None:
        self._pool = pool
        self._broken = broken
        self._refused = refused
        self._retries = retries
        self._idle: list[Any] = []
        self._places = asyncio.Semaphore(MOST_CONNECTIONS)
        self._is_closed = False

    async def send(self, *commands: tuple[Word, ...]) -> list[Any]:
        """Send commands at once on one connection, and answer their replies. Raises the first refusal among them."""
        pause = LEAST_PAUSE
        for attempt in range(self._retries + 1):
            try:
                replies = await self._exchange(commands)
                break
            except self._broken:
                if attempt == self._retries:
                    raise
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - no secret
            pause = min(pause * 2, LONGEST_PAUSE)
        else:
            raise AssertionError("the last attempt raises")
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def forget(self) -> None:
        """Break the idle connections: each leads, at its next use, to where the address leads then."""
        for connection in self._idle:
            await connection.disconnect()

    async def close(self) -> None:
        """Break the connections."""
        self._is_closed = True
        await self.forget()

    async def _exchange(self, commands: tuple[tuple[Word, ...], ...]) -> list[Any]:
        async with self._places:
            return await self._exchange_on(self._idle.pop() if self._idle else self._pool.make_connection(), commands)

    async def _exchange_on(self, connection: Any, commands: tuple[tuple[Word, ...], ...]) -> list[Any]:
        try:
            if not connection.is_connected:
                await connection.connect()  # sending connects as well, but not to where a Sentinel says
            packed = [piece for command in commands for piece in connection.pack_command(*command)]
            await connection.send_packed_command(packed, check_health=False)
            return [await self._reply(connection) for _ in commands]
        except BaseException:
            # Half of an exchange is left on it: nobody may read that for an answer.
            await connection.disconnect(nowait=True)
            raise
        finally:
            if self._is_closed or len(self._idle) >= _MOST_IDLE:
                await connection.disconnect(nowait=True)
            else:
                self._idle.append(connection)

    async def _reply(self, connection: Any) -> Any:
        try:
            return await connection.read_response()
        except self._refused as refusal:
            return refusal


def packing_in_c(connection_class: type[Any]) -> type[Any]:
    """Let hiredis write the commands too: the libraries only let it read, and a step has hundreds of words."""
    if hiredis is None:
        return connection_class
    pack: Callable[[tuple[Word, ...]], bytes] = hiredis.pack_command

    def pack_command(_: object, *args: Word) -> list[bytes]:
        return [pack((*str(args[0]).split(), *args[1:]))]

    made: type[Any] = type(connection_class.__name__, (connection_class,), {"pack_command": pack_command})
    return made
