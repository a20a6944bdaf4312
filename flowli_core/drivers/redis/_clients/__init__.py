"""Adapters to the client libraries: one module each, imported when a client of that library is passed in.

To support another library, add a module with an `adopt` function, as in core_redis.py, and a line to LIBRARIES.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from flowli_core.drivers.redis._clients._limits import RETRIES
from flowli_core.drivers.redis._clients._url import parse_url
from flowli_core.drivers.redis._packing import Word
from flowli_core.errors import DefinitionError

LIBRARIES = {"redis": "redis_py", "valkey": "valkey_py", "coredis": "core_redis"}
"""The adapter module for each top-level package that defines client classes."""


class UserClient(Protocol):
    """A client object that a user passes to the driver; this is all that the asynchronous clients have in common."""

    def __aenter__(self) -> Awaitable[Any]:
        """Connect."""
        ...


class Client(Protocol):
    """The commands that the driver needs from a library. They raise MissingScriptError and the errors of flowli_core.

    A command may be sent again if its connection breaks: every command of the driver is idempotent.
    """

    def execute(self, *words: Word) -> Awaitable[Any]:
        """Send a command and return its reply, with strings as bytes. If cancelled, leave no reply half read."""
        ...

    def at(self, key: str, *words: Word) -> Awaitable[Any]:
        """Send a command that names no key to the server that stores `key`."""
        ...

    async def close(self) -> None:
        """Close the connections, unless they belong to the user's client."""
        ...


@runtime_checkable
class PairingClient(Protocol):
    """A client that can also send two commands on one connection at once."""

    def execute_both(self, first: tuple[Word, ...], second: tuple[Word, ...]) -> Awaitable[Any]:
        """Send two commands at once on one connection, and return the reply to the second.

        The server starts the second command when the first has ended, even if the first blocks.
        """
        ...


class _MakeClient(Protocol):
    def __call__(self, *, retries: int, patience: float | None) -> Client: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The user's client, and a factory of clients with connections of their own to the same servers.

    `address` is where the client connects, as a URL without user and password. `users` is the user's client; where it
    has no timeout of its own, commands are limited to `patience` seconds. Make other clients on the event loop that
    will use them.
    """

    address: str
    users: Client
    make: _MakeClient
    patience: float

    def commands(self) -> Client:
        """Make a client for commands, which are sent again if the connection breaks."""
        return self.make(retries=RETRIES, patience=self.patience)

    def waits(self) -> Client:
        """Make a client for blocking commands, without a time limit and without retries.

        A retried wait would consume a second wake-up, and keep a worker waiting twice as long.
        """
        return self.make(retries=0, patience=None)


def adopt(client: object, *, patience: float) -> Source:
    """Accept an asynchronous client that returns bytes. `patience` limits each command, in seconds.

    Raises DefinitionError.
    """
    for base in type(client).__mro__:
        library = base.__module__.partition(".")[0]
        if library in LIBRARIES:
            source: Source = _module_of(library).adopt(client, patience=patience)
            return source
    if isinstance(client, str):
        raise DefinitionError("client must be a client, got a str; a URL is given to RedisDriver.from_url(...)")
    got = f"{type(client).__module__}.{type(client).__name__}".removeprefix("builtins.")
    raise DefinitionError(
        f"client must be an asynchronous client of {', '.join(LIBRARIES)}, got {got}; "
        "pass a redis.asyncio.Redis, for example, or use RedisDriver.from_url(...)"
    )


def from_url(url: object) -> UserClient:
    """Make a client as a user would. Raises DefinitionError, without any part of the URL in its message."""
    parsed = parse_url(url)
    client: UserClient = _module_of(parsed.library).from_url(parsed)
    return client


def _module_of(library: str) -> Any:
    try:
        return importlib.import_module(f"{__name__}.{LIBRARIES[library]}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != library:
            raise
        raise DefinitionError(f"the package {library} is not installed: pip install flowli[{library}]") from error
