"""The seam in front of client libraries: a module for each, imported when a client of that library is handed in.

A library is added with one module that has `adopt`, as core_redis.py has, and a line in LIBRARIES.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable
from typing import Any, Protocol, runtime_checkable

from flowli_core.drivers.redis._packing import Word
from flowli_core.errors import DefinitionError

LIBRARIES = {"redis": "redis_py", "valkey": "valkey_py", "coredis": "core_redis"}
"""The module here for each top-level package that a client's class may come from."""

_SCHEMES = {"redis": "redis", "rediss": "redis", "unix": "redis", "valkey": "valkey", "valkeys": "valkey"}
_URLS = "redis://, rediss://, valkey://, valkeys:// or unix://"


class UserClient(Protocol):
    """The client object that a user makes and gives to the driver: all that the asynchronous ones have in common."""

    def __aenter__(self) -> Awaitable[Any]:
        """Connect."""
        ...


class Client(Protocol):
    """What the driver needs of a connection library. Errors are the driver's own, but for MissingScriptError."""

    def execute(self, *words: Word) -> Awaitable[Any]:
        """Send one command, and answer its reply with bytes for strings. Cancelled, it leaves no half-read connection.

        It may be sent again where the connection broke: no command of the driver does anything twice.
        """
        ...

    async def at(self, key: str, *words: Word) -> Any:
        """Send a command that names no key to the server that holds this one."""
        ...

    async def close(self) -> None:
        """Close the connections that this object opened."""
        ...


@runtime_checkable
class PairingClient(Protocol):
    """What a client for waits may do besides."""

    async def execute_both(self, first: tuple[Word, ...], second: tuple[Word, ...]) -> tuple[Any, Any]:
        """Send two commands at once on one connection, and answer both replies when both are there.

        The server begins the second when it has ended the first, also where that one blocks.
        """
        ...


class Source(Protocol):
    """A user's client, and what can be made like it: to the same servers, with connections of its own.

    Each is made on the event loop that will use it.
    """

    @property
    def address(self) -> str:
        """Where the client leads, as a URL without user and password."""
        ...

    def own(self) -> Client:
        """Use the client as its owner made it, with a limit to how long a command may take where it has none."""
        ...

    def commands(self) -> Client:
        """Make another. What it sends is sent again where the connection breaks."""
        ...

    def waits(self) -> Client:
        """Make another whose commands may take for ever, and are never sent again.

        A wait that is sent again would take a second wake-up, and hold a runner for twice as long.
        """
        ...


def adopt(client: object, *, patience: float) -> Source:
    """Accept an asynchronous client that gives bytes; a command gets so many seconds. Raises DefinitionError."""
    for base in type(client).__mro__:
        library = base.__module__.partition(".")[0]
        if library in LIBRARIES:
            source: Source = _module_of(library).adopt(client, patience=patience)
            return source
    got = f"{type(client).__module__}.{type(client).__name__}"
    raise DefinitionError(
        f"client must be an asynchronous client of {', '.join(LIBRARIES)}, got {got}; "
        "give a redis.asyncio.Redis, say, or use RedisDriver.from_url(...)"
    )


def from_url(url: str) -> UserClient:
    """Make a client as a user would. Raises DefinitionError, which does not repeat the URL: it holds a password."""
    library = _SCHEMES.get(url.partition("://")[0]) if "://" in url else None
    if library is None:
        raise DefinitionError(f"url must be {_URLS}, with a host and a port below 65536")
    client: UserClient = _module_of(library).from_url(url)
    return client


def _module_of(library: str) -> Any:
    try:
        return importlib.import_module(f"{__name__}.{LIBRARIES[library]}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != library:
            raise
        raise DefinitionError(f"the package {library} is not installed: pip install flowli[{library}]") from error
