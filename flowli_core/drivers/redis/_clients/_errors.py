"""Translates the errors of the client libraries, and the refusals of a server, to the errors of flowli_core."""

from __future__ import annotations

import re

from flowli_core.drivers.redis._clients._limits import PATIENCE
from flowli_core.errors import DriverError, StoreUnavailable

_TEMPORARY = frozenset(
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
"""Refusals that end by themselves or when an operator acts: nothing was done, and the same call may be repeated."""

_CODES = {
    "AuthenticationError": "WRONGPASS",
    "AuthenticationFailureError": "WRONGPASS",
    "AuthenticationRequiredError": "NOAUTH",
    "AuthorizationError": "NOPERM",
    "BusyLoadingError": "LOADING",
    "ClusterDownError": "CLUSTERDOWN",
    "MasterDownError": "MASTERDOWN",
    "NoPermissionError": "NOPERM",
    "NoScriptError": "NOSCRIPT",
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "TryAgainError": "TRYAGAIN",
    "UnblockedError": "UNBLOCKED",
}
"""The code that each error class stands for: a library that has a class for a code removes the code from the text."""

_UNREACHABLE = frozenset(
    {"ConnectionError", "TimeoutError", "OSError", "ClusterError", "RedisClusterException", "ValkeyClusterException"}
)
_WRONG_CREDENTIALS = "Redis refused the user name or the password; check the URL or the client's credentials"
_MISSING_CREDENTIALS = "Redis needs a password; put it into the URL, or give it to the client"
_FULL = "Redis is out of memory and stores no new jobs; raise its maxmemory, or purge records"
NEEDED = "Flowli needs Redis 6.2 or later, Valkey, or another server that has their commands"
_UNKNOWN_COMMAND = re.compile("unknown (redis )?command|unknown subcommand|timeout is not an integer", re.IGNORECASE)
"""Replies of servers that lack a command; the last is from Redis 5, which can only wait whole seconds."""

_WRONG_TYPE = "WRONGTYPE"
_NO_CLUSTER = "Cluster mode is not enabled"

_WRONG_PASSWORD = ("invalid username-password pair", "WRONGPASS")
_NO_PASSWORD = ("NOAUTH", "Authentication required", "HELLO must be called with the client")
"""The second is from Valkey, without a code and as a broken connection; the last is the reply to HELLO."""

_NO_PERMISSION = ("ACL failure in script", "can't run this command", "has no permissions")

_INSIDE_A_SCRIPT = re.compile(r"-(OOM|NOPERM|" + "|".join(sorted(_TEMPORARY)) + r")\b")


class MissingScriptError(Exception):
    """The server does not have the script, or no longer."""


class PermissionMissingError(DriverError):
    """The Redis user that the client logs in as lacks a permission."""


class WrongTypeError(DriverError):
    """A key holds another type than it should. `Scripts.types` finds out which."""


def code_of(error: Exception) -> str:
    """Return the code of a refusal, such as "READONLY". Redis 6.2 puts the code of a script's error inside the text."""
    text = _text_of(error)
    inside = _INSIDE_A_SCRIPT.search(text)
    if inside is not None:
        return inside[1]
    if any(words in text for words in _WRONG_PASSWORD):
        return "WRONGPASS"
    if any(words in text for words in _NO_PASSWORD):
        return "NOAUTH"
    if any(words in text for words in _NO_PERMISSION):
        return "NOPERM"
    for base in type(error).__mro__:
        if base.__name__ in _CODES:
            return _CODES[base.__name__]
    code = getattr(error, "status_code", None)
    return code if isinstance(code, str) and code != "ERR" else text.split(" ", 1)[0]


def translate(error: Exception) -> Exception:
    """Return the error to raise in place of a library's error."""
    code, text = code_of(error), _text_of(error)
    if code in _TEMPORARY:
        return StoreUnavailable(f"Redis refuses commands for now: {code} {text.removeprefix(f'{code} ')}")
    match code:
        case "NOSCRIPT":
            result: Exception = MissingScriptError()
        case "NOAUTH" | "WRONGPASS":
            result = DriverError(_MISSING_CREDENTIALS if code == "NOAUTH" else _WRONG_CREDENTIALS)
        case "NOPERM":
            result = PermissionMissingError(f"this Redis user lacks a permission that the driver needs: {text}")
        case "OOM":
            result = StoreUnavailable(_FULL)
        case _ if _WRONG_TYPE in text:
            result = WrongTypeError(f"Redis refused a command: {text}")
        case _ if _UNKNOWN_COMMAND.search(text):
            result = DriverError(f"this server lacks a command ({text}); {NEEDED}")
        case _ if _NO_CLUSTER in text:
            result = DriverError("the server is not part of a cluster; pass a client of a single server")
        case _ if any(base.__name__ in _UNREACHABLE for base in type(error).__mro__):
            result = StoreUnavailable(f"Redis cannot be reached: {type(error).__name__}: {text}")
        case _:
            result = DriverError(f"Redis refused a command: {text}")
    return result


def unanswered(address: str, seconds: float | None) -> StoreUnavailable:
    """Return the error to raise if the server at an address did not answer within so many seconds."""
    return StoreUnavailable(f"Redis at {address} did not answer within {seconds or PATIENCE:.3g} s")


def _text_of(error: Exception) -> str:
    """Return the server's text, without the command that redis-py puts in front if two commands were sent at once."""
    return str(error).rpartition(" of pipeline caused error: ")[2]
