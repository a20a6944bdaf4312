"""The trace that a call belongs to, on its way from the caller to the worker.

It travels in front of the meta, which is bytes to every driver: an at sign, which no JSON begins with, the trace as one
line, and the meta itself, where there is one. A record whose caller is not traced carries nothing, and costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from flowli_core._current import CurrentJob

_MARK = b"@"


class Tracer(Protocol):
    """What follows a job through processes. The trace is a line of bytes that only the tracer reads."""

    def enqueueing(self, name: str, records: Sequence[tuple[str, str]]) -> AbstractContextManager[bytes]:
        """Stand around the storing of these records of a job, each with its id and queue; give what they carry."""
        ...

    def running(self, job: CurrentJob, trace: bytes | None, /) -> AbstractContextManager[object]:
        """Stand around an execution whose record carries this trace; the handler's error passes through."""
        ...


def with_trace(meta: bytes | None, trace: bytes) -> bytes | None:
    """Put a trace in front of a meta."""
    return b"%s%s\n%s" % (_MARK, trace, meta or b"") if trace else meta


def without_trace(wire: bytes | None) -> bytes | None:
    """Answer the meta alone."""
    if wire is None or not wire.startswith(_MARK):
        return wire
    return wire.partition(b"\n")[2] or None


def trace_of(wire: bytes | None) -> bytes | None:
    """Answer the trace alone."""
    if wire is None or not wire.startswith(_MARK):
        return None
    return wire[1:].partition(b"\n")[0]
