"""coredis: `coredis.Redis`. Its connections are tasks of a task group, so each client of ours lives in a task too."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from coredis import Redis
from coredis.exceptions import ConnectionError as CoredisConnectionError
from coredis.exceptions import RedisError
from coredis.pool import ConnectionPool
from coredis.retry import ExponentialBackoffRetryPolicy, NoRetryPolicy

from flowli_core.drivers.redis._packing import Word
from flowli_core.drivers.redis.clients._errors import classified, code_of
from flowli_core.drivers.redis.clients._limits import LEAST_PAUSE, LONGEST_PAUSE, MOST_CONNECTIONS, PATIENCE, RETRIES
from flowli_core.errors import DefinitionError, DriverError, StoreUnavailable

if TYPE_CHECKING:
    from flowli_core.drivers.redis.clients import Client, Source


def adopt(client: Any, *, patience: float) -> Source:
    """Accept a client of one server that gives bytes. Raises DefinitionError."""
    kind: type[Any] = Redis
    if not isinstance(client, kind) or type(client.connection_pool) is not ConnectionPool:
        raise DefinitionError("client must be a coredis.Redis of one server; for others give a client of redis.asyncio")
    if client.decode_responses:
        raise DefinitionError(
            "client must not decode responses: payloads are bytes; make it without decode_responses=True"
        )
    return _Standalone(client, patience)


class _Connections:
    """A client that is entered already. `patience` bounds a command, in seconds, with all that it is sent again."""

    def __init__(self, client: Redis[Any], *, patience: float | None) -> None:
        self._client = client
        self._patience = patience

    async def execute(self, *words: Word) -> Any:
        """Send one command."""
        client = self._client
        request = client.create_request(str(words[0]).encode(), *words[1:], callback=_as_it_is)
        try:
            async with asyncio.timeout(self._patience):
                return await client.execute_command(request)
        except TimeoutError as error:
            client.connection_pool.disconnect()  # others would go on waiting behind the one that got no answer
            raise StoreUnavailable(f"Redis did not answer within {self._patience or PATIENCE} s") from error
        except (RedisError, OSError) as error:
            if code_of(error) == "READONLY":
                client.connection_pool.disconnect()  # the address may lead elsewhere by now
            raise classified(error) from error
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
        """Leave the client to its owner."""


class _Hosted(_Connections):
    """A client of our own, which a task enters with the first command and leaves when it is closed."""

    def __init__(self, client: Redis[Any], *, patience: float | None) -> None:
        super().__init__(client, patience=patience)
        self._host: asyncio.Task[None] | None = None
        self._entered = asyncio.Event()
        self._leaving = asyncio.Event()

    async def execute(self, *words: Word) -> Any:
        """Send one command."""
        if self._host is None or self._host.done():
            self._entered.clear()
            self._host = asyncio.create_task(self._hold())
        if not self._entered.is_set():
            await self._entered.wait()
        return await super().execute(*words)

    async def close(self) -> None:
        """Close the connections."""
        self._leaving.set()
        if self._host is not None:
            await asyncio.wait([self._host])

    async def _hold(self) -> None:
        # Should one of its tasks fail, all end, and what waits for an answer is told; the next command begins anew.
        with contextlib.suppress(Exception):
            async with self._client:
                self._entered.set()
                await self._leaving.wait()


class _Standalone:
    """A client of one server."""

    def __init__(self, client: Redis[Any], patience: float) -> None:
        self._client = client
        self._patience = patience

    @property
    def address(self) -> str:
        """Where the client leads."""
        pool = self._client.connection_pool
        tls = "s" if pool.connection_kwargs.get("ssl_context") else ""
        return f"redis{tls}://{pool.location}/{pool.connection_kwargs.get('db') or 0}"

    def own(self) -> Client:
        """Use the client as it is."""
        timeout = self._client.connection_pool.connection_kwargs.get("stream_timeout")
        return _Connections(self._client, patience=self._patience if timeout is None else None)

    def commands(self) -> Client:
        """Make another."""
        retry = ExponentialBackoffRetryPolicy(
            (CoredisConnectionError,), retries=RETRIES, base_delay=LEAST_PAUSE, max_delay=LONGEST_PAUSE, jitter=True
        )
        return _Hosted(self._like(retry), patience=self._patience)

    def waits(self) -> Client:
        """Make another for waits."""
        return _Hosted(self._like(NoRetryPolicy()), patience=None)

    def _like(self, retry: Any) -> Redis[Any]:
        pool = self._client.connection_pool
        options: dict[str, Any] = {**pool.connection_kwargs, "stream_timeout": None, "connect_timeout": PATIENCE}
        make: Any = ConnectionPool
        made = make(
            connection_class=pool.connection_class, location=pool.location, max_connections=MOST_CONNECTIONS, **options
        )
        return Redis(connection_pool=made, retry_policy=retry, verify_version=False)


def _is_entered(client: Redis[Any]) -> bool:
    try:
        return bool(client.connection_pool.task_group)
    except RuntimeError:
        return False


def _as_it_is(reply: Any, **_: Any) -> Any:
    return reply
