"""A faster way to send commands over the connections of redis-py or valkey-py, past their client objects.

Around each command those take a connection from the pool under a lock, record metrics, and run response callbacks and a
retry object, which takes longer than the command. Connections, their handshake and their errors remain the library's.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import random
from collections.abc import Callable
from typing import Any

from flowli_core.drivers.redis._clients._limits import LEAST_PAUSE, LONGEST_PAUSE, MOST_CONNECTIONS, PATIENCE
from flowli_core.drivers.redis._packing import Word

hiredis: Any = importlib.import_module("hiredis") if importlib.util.find_spec("hiredis") else None

_MOST_CONNECTING = 2 * PATIENCE
"""Seconds that connecting may take, with the handshake. It may take longer than the command that needs it."""

_MOST_IDLE = 32
"""The number of idle connections to keep."""


class FastPath:
    """Connections of a pool's kind, each used for one exchange at a time. An exchange that breaks is retried.

    Delete this class, and send by `client.execute_command`, once that makes "enqueue one by one" and the drain of
    `make bench ONLY=Flowli` less than 5 % slower.
    """

    def __init__(self, pool: Any, *, broken: type[Exception], refused: type[Exception], retries: int) -> None:
        self._pool = pool
        self._broken = broken
        self._refused = refused
        self._retries = retries
        self._idle: list[Any] = []
        self._connecting: list[asyncio.Task[Any]] = []
        """The connections that are being made, or were made, for exchanges that were cancelled meanwhile."""
        self._unused = asyncio.Semaphore(MOST_CONNECTIONS)
        self._is_closed = False

    async def send(self, *commands: tuple[Word, ...]) -> Any:
        """Send commands at once on one connection, and return the last reply. Raises the first refusal."""
        pause = LEAST_PAUSE
        for _ in range(self._retries):
            try:
                return await self._exchange(commands)
            except self._broken:
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - no secret
                pause = min(pause * 2, LONGEST_PAUSE)
        return await self._exchange(commands)

    async def disconnect(self) -> None:
        """Close the idle connections. At its next use each connects to the server that the address then leads to."""
        abandoned, self._connecting = self._connecting, []
        for task in abandoned:
            task.cancel()
        made = await asyncio.gather(*abandoned, return_exceptions=True)
        self._idle += [connection for connection in made if not isinstance(connection, BaseException)]
        for connection in self._idle:
            await connection.disconnect()

    async def close(self) -> None:
        """Close the connections, also those in use as soon as their exchange ends."""
        self._is_closed = True
        await self.disconnect()

    async def _exchange(self, commands: tuple[tuple[Word, ...], ...]) -> Any:
        reply = refusal = None
        async with self._unused:
            connection = self._idle.pop() if self._idle else self._pool.make_connection()
            if not connection.is_connected:
                connection = await self._connect(connection)
            try:
                packed = [piece for command in commands for piece in connection.pack_command(*command)]
                await connection.send_packed_command(packed, check_health=False)
                for _ in commands:
                    try:
                        reply = await connection.read_response()
                    except self._refused as error:
                        refusal = refusal or error
            except BaseException:
                # A reply may still arrive: nobody may read it as the reply to a later command.
                await connection.disconnect(nowait=True)
                raise
            finally:
                if self._is_closed or len(self._idle) >= _MOST_IDLE:
                    await connection.disconnect(nowait=True)
                else:
                    self._idle.append(connection)  # a disconnected one connects again at its next use
        if refusal is not None:
            raise refusal
        return reply

    async def _connect(self, connection: Any) -> Any:
        """Connect, and return a connection. If this is cancelled, connecting goes on, and the next caller gets it.

        On a slow network a heartbeat has less time than connecting takes, so it would never succeed otherwise.
        """
        task = self._connecting.pop() if self._connecting else asyncio.create_task(_connected(connection))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may await it
                self._connecting.append(task)
            raise


async def _connected(connection: Any) -> Any:
    try:
        async with asyncio.timeout(_MOST_CONNECTING):
            await connection.connect()  # sending would connect too, but not ask a Sentinel for the address
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return connection


def pack_with_hiredis(connection_class: type[Any]) -> type[Any]:
    """Return a connection class that writes commands with hiredis, if it is installed.

    The libraries use hiredis for reading only, and a step has hundreds of words.
    """
    if hiredis is None:
        return connection_class
    pack: Callable[[tuple[Word, ...]], bytes] = hiredis.pack_command

    def pack_command(_: object, *args: Word) -> list[bytes]:
        return [pack((*str(args[0]).split(), *args[1:]))]

    made: type[Any] = type(connection_class.__name__, (connection_class,), {"pack_command": pack_command})
    return made
