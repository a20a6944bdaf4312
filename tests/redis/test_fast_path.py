"""The connections of the fast path: made once, also if the command that needed one was given up meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flowli_core.drivers.redis._clients._fast_path import FastPath
from tests.support.running import breathe, soon


class Connection:
    """A connection that connects when the test allows it, and answers every command."""

    def __init__(self, may_connect: asyncio.Event) -> None:
        self.is_connected = False
        self._may_connect = may_connect

    async def connect(self) -> None:
        await self._may_connect.wait()
        self.is_connected = True

    async def disconnect(self, *, nowait: bool = False) -> None:  # noqa: ARG002 - an option of the libraries
        self.is_connected = False

    def pack_command(self, *words: str) -> list[bytes]:
        return [" ".join(words).encode()]

    async def send_packed_command(self, command: list[bytes], *, check_health: bool) -> None:
        pass

    async def read_response(self) -> bytes:
        return b"PONG"


class Pool:
    """Makes connections, and keeps a list of them."""

    def __init__(self) -> None:
        self.may_connect = asyncio.Event()
        self.made: list[Connection] = []

    def make_connection(self) -> Connection:
        self.made.append(Connection(self.may_connect))
        return self.made[-1]


@pytest.fixture
def pool() -> Pool:
    return Pool()


def path_to(pool: Any) -> FastPath:
    return FastPath(pool, broken=ConnectionError, refused=ValueError, retries=0)


async def give_up(path: FastPath) -> None:
    """Send a command, and cancel it while it waits for a connection."""
    task = asyncio.create_task(path.send(("PING",)))
    await breathe()
    task.cancel()
    await asyncio.wait((task,))
    assert task.cancelled()


@pytest.mark.parametrize("is_connected_before", [False, True])
async def test_connecting_goes_on_after_the_command_was_given_up(pool: Pool, *, is_connected_before: bool) -> None:
    """Otherwise a command with a time limit would never succeed if connecting takes longer."""
    path = path_to(pool)
    await give_up(path)
    if is_connected_before:
        pool.may_connect.set()
        await breathe()
    sent = asyncio.create_task(path.send(("PING",)))
    await breathe()
    pool.may_connect.set()
    assert await soon(sent) == b"PONG"
    (connection,) = [one for one in pool.made if one.is_connected]
    await path.close()
    assert not connection.is_connected


async def test_connections_that_nobody_waits_for_are_closed(pool: Pool) -> None:
    """One is still being made, and the other is connected."""
    path = path_to(pool)
    await give_up(path)
    pool.may_connect.set()
    await breathe()
    await path.close()
    assert [one.is_connected for one in pool.made] == [False]
    pool.may_connect.clear()
    other = path_to(pool)
    await give_up(other)
    await other.close()
    assert [one.is_connected for one in pool.made] == [False, False]
