"""What a server's refusals mean, whichever library reports them."""

from __future__ import annotations

import re

from flowli_core.errors import DriverError, StoreUnavailable

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
"""What the libraries' classes stand for: they cut the code off an error's text where they have a class for it."""

_UNREACHABLE = frozenset(
    {"ConnectionError", "TimeoutError", "OSError", "ClusterError", "RedisClusterException", "ValkeyClusterException"}
)
_CREDENTIALS = "Redis refused the user name or the password; check the URL or the client's credentials"
NEEDED = "Flowli needs Redis 6.2 or later, Valkey, or another server that has their commands"
_LACKING = re.compile("unknown (redis )?command|unknown subcommand|timeout is not an integer", re.IGNORECASE)
"""What servers say to commands that they do not have; the last is Redis 5, which waits for whole seconds only."""

_NO_CLUSTER = "Cluster mode is not enabled"

_WRONG_PASSWORD = ("invalid username-password pair", "WRONGPASS", "NOAUTH", "HELLO must be called with the client")
"""The last is what a server says to HELLO where a password is missing."""
_NO_PERMISSION = ("ACL failure in script", "can't run this command", "has no permissions")

_INSIDE_A_SCRIPT = re.compile(r"-(OOM|NOPERM|" + "|".join(sorted(_PASSING)) + r")\b")


class MissingScriptError(Exception):
    """The server does not know the script (any more)."""


class PermissionMissingError(DriverError):
    """The user that the client logs in as may not do this."""


def code_of(error: Exception) -> str:
    """What kind of refusal it is: the code that the server gave, which Redis 6.2 puts inside for those of scripts."""
    text = _text_of(error)
    inside = _INSIDE_A_SCRIPT.search(text)
    if inside is not None:
        return inside[1]
    if any(words in text for words in _WRONG_PASSWORD):
        return "WRONGPASS"
    if any(words in text for words in _NO_PERMISSION):
        return "NOPERM"
    for base in type(error).__mro__:
        if base.__name__ in _CODES:
            return _CODES[base.__name__]
    code = getattr(error, "status_code", None)
    return code if isinstance(code, str) and code != "ERR" else text.split(" ", 1)[0]


def classified(error: Exception) -> Exception:
    """The error that the driver raises for one of a library."""
    code, text = code_of(error), _text_of(error)
    if code in _PASSING:
        return StoreUnavailable(f"Redis cannot do this just now: {code} {text}".replace(f"{code} {code}", code))
    match code:
        case "NOSCRIPT":
            made: Exception = MissingScriptError()
        case "NOAUTH" | "WRONGPASS":
            made = DriverError(_CREDENTIALS)
        case _ if "Authentication required" in text:  # of a Valkey: without its code, and as a broken connection
            made = DriverError(_CREDENTIALS)
        case "NOPERM":
            made = PermissionMissingError(f"Redis does not let this user do what the driver needs: {text}")
        case "OOM":
            made = DriverError("Redis is out of memory and stores nothing new; raise its maxmemory, or purge records")
        case _ if _LACKING.search(text):
            made = DriverError(f"this server lacks something ({text}); {NEEDED}")
        case _ if _NO_CLUSTER in text:
            made = DriverError("the server is no member of a cluster; give a client that is not for a cluster")
        case _ if any(base.__name__ in _UNREACHABLE for base in type(error).__mro__):
            made = StoreUnavailable(f"Redis cannot be reached: {type(error).__name__}: {text}")
        case _:
            made = DriverError(f"Redis refused a command: {text}")
    return made


def _text_of(error: Exception) -> str:
    """What the server said; where two commands were sent at once, redis-py puts the command in front."""
    return str(error).rpartition(" of pipeline caused error: ")[2]
