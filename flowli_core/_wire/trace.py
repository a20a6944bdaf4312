"""The trace context of a call, which travels from the caller to the worker in front of the meta.

The meta is opaque bytes to every driver, so no driver has to know of traces. A traced record stores `@`, which no JSON
begins with, then the trace as one line, then the meta if there is one. A record without a trace stores its meta alone.
"""

_MARK = b"@"


def with_trace(meta: bytes | None, trace: bytes) -> bytes | None:
    """Return the meta with a trace in front of it."""
    return b"%s%s\n%s" % (_MARK, trace, meta or b"") if trace else meta


def without_trace(wire: bytes | None) -> bytes | None:
    """Return the meta without the trace."""
    if wire is None or not wire.startswith(_MARK):
        return wire
    return wire.partition(b"\n")[2] or None


def trace_of(wire: bytes | None) -> bytes | None:
    """Return the trace, or None if the caller was not traced."""
    if wire is None or not wire.startswith(_MARK):
        return None
    return wire[1:].partition(b"\n")[0]
