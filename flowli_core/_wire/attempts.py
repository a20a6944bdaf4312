"""The attempts of a record so far: how many it has made, how many failed, the last error, and the last ten attempts."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import traceback
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import cast

from pydantic import TypeAdapter

from flowli_core._wire.versioned import NewerVersionError, version_of
from flowli_core.errors import LastError
from flowli_core.retry import leaf_errors

VERSION = 1
"""The version of the layout. Attempts that name no version have this one."""

UNKNOWN_JOB, NEWER_RECORD, WORKER_LOST = "UnknownJob", "NewerRecord", "WorkerLost"
PARKED = frozenset({UNKNOWN_JOB, NEWER_RECORD})
"""The types of the errors for which a worker returns a record to the queue without running it."""

_LOST = LastError(WORKER_LOST, "its worker died, or did not renew the lease in time")

_MOST_KEPT = 10
_LONGEST_KEPT_MESSAGE = 500
_LONGEST_KEPT_TRACEBACK = 4_000

_LONGEST_MESSAGE = 2_000
_LONGEST_TRACEBACK = 16_000
_MOST_LEAVES = 5
_LONGEST_LEAF = 300
_FRAMES = 40
_OWN_FILES = (
    f"{Path(__file__).parents[1]}{os.sep}",
    f"{Path(asyncio.__file__).parent}{os.sep}",
    f"{Path(concurrent.futures.__file__).parent}{os.sep}",
    contextlib.__file__,
)
"""The files of frames above a handler: those of this library, and of what it uses to call handlers and contexts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAttempt:
    """An attempt that failed, or that lost its worker: then only its number is known.

    `error` is None if it is the last error of the record. That of an earlier attempt is shortened.
    """

    number: int
    started_at: datetime | None = None
    duration: timedelta | None = None
    worker: str | None = None
    error: LastError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """The attempts and failures of a record so far.

    `attempts_made` counts the attempts that ended, but not those that were released. A requeue resets it, while
    `failure_count` goes on counting. `kept` are the last ten attempts that failed or lost their worker, newest last.
    `recoveries` is the number of the recoveries for which `kept` has, or had, an attempt.

    The last error is written first: a search of the stored bytes finds the records that failed with an error.
    """

    last_error: LastError | None = None
    attempts_made: int = 0
    failure_count: int = 0
    recoveries: int = 0
    kept: tuple[KeptAttempt, ...] = ()

    def failed(self, attempt: KeptAttempt, error: LastError, *, recoveries: int) -> Attempts:
        """Return them after one more attempt that failed, of a record that was recovered so often."""
        before = self.with_lost(recoveries).noted(error)
        return replace(
            before,
            attempts_made=self.attempts_made + 1,
            failure_count=self.failure_count + 1,
            kept=(*before.kept, attempt)[-_MOST_KEPT:],
        )

    def noted(self, error: LastError) -> Attempts:
        """Return them after a delivery that could not be run here, which counts as none."""
        last = None if self.last_error is None else _shorten(self.last_error)
        return replace(self, last_error=error, kept=tuple([replace(one, error=one.error or last) for one in self.kept]))

    def with_lost(self, recoveries: int) -> Attempts:
        """Return them with an attempt for each recovery that has none yet."""
        lost = KeptAttempt(number=self.attempts_made + 1, error=_LOST)
        new = min(max(recoveries - self.recoveries, 0), _MOST_KEPT)
        return replace(self, recoveries=recoveries, kept=(*self.kept, *[lost] * new)[-_MOST_KEPT:])

    def renewed(self, recoveries: int) -> Attempts:
        """Return them with none made, for a record that was recovered so often and is requeued."""
        return replace(self.with_lost(recoveries), attempts_made=0, recoveries=0)


FRESH = Attempts()


def pack_attempts(attempts: Attempts) -> bytes:
    """Write the attempts of a record as JSON."""
    return _adapter().dump_json(attempts, exclude_none=True)


def renew_attempts(wire: bytes | None, recoveries: int) -> bytes | None:
    """Return the attempts of a record that is requeued. A record that has none gets none."""
    attempts = unpack_attempts(wire).renewed(recoveries)
    return None if attempts == FRESH else pack_attempts(attempts)


def unpack_attempts(wire: bytes | None) -> Attempts:
    """Read the attempts of a record. If none are stored, or they cannot be read, return those of a new record."""
    if wire is None:
        return FRESH
    try:
        return _adapter().validate_json(wire, strict=True)
    except ValueError:
        return FRESH


def check_attempts_version(wire: bytes | None) -> None:
    """Raise NewerVersionError if the attempts name a later version of the layout."""
    version = VERSION if wire is None else version_of(wire) or VERSION
    if version > VERSION:
        raise NewerVersionError(f"the attempts were written by a later release (its layout is {version})")


def begin_at_handler(error: BaseException) -> None:
    """Remove the frames of this library above the handler's from a traceback, and from those of causes and groups.

    An error that has no other frames keeps all of them.
    """
    done: set[int] = set()
    rest: list[BaseException | None] = [error]
    while rest:
        found = rest.pop()
        if found is None or id(found) in done:
            continue
        done.add(id(found))
        first = found.__traceback__
        while first is not None and first.tb_frame.f_code.co_filename.startswith(_OWN_FILES):
            first = first.tb_next
        if first is not None:
            BaseException.with_traceback(found, first)  # also if its class forbids to set attributes
        rest += [found.__cause__, found.__context__]
        if isinstance(found, BaseExceptionGroup):
            rest += cast("BaseExceptionGroup[BaseException]", found).exceptions


def describe_error(error: BaseException) -> LastError:
    """Describe an error for storing, even if its own `__str__` fails or returns text that UTF-8 cannot encode.

    The message of a group names the errors within it.
    """
    cls = type(error)
    module = "flowli_core" if cls.__module__.startswith("flowli_core.") else cls.__module__
    kind = cls.__qualname__ if module == "builtins" else f"{module}.{cls.__qualname__}"
    message, leaves = _message(error), leaf_errors(error)
    if leaves[0] is not error:
        message = f"{message[:_LONGEST_LEAF]}: {_describe_leaves(leaves)}"
    try:
        trace = "".join(traceback.format_exception(error, limit=-_FRAMES))
    except Exception as inner:  # noqa: BLE001 - a user's __str__, or an error in the chain of causes, may raise anything
        trace = f"<its traceback cannot be read: {type(inner).__name__}>"
    return LastError(kind, _encodable(message[:_LONGEST_MESSAGE]), _encodable(trace[-_LONGEST_TRACEBACK:]))


def _shorten(error: LastError) -> LastError:
    """Return an error as it is kept for an attempt that was not the last one."""
    return LastError(error.type, error.message[:_LONGEST_KEPT_MESSAGE], error.traceback[-_LONGEST_KEPT_TRACEBACK:])


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as inner:  # noqa: BLE001 - a user's __str__ may raise anything
        return f"<its message cannot be read: {type(inner).__name__}>"


def _describe_leaves(leaves: list[BaseException]) -> str:
    """Return the classes and messages of the first errors of a group, each error once."""
    shown: dict[str, None] = {}
    for leaf in leaves[:_MOST_LEAVES]:
        message = _message(leaf)[:_LONGEST_LEAF]
        shown[f"{type(leaf).__qualname__}: {message}" if message else type(leaf).__qualname__] = None
    more = f"; and {len(leaves) - _MOST_LEAVES:,} more" if len(leaves) > _MOST_LEAVES else ""
    return "; ".join(shown) + more


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


@cache
def _adapter() -> TypeAdapter[Attempts]:
    return TypeAdapter(Attempts)
