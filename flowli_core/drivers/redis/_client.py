"""The seam in front of redis-py: the only module that knows a client library."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import re
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from redis import exceptions
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff

from flowli_core.errors import DefinitionError, DriverError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flowli_core.drivers.redis._packing import Word

UserClient: TypeAlias = Redis
"""The client object that a user makes and gives to the driver."""

hiredis: Any = importlib.import_module("hiredis") if importlib.util.find_spec("hiredis") else None

PATIENCE = 5.0
"""Seconds after which a connection is given up that does not answer a command."""

_RETRIES = 3
_MOST_CONNECTIONS = 1024
"""redis-py takes one connection for each call under way, and refuses calls beyond the limit."""

_LEAST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5

_PASSING = frozenset(
    {
        "BUSY",
        "CLUSTERDOWN",
        "LOADING",
        "MASTERDOWN",
        "MISCONF",
        "NOREPLICAS",
        "READONLY",
        "TRYAGAIN",
        "UNBLOCKED",
    }
)
"""Refusals that end by themselves or by an operator's hand: nothing was done, and the same call may be repeated."""

_WRONG_PASSWORD = "invalid username-password pair"  # noqa: S105 - redis-py leaves no other trace of it
_NO_PERMISSION = ("ACL failure in script", "can't run this command")

_INSIDE_A_SCRIPT = re.compile(r"-(OOM|NOPERM|" + "|".join(sorted(_PASSING)) + r")\b")


class MissingScriptError(Exception):
    """The server does not know the script (any more)."""


class PermissionMissingError(DriverError):
    """The user that the client logs in as may not do this."""


class Client(Protocol):
    """What the driver needs of a connection library. Errors are the driver's own, but for MissingScriptError."""

    async def execute(self, *words: Word) -> Any:
        """Send one command, and answer its reply with bytes for strings. Cancelled, it leaves no half-read connection.

        It may be sent again where the connection broke: no command of the driver does anything twice.
        """
        ...

    async def close(self) -> None:
        """Close the connections that this object opened."""
        ...


class RedisPy:
    """redis-py, and what has its interface. `patience` bounds a command, in seconds, with all that it is sent again."""

    def __init__(self, client: UserClient, *, is_ours: bool, patience: float | None = None) -> None:
        self._client = client
        self._is_ours = is_ours
        self._patience = patience
        self._send: Callable[..., Awaitable[Any]] = client.execute_command  # pyright: ignore[reportUnknownMemberType]

    async def execute(self, *words: Word) -> Any:
        """Send one command."""
        task = asyncio.current_task()
        cancelled = task.cancelling() if task else 0
        try:
            async with asyncio.timeout(self._patience):
                reply = await self._send(*words)
        except exceptions.NoScriptError as error:
            raise MissingScriptError from error
        except exceptions.ReadOnlyError as error:
            # After a failover the address may lead elsewhere, but connections that wait in the pool still lead here.
            await self._client.connection_pool.disconnect(inuse_connections=False)
            raise _classified(error) from error
        except TimeoutError as error:
            msg = f"Redis did not answer within {self._patience} s"
            raise StoreUnavailable(msg) from error
        except (exceptions.RedisError, OSError) as error:
            raise _classified(error) from error
        if task and task.cancelling() > cancelled:
            # redis-py sends with asyncio.wait_for, which loses a cancellation now and then up to Python 3.11.
            raise asyncio.CancelledError
        return reply

    async def close(self) -> None:
        """Close the connections, where the client is not the user's own."""
        if self._is_ours:
            await self._client.aclose()


def check_client(client: object) -> UserClient:
    """Accept an asynchronous client that gives bytes. Raises DefinitionError."""
    if not isinstance(client, Redis):
        cure = "give a redis.asyncio.Redis, or use RedisDriver.from_url(...)"
        got = f"{type(client).__module__}.{type(client).__name__}"
        msg = f"client must be an asynchronous Redis client, got {got}; {cure}"
        raise DefinitionError(msg)
    given: Redis = client
    if type(given.connection_pool).__name__ == "SentinelConnectionPool":
        raise DefinitionError(
            "client must not be made by a Sentinel: waits and heartbeats need connections of their own"
        )
    if _options(given).get("decode_responses"):
        raise DefinitionError(
            "client must not decode responses: payloads are bytes; make it without decode_responses=True"
        )
    return given


def from_url(url: str) -> UserClient:
    """Make a client. Raises DefinitionError for what is no URL of a server, unrepeated because it holds a password."""
    try:
        client: Redis = Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]
    except (ValueError, AttributeError, TypeError) as error:
        raise DefinitionError(
            "url must be redis://, rediss:// or unix://, with a host and a port below 65536"
        ) from error
    port = _options(client).get("port", 0)
    if not isinstance(port, int) or not 0 <= port < 65536:  # noqa: PLR2004 - what a port is
        raise DefinitionError("url must have a port below 65536")
    return client


def address(client: UserClient) -> str:
    """Where the client leads, as a URL without user and password."""
    options = _options(client)
    if "path" in options:
        where = f"unix://{options['path']}"
    else:
        tls = "SSL" in client.connection_pool.connection_class.__name__
        where = f"redis{'s' if tls else ''}://{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    return f"{where}/{options.get('db') or 0}" if "path" not in options else where


def for_commands(client: UserClient, *, is_ours: bool) -> Client:
    """Use the client as its owner made it, with a limit where it has none."""
    patience = PATIENCE if _options(client).get("socket_timeout") is None else None
    return RedisPy(client, is_ours=is_ours, patience=patience)


def like(client: UserClient) -> UserClient:
    """Make another client of the same server. What it sends is sent again where the connection breaks.

    The time limit is ours: redis-py makes a task for every command to keep its own.
    """
    backoff = ExponentialWithJitterBackoff(base=_LEAST_PAUSE, cap=_LONGEST_PAUSE)
    retry = Retry(backoff, _RETRIES, supported_errors=(exceptions.ConnectionError,))
    return _made_like(client, socket_timeout=None, socket_connect_timeout=PATIENCE, retry=retry)


def for_waits(client: UserClient) -> Client:
    """Make another client of the same server whose commands may take for ever, and are never sent again.

    A wait that is sent again would take a second wake-up, and hold a runner for twice as long.
    """
    retry = Retry(NoBackoff(), 0)
    made = _made_like(client, socket_timeout=None, socket_connect_timeout=PATIENCE, retry=retry)
    return RedisPy(made, is_ours=True)


def _made_like(client: UserClient, **other: Any) -> UserClient:
    pool = client.connection_pool
    options: dict[str, Any] = (
        _options(client) | {"health_check_interval": 0, "max_connections": _MOST_CONNECTIONS} | other
    )
    options.pop("maint_notifications_pool_handler", None)  # it belongs to the other pool
    made: Redis = Redis.from_pool(ConnectionPool(connection_class=_packing_in_c(pool.connection_class), **options))
    return made


def _options(client: UserClient) -> dict[str, Any]:
    return dict(client.connection_pool.connection_kwargs)


def _classified(error: Exception) -> DriverError:
    code = _code_of(error)
    if code in {"NOAUTH", "WRONGPASS"} or _WRONG_PASSWORD in str(error):
        return DriverError("Redis refused the user name or the password; check the URL or the client's credentials")
    if code == "NOPERM":
        return PermissionMissingError(f"Redis does not let this user do what the driver needs: {error}")
    if code == "OOM":
        return DriverError("Redis is out of memory and stores nothing new; raise its maxmemory, or purge records")
    if code in _PASSING:
        return StoreUnavailable(f"Redis cannot do this just now: {code} {error}".replace(f"{code} {code}", code))
    if isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError | OSError):
        return StoreUnavailable(f"Redis cannot be reached: {type(error).__name__}: {error}")
    return DriverError(f"Redis refused a command: {error}")


def _code_of(error: Exception) -> str:
    """What kind of refusal it is. redis-py cuts the codes off that it knows; Redis 6.2 has those of scripts inside."""
    code = getattr(error, "status_code", None)
    if isinstance(code, str) and code != "ERR":
        return code
    text = str(error)
    inside = _INSIDE_A_SCRIPT.search(text)
    if inside is not None:
        return inside[1]
    if any(words in text for words in _NO_PERMISSION):
        return "NOPERM"
    return text.split(" ", 1)[0]


def _packing_in_c(connection_class: type[Any]) -> type[Any]:
    """Let hiredis write the commands too: redis-py only lets it read, and a step has hundreds of words."""
    if hiredis is None:
        return connection_class
    pack: Callable[[tuple[Word, ...]], bytes] = hiredis.pack_command

    def pack_command(_: object, *args: Word) -> list[bytes]:
        return [pack((*str(args[0]).split(), *args[1:]))]

    made: type[Any] = type(connection_class.__name__, (connection_class,), {"pack_command": pack_command})
    return made
