"""How a command shows what it has read: tables on a terminal, tab-separated lines in a pipe, or JSON."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from pydantic_core import to_jsonable_python

from flowli_core._text import escape_controls

_NARROWEST = 8
_GAP = "  "


def is_terminal() -> bool:
    """Whether a person reads it."""
    return sys.stdout.isatty()


def styled(text: str, **style: Any) -> str:
    """Make it stand out, on a terminal and without NO_COLOR."""
    if not is_terminal() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return click.style(text, **style)


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[str] = ()) -> str:
    """Put rows below headers. On a terminal: aligned, to the right those named in `right`, and cut to its width.

    In a pipe they are separated by tabs. What is written in a cell is made inert.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    if not is_terminal():
        return "\n".join("\t".join(row) for row in [list(headers), *cells])
    widths = [max(len(row[place]) for row in [list(headers), *cells]) for place in range(len(headers))]
    spare = shutil.get_terminal_size().columns - sum(widths[:-1]) - len(_GAP) * (len(widths) - 1)
    widths[-1] = min(widths[-1], max(spare, _NARROWEST))
    to_right = [header in set(right) for header in headers]
    head = _line(headers, widths, to_right)
    return "\n".join([styled(head, bold=True), *(_line(row, widths, to_right) for row in cells)])


def _line(row: Sequence[str], widths: Sequence[int], to_right: Sequence[bool]) -> str:
    padded = [
        text[: width - 1] + "~" if len(text) > width else text.rjust(width) if right else text.ljust(width)
        for text, width, right in zip(row, widths, to_right, strict=True)
    ]
    return _GAP.join(padded).rstrip()


def fields(pairs: Iterable[tuple[str, object]]) -> str:
    """Put one value below the other, each behind its name."""
    shown = [(name, _cell(value, lines=True)) for name, value in pairs]
    if not is_terminal():
        return "\n".join(f"{name}\t{escape_controls(value)}" for name, value in shown)
    width = max(len(name) for name, _ in shown)
    margin = "\n" + " " * (width + len(_GAP))
    return "\n".join(
        f"{styled(name.ljust(width), bold=True)}{_GAP}{value.replace(chr(10), margin)}" for name, value in shown
    )


def as_json(value: object) -> str:
    """Write it as JSON in plain ASCII, so that nothing in it is more than text."""
    return json.dumps(to_jsonable_python(value), indent=2, ensure_ascii=True)


def when(moment: datetime | None, now: datetime) -> str:
    """Write a moment as how far from now it is, and where that is long, as its date too."""
    if moment is None:
        return ""
    ahead = moment - now
    distance = format_span(abs(ahead))
    words = "now" if distance == "0 s" else f"in {distance}" if ahead > timedelta(0) else f"{distance} ago"
    if abs(ahead) < timedelta(hours=12):
        return words
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC ({words})"


def format_span(span: timedelta) -> str:
    """Write how long something takes, in the two units that matter."""
    seconds = int(span.total_seconds())
    if seconds < 60:  # noqa: PLR2004 - what a minute has
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def _cell(value: object, *, lines: bool = False) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return value.astimezone(UTC).isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")
        case str():
            return escape_controls(value, lines=lines)
        case bool() | int() | float():
            return str(value)
        case _:
            return json.dumps(to_jsonable_python(value), ensure_ascii=True)
