"""Progress and log lines as JSON. Damaged ones are left out: nothing depends on them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic_core import from_json, to_json

from flowli_core._progress import LogLine, Progress
from flowli_core.errors import ValidationError

_DAMAGE = (ValueError, TypeError, KeyError, OverflowError, ValidationError)


def pack_progress(progress: Progress, offset: timedelta) -> bytes:
    """Write progress as JSON, with its time moved by an offset."""
    found: dict[str, Any] = {"done": progress.done, "at": _format_time(progress.at + offset)}
    if progress.total is not None:
        found["total"] = progress.total
    if progress.note is not None:
        found["note"] = _encodable(progress.note)
    return to_json(found)


def unpack_progress(wire: bytes | None) -> Progress | None:
    """Read progress. Return None if none is stored, or if it cannot be read."""
    if wire is None:
        return None
    try:
        found = from_json(wire)
        return Progress(done=found["done"], total=found.get("total"), note=found.get("note"), at=_to_time(found["at"]))
    except (*_DAMAGE, AttributeError):
        return None


def pack_line(line: LogLine, offset: timedelta) -> bytes:
    """Write a log line as JSON, which holds no newline, with its time moved by an offset."""
    return to_json([_format_time(line.at + offset), line.text])


def unpack_log(lines: Iterable[bytes]) -> tuple[LogLine, ...]:
    """Read log lines, without those that cannot be read."""
    return tuple([line for wire in lines if (line := _unpack_line(wire)) is not None])


def _unpack_line(wire: bytes) -> LogLine | None:
    try:
        at, text = from_json(wire)
        return LogLine(_to_time(at), text) if type(text) is str else None
    except _DAMAGE:
        return None


def _format_time(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds")


def _to_time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
