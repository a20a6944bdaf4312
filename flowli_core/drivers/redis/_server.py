"""Checks a server when a driver opens: its version, eviction policy, commands and permissions."""

from __future__ import annotations

from typing import Any

from flowli_core._logger import logger
from flowli_core.drivers.redis._clients import Client
from flowli_core.drivers.redis._clients._errors import NEEDED, PermissionMissingError
from flowli_core.drivers.redis._scripts import Scripts, wrong_type
from flowli_core.errors import DriverError

_OLDEST = (6, 2)


async def check_server(client: Client, scripts: Scripts, *, at: str, allow_eviction: bool) -> None:
    """Raise DriverError if the server is too old, may evict keys, refuses a command, or has keys of another type.

    `at` is a key of the prefix.
    """
    try:
        server = facts_of(await client.at(at, "INFO", "server"))
        memory = facts_of(await client.at(at, "INFO", "memory"))
    except PermissionMissingError:
        logger.warning(
            "this Redis user may not call INFO, so the server's version and eviction policy are not checked; "
            "allow it with ACL SETUSER ... +info"
        )
        server, memory = {}, {}
    version = server.get("redis_version", "6.2")
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
        raise DriverError(f"this server has version {version}; {NEEDED}")
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and not allow_eviction:
        raise DriverError(
            f"the server's maxmemory-policy is {policy}, so it may evict jobs; set it to noeviction, "
            "or pass allow_eviction=True if losing jobs is acceptable"
        )
    refused = (await scripts.check()).decode()
    if refused.startswith("unknown "):
        raise DriverError(f"this server lacks the command {refused.removeprefix('unknown ')}; {NEEDED}")
    if refused:
        raise DriverError(
            f"this Redis user may not call {refused}; allow it with ACL SETUSER ... +{refused} "
            "(the driver's documentation lists all needed permissions)"
        )
    if found := await scripts.types():
        raise wrong_type(found)


def facts_of(reply: Any) -> dict[str, str]:
    """Parse the reply to INFO, unless the client has parsed it already."""
    if isinstance(reply, bytes):
        pairs = (line.partition(":") for line in reply.decode().splitlines())
        return {name: value for name, colon, value in pairs if colon}
    return {str(name): str(value) for name, value in reply.items()}
