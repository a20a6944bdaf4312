"""redis-py and its fork valkey-py: one library under two names, so one implementation over what they name apart."""

from __future__ import annotations

import asyncio
import copy
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flowli_core.drivers.redis._packing import Word
from flowli_core.drivers.redis.clients._errors import classified, code_of
from flowli_core.drivers.redis.clients._express import Express, packing_in_c
from flowli_core.drivers.redis.clients._limits import MOST_CONNECTIONS, PATIENCE, RETRIES
from flowli_core.errors import DefinitionError, StoreUnavailable

if TYPE_CHECKING:
    from flowli_core.drivers.redis.clients import Client, Source

_OFTEN = frozenset({"EVALSHA", "BZPOPMIN"})
"""Commands whose replies need no response callback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """What the two name differently. `retry` makes the library's policy, and `cluster_retry` a cluster's options."""

    name: str
    standalone: type[Any]
    cluster: type[Any]
    cluster_node: type[Any]
    pool: type[Any]
    errors: tuple[type[Exception], ...]
    broken: type[Exception]
    refused: type[Exception]
    retry: Callable[[int], Any]
    cluster_retry: Callable[[int], dict[str, Any]]

    def adopt(self, client: Any, *, patience: float) -> Source:
        """Accept an asynchronous client that gives bytes. Raises DefinitionError."""
        if not isinstance(client, self.standalone | self.cluster):
            got = f"{type(client).__module__}.{type(client).__name__}"
            raise DefinitionError(f"client must be asynchronous, got {got}; give one of {self.name}.asyncio")
        if _options(client).get("decode_responses"):
            raise DefinitionError(
                "client must not decode responses: payloads are bytes; make it without decode_responses=True"
            )
        if isinstance(client, self.cluster):
            if getattr(client, "read_from_replicas", False) or getattr(client, "load_balancing_strategy", None):
                raise DefinitionError(
                    "client must not read from replicas: they are behind; make it without that option"
                )
            return _Cluster(self, client, patience)
        if not getattr(client.connection_pool, "is_master", True):
            raise DefinitionError("client must be that of a master: make it with Sentinel.master_for(...)")
        return _Standalone(self, client, patience)

    def from_url(self, url: str) -> Any:
        """Make a client. Raises DefinitionError, which does not repeat the URL: it holds a password."""
        try:
            client = self.standalone.from_url(url)
        except (ValueError, AttributeError, TypeError) as error:
            raise DefinitionError("url must hold a host, and a port below 65536") from error
        port = _options(client).get("port", 0)
        if not isinstance(port, int) or not 0 <= port < 65536:  # noqa: PLR2004 - what a port is
            raise DefinitionError("url must have a port below 65536")
        return client


class _Connections:
    """A client of the library in use. `patience` bounds a command, in seconds, with all that it is sent again."""

    def __init__(self, library: Library, client: Any, *, is_ours: bool, patience: float | None) -> None:
        self._errors = library.errors
        self._client = client
        self._is_ours = is_ours
        self._patience = patience
        self._send: Callable[..., Awaitable[Any]] = client.execute_command

    def execute(self, *words: Word) -> Awaitable[Any]:
        """Send one command."""
        return self._bounded(self._send(*words))

    async def at(self, key: str, *words: Word) -> Any:  # noqa: ARG002 - there is one server
        """Send a command that names no key."""
        return await self.execute(*words)

    async def _bounded(self, asked: Awaitable[Any]) -> Any:
        task = asyncio.current_task()
        cancelled = task.cancelling() if task else 0
        try:
            async with asyncio.timeout(self._patience):
                reply = await asked
        except TimeoutError as error:
            raise StoreUnavailable(f"Redis did not answer within {self._patience or PATIENCE} s") from error
        except self._errors as error:
            await self._look_again(error)
            raise classified(error) from error
        if task and task.cancelling() > cancelled:
            # These libraries send with asyncio.wait_for, which loses a cancellation now and then up to Python 3.11.
            raise asyncio.CancelledError
        return reply

    async def close(self) -> None:
        """Close the connections, where the client is not the user's own."""
        if self._is_ours:
            await self._client.aclose()
            for sentinel in getattr(_manager_of(self._client), "sentinels", ()):
                await sentinel.aclose()

    async def _look_again(self, error: Exception) -> None:
        """After a failover the address may lead elsewhere, but connections that wait in the pool still lead here."""
        if code_of(error) == "READONLY":
            await self._client.connection_pool.disconnect(inuse_connections=False)


class _Own(_Connections):
    """The same over one server with a client that is ours: what is sent often goes by express."""

    def __init__(self, library: Library, client: Any, *, patience: float | None, retries: int) -> None:
        super().__init__(library, client, is_ours=True, patience=patience)
        pool = client.connection_pool
        self._express = Express(pool, broken=library.broken, refused=library.refused, retries=retries)

    def execute(self, *words: Word) -> Awaitable[Any]:
        """Send one command."""
        return self._bounded(self._by_express(words) if words[0] in _OFTEN else self._send(*words))

    async def execute_both(self, first: tuple[Word, ...], second: tuple[Word, ...]) -> tuple[Any, Any]:
        """Send two commands at once."""
        one, other = await self._bounded(self._express.send(first, second))
        return one, other

    async def close(self) -> None:
        """Close the connections."""
        await self._express.close()
        await super().close()

    async def _by_express(self, words: tuple[Word, ...]) -> Any:
        (reply,) = await self._express.send(words)
        return reply

    async def _look_again(self, error: Exception) -> None:
        await super()._look_again(error)
        if code_of(error) == "READONLY":
            await self._express.forget()


class _ClusterConnections(_Connections):
    """The same over a cluster, which routes by the keys of a command."""

    async def at(self, key: str, *words: Word) -> Any:
        """Send a command to the server that holds the key."""

        async def ask() -> Any:
            await self._client.initialize()
            node = self._client.get_node_from_key(key)
            return await self._client.execute_command(*words, target_nodes=node)

        return await self._bounded(ask())

    async def _look_again(self, error: Exception) -> None:
        if code_of(error) == "READONLY":
            await self._client.aclose()  # it learns the cluster anew with the next command


class _Standalone:
    """A client of one server, by its address or by what Sentinels say."""

    def __init__(self, library: Library, client: Any, patience: float) -> None:
        self._library = library
        self._client = client
        self._patience = patience

    @property
    def address(self) -> str:
        """Where the client leads: its server, or the master that Sentinels know by this name."""
        pool, options = self._client.connection_pool, _options(self._client)
        if "path" in options:
            return f"unix://{options['path']}"
        tls = "s" if "SSL" in pool.connection_class.__name__ else ""
        where = getattr(pool, "service_name", None) or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
        return f"redis{tls}://{where}/{options.get('db') or 0}"

    def own(self) -> Client:
        """Use the client as it is."""
        patience = self._patience if _options(self._client).get("socket_timeout") is None else None
        return _Connections(self._library, self._client, is_ours=False, patience=patience)

    def commands(self) -> Client:
        """Make another. The time limit is ours: the library makes a task for every command to keep its own."""
        made = _like(self._library, self._client, retries=RETRIES)
        return _Own(self._library, made, patience=self._patience, retries=RETRIES)

    def waits(self) -> Client:
        """Make another for waits."""
        return _Own(self._library, _like(self._library, self._client, retries=0), patience=None, retries=0)


class _Cluster:
    """A client of a cluster."""

    def __init__(self, library: Library, client: Any, patience: float) -> None:
        self._library = library
        self._client = client
        self._patience = patience

    @property
    def address(self) -> str:
        """The nodes that the client asks for the others."""
        tls = "s" if "SSL" in _options(self._client)["connection_class"].__name__ else ""
        return f"redis{tls}://{','.join(sorted(self._client.nodes_manager.startup_nodes))}"

    def own(self) -> Client:
        """Use the client as it is."""
        patience = self._patience if _options(self._client).get("socket_timeout") is None else None
        return _ClusterConnections(self._library, self._client, is_ours=False, patience=patience)

    def commands(self) -> Client:
        """Make another."""
        made = self._like(retries=RETRIES)
        return _ClusterConnections(self._library, made, is_ours=True, patience=self._patience)

    def waits(self) -> Client:
        """Make another for waits."""
        return _ClusterConnections(self._library, self._like(retries=0), is_ours=True, patience=None)

    def _like(self, *, retries: int) -> Any:
        given, nodes = self._client, self._client.nodes_manager
        options = _options(given)
        kept = {name: options[name] for name in inspect.signature(type(given).__init__).parameters if name in options}
        limits = {"socket_timeout": None, "socket_connect_timeout": PATIENCE, "max_connections": MOST_CONNECTIONS}
        class_of_connections = options["connection_class"]
        made = self._library.cluster(
            startup_nodes=[
                self._library.cluster_node(node.host, node.port)
                for node in {**nodes.startup_nodes, **nodes.nodes_cache}.values()
            ],
            **(kept | limits | self._library.cluster_retry(retries)),
            ssl="SSL" in class_of_connections.__name__,
            require_full_coverage=nodes.require_full_coverage,
            address_remap=nodes.address_remap,
        )
        packing = packing_in_c(class_of_connections)
        made.connection_kwargs["connection_class"] = packing
        for node in made.nodes_manager.startup_nodes.values():
            node.connection_class = packing
        return made


def _like(library: Library, client: Any, *, retries: int) -> Any:
    pool = client.connection_pool
    options = _options(client)
    options.pop("maint_notifications_pool_handler", None)  # it belongs to the other pool
    options |= {
        "health_check_interval": 0,
        "max_connections": MOST_CONNECTIONS,
        "socket_timeout": None,
        "socket_connect_timeout": PATIENCE,
        "retry": library.retry(retries),
        "connection_class": packing_in_c(pool.connection_class),
    }
    manager = _manager_of(client)
    if manager is None:
        return library.standalone.from_pool(library.pool(**options))
    asks = copy.copy(manager)
    asks.sentinels = [_asking_like(library, sentinel) for sentinel in manager.sentinels]
    del options["connection_pool"]  # it is the other one
    made = type(pool)(pool.service_name, asks, is_master=True, check_connection=pool.check_connection, **options)
    return library.standalone.from_pool(made)


def _asking_like(library: Library, sentinel: Any) -> Any:
    options = _options(sentinel)
    options.pop("maint_notifications_pool_handler", None)
    pool = sentinel.connection_pool
    return library.standalone.from_pool(library.pool(connection_class=pool.connection_class, **options))


def _manager_of(client: Any) -> Any:
    return getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)


def _options(client: Any) -> dict[str, Any]:
    pool = getattr(client, "connection_pool", client)
    return dict(pool.connection_kwargs)
