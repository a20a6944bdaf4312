"""The trace that a call belongs to, on its way from the caller to the worker.

It travels in front of the meta, which is bytes to every driver: an at sign, which no JSON begins with, the trace as one
line, and the meta itself, where there is one. A record whose caller is not traced carries nothing, and costs nothing.
"""

from __future__ import annotations

_MARK = b"@"


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
