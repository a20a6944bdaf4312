"""What a record carries, beside its payload, of how it is to be run, and what it gathers when something goes wrong."""

from __future__ import annotations

import json
import traceback
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from functools import lru_cache
from typing import Any

from flowli_core.errors import DefinitionError
from flowli_core.retry import Backoff, Exponential, Fixed

VERSION = 1
"""Of the JSON below. A record of a later version waits for a worker that knows it."""

_MESSAGE = 2_000
_TRACEBACK = 16_000
_MS = timedelta(milliseconds=1)


class NewerVersionError(Exception):
    """The record was written by a later release."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a record is to be run, fixed when it is enqueued."""

    max_attempts: int
    backoff: Backoff
    timeout: timedelta | None = None


@lru_cache(maxsize=1024)
def pack_policy(policy: Policy) -> bytes:
    """Write a policy as JSON. Cached: a job's records mostly share one."""
    packed: dict[str, Any] = {
        "v": VERSION,
        "max_attempts": policy.max_attempts,
        "backoff": _pack_backoff(policy.backoff),
    }
    if policy.timeout is not None:
        packed["timeout_ms"] = policy.timeout / _MS
    return json.dumps(packed, separators=(",", ":")).encode()


@lru_cache(maxsize=1024)
def unpack_policy(wire: bytes) -> Policy:
    """Read a policy. Raises NewerVersionError, or ValueError where it is malformed."""
    try:
        data = json.loads(wire)
        if data["v"] > VERSION:
            raise NewerVersionError
        timeout = data.get("timeout_ms")
        return Policy(
            max_attempts=int(data["max_attempts"]),
            backoff=_unpack_backoff(data["backoff"]),
            timeout=None if timeout is None else timeout * _MS,
        )
    except (LookupError, TypeError, ValueError, OverflowError, RecursionError, DefinitionError) as error:
        raise ValueError(f"the record's policy cannot be read: {type(error).__name__}") from error


def _pack_backoff(backoff: Backoff) -> dict[str, Any]:
    match backoff:
        case Fixed():
            return {"kind": "fixed", "delay_ms": backoff.delay / _MS, "jitter": backoff.jitter}
        case Exponential():
            return {
                "kind": "exponential",
                "first_ms": backoff.first / _MS,
                "max_ms": backoff.max_delay / _MS,
                "factor": backoff.factor,
                "jitter": backoff.jitter,
            }


def _unpack_backoff(data: dict[str, Any]) -> Backoff:
    jitter = None if data["jitter"] is None else (float(data["jitter"][0]), float(data["jitter"][1]))
    if data["kind"] == "fixed":
        return Fixed(delay=data["delay_ms"] * _MS, jitter=jitter)
    return Exponential(
        first=data["first_ms"] * _MS, max_delay=data["max_ms"] * _MS, factor=float(data["factor"]), jitter=jitter
    )


@dataclass(frozen=True, slots=True)
class LastError:
    """The error that an attempt ended with: its class with its module; message and traceback are shortened."""

    type: str
    message: str
    traceback: str = ""


def describe_error(error: BaseException) -> LastError:
    """Put an error into words, whatever it is: also one whose own `str` fails, or holds what UTF-8 cannot carry."""
    cls = type(error)
    kind = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    try:
        message = str(error)
    except Exception as inner:  # noqa: BLE001 - the user's own __str__
        message = f"<its message cannot be read: {type(inner).__name__}>"
    try:
        trace = "".join(traceback.format_exception(error, limit=-40))
    except Exception as inner:  # noqa: BLE001 - as above, somewhere in a chain of causes
        trace = f"<its traceback cannot be read: {type(inner).__name__}>"
    return LastError(kind, _sound(message[:_MESSAGE]), _sound(trace[-_TRACEBACK:]))


@dataclass(frozen=True, slots=True)
class Progress:
    """What a record has been through. `attempts_made` counts those that ended, not those that were given back."""

    attempts_made: int = 0
    failure_count: int = 0
    last_error: LastError | None = None

    def failed(self, error: LastError) -> Progress:
        """After one more failed attempt."""
        return Progress(self.attempts_made + 1, self.failure_count + 1, error)

    def noted(self, error: LastError) -> Progress:
        """After a delivery that could not be run here and used no attempt."""
        return replace(self, last_error=error)

    def renewed(self) -> Progress:
        """With all attempts before it again, its history kept."""
        return replace(self, attempts_made=0)


FRESH = Progress()


def pack_progress(progress: Progress) -> bytes:
    """Write progress as JSON."""
    return json.dumps(asdict(progress), separators=(",", ":")).encode()


def unpack_progress(wire: bytes | None) -> Progress:
    """Read progress; none means that nothing has gone wrong yet, and neither does what cannot be read."""
    if wire is None:
        return FRESH
    try:
        data = json.loads(wire)
        error = data["last_error"]
        return Progress(
            attempts_made=int(data["attempts_made"]),
            failure_count=int(data["failure_count"]),
            last_error=None if error is None else LastError(**error),
        )
    except (LookupError, TypeError, ValueError, OverflowError, RecursionError):
        return FRESH


def _sound(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
