"""The output of a command: tables on a terminal, tab-separated lines in a pipe, or JSON."""

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from pydantic_core import to_jsonable_python

from flowli_core._text import escape_controls
from flowli_core.cli._common import exits
from flowli_core.durations import format_duration, format_span

_NARROWEST = 20
_GAP = "  "
_SHOW_DATE_FROM = timedelta(hours=12)


def is_terminal() -> bool:
    """Return True if the output goes to a terminal."""
    return sys.stdout.isatty()


def styled(text: str, **style: Any) -> str:
    """Add colours or bold print, but not in a pipe, with NO_COLOR or on a dumb terminal."""
    if not is_terminal() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return click.style(text, **style)


def format_table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[str] = ()) -> str:
    """Format rows below their headers, with control characters escaped.

    On a terminal the columns are aligned (those named in `right` to the right), and each line is cut to the width of
    the terminal. In a pipe the cells are separated by tabs.
    """
    lines = [list(headers), *([format_cell(value) for value in row] for row in rows)]
    if not is_terminal():
        return "\n".join("\t".join(line) for line in lines)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    to_right = [header in set(right) for header in headers]
    is_wide = sum(widths) + len(_GAP) * (len(widths) - 1) > shutil.get_terminal_size().columns
    gap = _GAP[:1] if is_wide else _GAP
    head, *body = [_cut(gap.join(_align(line, widths, to_right)).rstrip()) for line in lines]
    return "\n".join([styled(head, bold=True), *body])


def _align(line: Sequence[str], widths: Sequence[int], to_right: Sequence[bool]) -> list[str]:
    return [
        text.rjust(width) if right else text.ljust(width)
        for text, width, right in zip(line, widths, to_right, strict=True)
    ]


def _cut(line: str) -> str:
    width = shutil.get_terminal_size().columns
    return line if len(line) <= width else line[: width - 1] + "~"


def wrap(text: str, margin: int) -> str:
    """Wrap a text to the width of the terminal. Indent all lines but the first by a margin."""
    width = max(shutil.get_terminal_size().columns - margin, _NARROWEST)
    lines = [
        part
        for line in text.split("\n")
        for part in textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False, drop_whitespace=False)
        or [""]
    ]
    return ("\n" + " " * margin).join(lines)


def format_fields(pairs: Iterable[tuple[str, object]]) -> str:
    """Format named values.

    On a terminal the values are aligned, and may have several lines. In a pipe each is one line: name, tab, value.
    """
    shown = [
        (name, format_cell(value, lines=True) + (" UTC" if isinstance(value, datetime) else ""))
        for name, value in pairs
    ]
    if not is_terminal():
        return "\n".join(f"{name}\t{escape_controls(value)}" for name, value in shown)
    width = max(len(name) for name, _ in shown)
    margin = width + len(_GAP)
    return "\n".join(f"{styled(name.ljust(width), bold=True)}{_GAP}{wrap(value, margin)}" for name, value in shown)


def format_record(record: Any, **changed: object) -> str:
    """Format the fields of a dataclass that are not None. `changed` replaces values of some fields, or adds fields."""
    pairs = {field.name: getattr(record, field.name) for field in fields(record)} | changed
    return format_fields((name, value) for name, value in pairs.items() if value is not None)


def format_json(value: object) -> str:
    """Format as JSON in ASCII, so that it holds no control characters."""
    return json.dumps(to_jsonable_python(value), indent=2, ensure_ascii=True)


def format_moment(moment: datetime | None, now: datetime) -> str:
    """Format a moment by its distance from now, with the date if it is 12 hours away or more."""
    if moment is None:
        return ""
    ahead = moment - now
    distance = format_span(abs(ahead))
    words = "now" if distance == "0 s" else f"in {distance}" if ahead > timedelta(0) else f"{distance} ago"
    return words if abs(ahead) < _SHOW_DATE_FROM else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC ({words})"


def succeed(text: str) -> int:
    """Print what was done, and return the exit code."""
    click.echo(text)
    return exits.DONE


def fail(text: str) -> int:
    """Print why nothing was done, and return the exit code."""
    click.echo(f"flowli: {text}", err=True)
    return exits.FAILED


def format_cell(value: object, *, lines: bool = False) -> str:
    """Format a value in one line, with control characters escaped. With `lines`, line ends and tabs stay."""
    match value:
        case None:
            return ""
        case datetime():
            return value.astimezone(UTC).isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")
        case str():
            return escape_controls(value, lines=lines)
        case timedelta():
            return format_duration(value)
        case bool() | int() | float():
            return str(value)
        case _:
            return json.dumps(to_jsonable_python(value), ensure_ascii=True)
