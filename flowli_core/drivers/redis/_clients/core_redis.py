"""The adapter to coredis: `coredis.Redis`."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from functools import partial
from typing import Any

from coredis import Redis
from coredis.exceptions import ConnectionError as CoredisConnectionError
from coredis.exceptions import RedisError
from coredis.pool import ConnectionPool
from coredis.retry import ExponentialBackoffRetryPolicy, NoRetryPolicy

from flowli_core.drivers.redis._clients import Source
from flowli_core.drivers.redis._clients._errors import code_of, translate, unanswered
from flowli_core.drivers.redis._clients._limits import (
    LEAST_PAUSE,
    LONGEST_PAUSE,
    MOST_CONNECTIONS,
    PATIENCE,
    extra_patience,
)
from flowli_core.drivers.redis._clients._tls import warn_of_weak_tls
from flowli_core.drivers.redis._packing import Word
from flowli_core.errors import DefinitionError, DriverError


def adopt(client: Any, *, patience: float) -> Source:
    """Accept a client of one server that returns bytes. Raises DefinitionError."""
    client_type: type[Any] = Redis
    pool_type: type[Any] = ConnectionPool
    if not isinstance(client, client_type) or type(client.connection_pool) is not pool_type:
        raise DefinitionError("client must be a coredis.Redis of one server; for others pass a client of redis.asyncio")
    if client.decode_responses:
        raise DefinitionError(
            "client must not decode responses: payloads are bytes; make it without decode_responses=True"
        )
    pool = client.connection_pool
    context = pool.connection_kwargs.get("ssl_context")
    if context is not None:
        warn_of_weak_tls(
            checks_certificate=context.verify_mode != ssl.CERT_NONE, checks_host_name=context.check_hostname
        )
    limit = patience if pool.connection_kwargs.get("stream_timeout") is None else None
    return Source(
        address=_address_of(client),
        users=_CoredisConnections(client, patience=limit),
        make=partial(_OurConnections, client),
        patience=patience,
    )


class _CoredisConnections:
    """A client that is open. `patience` limits each command with its retries, in seconds."""

    def __init__(self, client: Redis[Any], *, patience: float | None) -> None:
        self._client = client
        self._patience = patience

    async def execute(self, *words: Word) -> Any:
        """Send a command."""
        client = self._client
        limit = None if self._patience is None else self._patience + extra_patience.get()
        request = client.create_request(str(words[0]).encode(), *words[1:], callback=_unchanged)
        try:
            async with asyncio.timeout(limit):
                return await client.execute_command(request)
        except TimeoutError as error:
            client.connection_pool.disconnect()  # other calls would wait behind the one that got no reply
            raise unanswered(_address_of(client), limit) from error
        except (RedisError, OSError) as error:
            if code_of(error) == "READONLY":
                client.connection_pool.disconnect()  # after a failover the address may lead elsewhere
            raise translate(error) from error
        except RuntimeError as error:
            if not _is_entered(client):
                raise DriverError(
                    "the coredis client is not entered: open and use the driver inside `async with client:`"
                ) from error
            raise

    async def at(self, key: str, *words: Word) -> Any:  # noqa: ARG002 - there is one server
        """Send a command that names no key."""
        return await self.execute(*words)

    async def close(self) -> None:
        """Do nothing: the user closes the client."""


class _OurConnections(_CoredisConnections):
    """A client with connections of its own.

    The connections of coredis are tasks of a task group, which must be left by the task that has entered it. So a task
    of its own opens the client at the first command, and keeps it open until `close`.
    """

    def __init__(self, client: Redis[Any], *, retries: int, patience: float | None) -> None:
        super().__init__(_copy_of(client, retries=retries), patience=patience)
        self._opener: asyncio.Task[None] | None = None
        self._opened = asyncio.Event()
        self._closing = asyncio.Event()

    async def execute(self, *words: Word) -> Any:
        """Send a command. Open the client first, if it is not open yet or the failure of a connection has closed it."""
        if self._opener is None or self._opener.done():
            self._opened.clear()
            self._opener = asyncio.create_task(self._keep_open())
        if not self._opened.is_set():
            await self._opened.wait()
        return await super().execute(*words)

    async def close(self) -> None:
        """Close the connections."""
        self._closing.set()
        if self._opener is not None:
            await asyncio.wait([self._opener])

    async def _keep_open(self) -> None:
        # If the task of one connection fails, the client closes, and each command in flight raises. `execute` opens it
        # again.
        with contextlib.suppress(Exception):
            async with self._client:
                self._opened.set()
                await self._closing.wait()


def _address_of(client: Redis[Any]) -> str:
    pool = client.connection_pool
    tls = "s" if pool.connection_kwargs.get("ssl_context") else ""
    return f"redis{tls}://{pool.location}/{pool.connection_kwargs.get('db') or 0}"


def _copy_of(client: Redis[Any], *, retries: int) -> Redis[Any]:
    pool = client.connection_pool
    options: dict[str, Any] = {**pool.connection_kwargs, "stream_timeout": None, "connect_timeout": PATIENCE}
    make: Any = ConnectionPool
    ours = make(
        connection_class=pool.connection_class, location=pool.location, max_connections=MOST_CONNECTIONS, **options
    )
    policy = (
        NoRetryPolicy()
        if not retries
        else ExponentialBackoffRetryPolicy(
            (CoredisConnectionError,), retries=retries, base_delay=LEAST_PAUSE, max_delay=LONGEST_PAUSE, jitter=True
        )
    )
    return Redis(connection_pool=ours, retry_policy=policy, verify_version=False)


def _is_entered(client: Redis[Any]) -> bool:
    try:
        return bool(client.connection_pool.task_group)
    except RuntimeError:
        return False


def _unchanged(reply: Any, **_: Any) -> Any:
    return reply
