"""The adapter to redis-py and its fork valkey-py: the same code base under different names."""

from __future__ import annotations

import asyncio
import copy
import inspect
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from flowli_core.drivers.redis._clients import Client, Source
from flowli_core.drivers.redis._clients._errors import code_of, translate, unanswered
from flowli_core.drivers.redis._clients._fast_path import FastPath, pack_with_hiredis
from flowli_core.drivers.redis._clients._limits import MOST_CONNECTIONS, PATIENCE, extra_patience
from flowli_core.drivers.redis._clients._tls import warn_of_plain_sentinels, warn_of_weak_tls
from flowli_core.drivers.redis._clients._url import Kind, ParsedUrl
from flowli_core.drivers.redis._packing import Word
from flowli_core.errors import DefinitionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """The classes and errors of one of the two libraries.

    `retry` makes a retry policy for a number of retries, `cluster_retry` the same as options of a cluster client.
    """

    name: str
    standalone: type[Any]
    cluster: type[Any]
    cluster_node: type[Any]
    pool: type[Any]
    connections: dict[Kind, type[Any]]
    errors: tuple[type[Exception], ...]
    broken: type[Exception]
    refused: type[Exception]
    retry: Callable[[int], Any]
    cluster_retry: Callable[[int], dict[str, Any]]

    def adopt(self, client: Any, *, patience: float) -> Source:
        """Accept an asynchronous client that returns bytes. Raises DefinitionError."""
        if not isinstance(client, self.standalone | self.cluster):
            got = f"{type(client).__module__}.{type(client).__name__}"
            raise DefinitionError(f"client must be asynchronous, got {got}; pass one of {self.name}.asyncio")
        options = _options(client)
        if options.get("decode_responses"):
            raise DefinitionError(
                "client must not decode responses: payloads are bytes; make it without decode_responses=True"
            )
        self._warn_of_weak_tls(client)
        limit = patience if options.get("socket_timeout") is None else None
        if isinstance(client, self.cluster):
            if getattr(client, "read_from_replicas", False) or getattr(client, "load_balancing_strategy", None):
                raise DefinitionError(
                    "client must not read from replicas: they lag behind; make it without that option"
                )
            return Source(
                address=_address_of_cluster(client),
                users=_ClusterConnections(self, client, is_ours=False, patience=limit),
                make=partial(_connect_to_cluster, self, client),
                patience=patience,
            )
        if not getattr(client.connection_pool, "is_master", True):
            raise DefinitionError("client must connect to a master: make it with Sentinel.master_for(...)")
        return Source(
            address=_address_of(client),
            users=_Connections(self, client, is_ours=False, patience=limit),
            make=partial(_OurConnections, self, client),
            patience=patience,
        )

    def from_url(self, url: ParsedUrl) -> Any:
        """Make a client. Raises DefinitionError."""
        invalid: tuple[type[Exception], ...] = (TypeError, ValueError, *self.errors)
        try:
            pool = self.pool(connection_class=self.connections[url.kind], **url.options)
            pool.make_connection()  # it does not connect
        except invalid:
            raise DefinitionError(f"url has an option that {self.name} does not support for its scheme") from None
        return self.standalone.from_pool(pool)

    def _warn_of_weak_tls(self, client: Any) -> None:
        """Log warnings about the connections to the server, and to the Sentinels, whose options are apart."""
        if _has_tls(client):
            certificate, host_name = self._tls_checks(client)
            warn_of_weak_tls(checks_certificate=certificate, checks_host_name=host_name)
        sentinels = getattr(_manager_of(client), "sentinels", ())
        if _has_tls(client) and not all(map(_has_tls, sentinels)):
            warn_of_plain_sentinels()
        checks = [self._tls_checks(sentinel) for sentinel in sentinels if _has_tls(sentinel)]
        if checks:
            certificate, host_name = min(checks)
            where = " in the sentinel_kwargs of the Sentinel client"
            warn_of_weak_tls(
                checks_certificate=certificate, checks_host_name=host_name, to="the Sentinels", where=where
            )

    def _tls_checks(self, client: Any) -> tuple[bool, bool]:
        """Return True if the client checks the server's certificate, and True if it checks the host name in it."""
        options, defaults = _options(client), inspect.signature(self.connections["tls"].__init__).parameters
        certificate, host_name = (
            options.get(name, defaults[name].default) for name in ("ssl_cert_reqs", "ssl_check_hostname")
        )
        return certificate not in {None, "none", ssl.CERT_NONE}, bool(host_name)


class _Connections:
    """A client of one server. `patience` limits each command with its retries, in seconds."""

    def __init__(self, library: Library, client: Any, *, is_ours: bool, patience: float | None) -> None:
        self._errors = library.errors
        self._client = client
        self._is_ours = is_ours
        self._patience = patience

    def execute(self, *words: Word) -> Awaitable[Any]:
        """Send a command."""
        return self._reply_to(self._client.execute_command(*words))

    def at(self, key: str, *words: Word) -> Awaitable[Any]:  # noqa: ARG002 - there is one server
        """Send a command that names no key."""
        return self.execute(*words)

    async def close(self) -> None:
        """Close the connections, unless the client is the user's."""
        if self._is_ours:
            await self._client.aclose()
            for sentinel in getattr(_manager_of(self._client), "sentinels", ()):
                await sentinel.aclose()

    async def _reply_to(self, sent: Awaitable[Any]) -> Any:
        """Wait for a reply within the time limit, and translate the library's errors."""
        task = asyncio.current_task()
        cancelled = task.cancelling() if task else 0
        limit = None if self._patience is None else self._patience + extra_patience.get()
        try:
            async with asyncio.timeout(limit):
                reply = await sent
        except TimeoutError as error:
            raise unanswered(self._address(), limit) from error
        except self._errors as error:
            if code_of(error) == "READONLY":
                await self._leave_replica()
            raise translate(error) from error
        if task and task.cancelling() > cancelled:
            # These libraries send with asyncio.wait_for, which sometimes loses a cancellation up to Python 3.11.
            raise asyncio.CancelledError
        return reply

    def _address(self) -> str:
        return _address_of(self._client)

    async def _leave_replica(self) -> None:
        """Close idle connections: after a failover the address may lead elsewhere, but they still lead here."""
        await self._client.connection_pool.disconnect(inuse_connections=False)


class _OurConnections(_Connections):
    """Connections of our own to one server, all by the fast path: a new Line makes one handshake for its first call."""

    def __init__(self, library: Library, client: Any, *, retries: int, patience: float | None) -> None:
        # The driver limits the time: the library would create a task for every command to do so.
        ours = _copy_of(library, client, retries=retries)
        super().__init__(library, ours, is_ours=True, patience=patience)
        self._fast_path = FastPath(
            ours.connection_pool, broken=library.broken, refused=library.refused, retries=retries
        )

    def execute(self, *words: Word) -> Awaitable[Any]:
        """Send a command."""
        return self._reply_to(self._fast_path.send(words))

    def execute_both(self, first: tuple[Word, ...], second: tuple[Word, ...]) -> Awaitable[Any]:
        """Send two commands at once, and return the reply to the second."""
        return self._reply_to(self._fast_path.send(first, second))

    async def close(self) -> None:
        """Close the connections."""
        await self._fast_path.close()
        await super().close()

    async def _leave_replica(self) -> None:
        await self._fast_path.disconnect()


class _ClusterConnections(_Connections):
    """A client of a cluster, which routes each command by its keys."""

    def at(self, key: str, *words: Word) -> Awaitable[Any]:
        """Send a command to the node that stores the key."""

        async def send() -> Any:
            await self._client.initialize()
            node = self._client.get_node_from_key(key)
            return await self._client.execute_command(*words, target_nodes=node)

        return self._reply_to(send())

    def _address(self) -> str:
        return _address_of_cluster(self._client)

    async def _leave_replica(self) -> None:
        await self._client.aclose()  # the next command reads the layout of the cluster again


def _has_tls(client: Any) -> bool:
    return "SSL" in _connection_class(client).__name__


def _connect_to_cluster(library: Library, client: Any, *, retries: int, patience: float | None) -> Client:
    ours = _copy_of_cluster(library, client, retries=retries)
    return _ClusterConnections(library, ours, is_ours=True, patience=patience)


def _address_of(client: Any) -> str:
    """Return the address of a server, or the name by which the Sentinels know the master."""
    pool, options = client.connection_pool, _options(client)
    if "path" in options:
        return f"unix://{options['path']}"
    tls = "s" if _has_tls(client) else ""
    name = getattr(pool, "service_name", None) or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    return f"redis{tls}://{name}/{options.get('db') or 0}"


def _address_of_cluster(client: Any) -> str:
    """Return the addresses of the nodes that the client asks for the layout of the cluster."""
    tls = "s" if _has_tls(client) else ""
    return f"redis{tls}://{','.join(sorted(client.nodes_manager.startup_nodes))}"


def _copy_of(library: Library, client: Any, *, retries: int) -> Any:
    """Make a client with the user's options but connections, limits and retries of its own."""
    pool = client.connection_pool
    options = _options(client)
    options.pop("maint_notifications_pool_handler", None)  # it belongs to the user's pool
    options |= {
        "health_check_interval": 0,
        "max_connections": MOST_CONNECTIONS,
        "socket_timeout": None,
        "socket_connect_timeout": PATIENCE,
        "retry": library.retry(retries),
        "connection_class": pack_with_hiredis(_connection_class(client)),
    }
    manager = _manager_of(client)
    if manager is None:
        return library.standalone.from_pool(library.pool(**options))
    our_manager = copy.copy(manager)
    our_manager.sentinels = [_copy_of_sentinel(library, sentinel) for sentinel in manager.sentinels]
    del options["connection_pool"]  # it is the user's pool
    ours = type(pool)(pool.service_name, our_manager, is_master=True, check_connection=pool.check_connection, **options)
    return library.standalone.from_pool(ours)


def _copy_of_sentinel(library: Library, sentinel: Any) -> Any:
    options = _options(sentinel)
    options.pop("maint_notifications_pool_handler", None)
    pool = sentinel.connection_pool
    return library.standalone.from_pool(library.pool(connection_class=pool.connection_class, **options))


def _copy_of_cluster(library: Library, client: Any, *, retries: int) -> Any:
    """Do the same as `_copy_of` for a client of a cluster."""
    manager, options = client.nodes_manager, _options(client)
    # The options of the connections have more entries than the constructor of the client takes.
    kept = {name: options[name] for name in inspect.signature(type(client).__init__).parameters if name in options}
    limits = {"socket_timeout": None, "socket_connect_timeout": PATIENCE, "max_connections": MOST_CONNECTIONS}
    connection_class = _connection_class(client)
    ours = library.cluster(
        startup_nodes=[
            library.cluster_node(node.host, node.port)
            for node in {**manager.startup_nodes, **manager.nodes_cache}.values()
        ],
        **(kept | limits | library.cluster_retry(retries)),
        ssl="SSL" in connection_class.__name__,
        require_full_coverage=manager.require_full_coverage,
        address_remap=manager.address_remap,
    )
    # The constructor takes no connection class: set it for the known nodes, and for those that are found later.
    packing_class = pack_with_hiredis(connection_class)
    ours.connection_kwargs["connection_class"] = packing_class
    for node in ours.nodes_manager.startup_nodes.values():
        node.connection_class = packing_class
    return ours


def _manager_of(client: Any) -> Any:
    return getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)


def _connection_class(client: Any) -> type[Any]:
    found: type[Any] = _options(client).get("connection_class") or client.connection_pool.connection_class
    return found


def _options(client: Any) -> dict[str, Any]:
    pool = getattr(client, "connection_pool", client)
    return dict(pool.connection_kwargs)
