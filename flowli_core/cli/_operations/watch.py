"""Following a job until it has finished, for `flowli jobs watch` and `flowli enqueue --wait`."""

import asyncio
import json
import os
import shutil
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO

import click
from pydantic_core import to_jsonable_python

from flowli_core._jobs.registry import Jobs
from flowli_core._jobs.updates import JobUpdate
from flowli_core._jobs.workers import to_workers, unserved_queues
from flowli_core._logger import logger
from flowli_core._text import escape_controls
from flowli_core.cli._common import exits
from flowli_core.cli._common.show import fail, format_cell
from flowli_core.cli._operations.job_view import format_amount
from flowli_core.durations import format_span
from flowli_core.stored import Overview

_REDRAW_EVERY = 1.0
_DEFAULT_COLUMNS = 80
_WAITING = ("queued", "scheduled")


class Display:
    """Shows the updates of a job: on a terminal in a line that is rewritten, otherwise each in a line of its own."""

    def __init__(self, stream: TextIO, *, is_json: bool = False) -> None:
        self._stream = stream
        self._is_json = is_json
        self._is_rewritten = not is_json and stream.isatty() and os.environ.get("TERM") != "dumb"
        self._active_since: datetime | None = None
        self._redraw: asyncio.TimerHandle | None = None
        self.clock_offset = timedelta(0)
        """The difference between the clock of the store and that of this machine."""

    def show(self, update: JobUpdate[object]) -> None:
        """Show an update."""
        if update.state == "active":
            self._active_since = update.updated_at
        if self._is_rewritten:
            self._draw(update)
        elif self._is_json:
            click.echo(json.dumps(to_jsonable_python(update), ensure_ascii=True), file=self._stream)
        else:
            click.echo("\t".join(map(format_cell, _cells(update))), file=self._stream)

    def end(self) -> None:
        """End the line that is rewritten."""
        if self._redraw is not None:
            self._redraw.cancel()
            self._redraw = None
            click.echo(file=self._stream)

    def _draw(self, update: JobUpdate[object]) -> None:
        if self._redraw is not None:
            self._redraw.cancel()
        encoding = self._stream.encoding
        text = escape_controls(self._format(update)).encode(encoding, "backslashreplace").decode(encoding)
        size = os.get_terminal_size(self._stream.fileno())
        columns = shutil.get_terminal_size((size.columns or _DEFAULT_COLUMNS, size.lines)).columns
        click.echo(f"\r{_cut(text, columns)}\x1b[K", file=self._stream, nl=False)
        self._redraw = asyncio.get_running_loop().call_later(_REDRAW_EVERY, self._draw, update)

    def _format(self, update: JobUpdate[object]) -> str:
        _, state, amount, text = _cells(update, bar=True)
        if update.state == "active" and update.attempts_made:
            state = f"{state}, attempt {update.attempts_made + 1}"
        if not update.is_finished:
            now = datetime.now(UTC) + self.clock_offset
            state = f"{state} ({format_span(max(now - update.updated_at, timedelta(0)))})"
        elif self._active_since is not None:
            state = f"{state} after {format_span(update.updated_at - self._active_since)}"
        return f"{state}  {': '.join(part for part in (amount, text) if part)}".rstrip()


async def follow(registry: Jobs[Any], id: str, display: Display) -> JobUpdate[object]:
    """Show each update of a job, and return the last. Raises RecordNotFound."""
    overview = await registry.inspect.get_overview()
    display.clock_offset = overview.now - datetime.now(UTC)
    try:
        updates = registry.inspect.watch(id)
        update = await anext(updates)
        if update.state in _WAITING:
            await _warn_if_unserved(registry, id, overview)
        display.show(update)
        async for update in updates:
            display.show(update)
    except asyncio.CancelledError:
        display.end()
        click.echo(f"stopped watching; the job goes on: flowli jobs watch {escape_controls(id)}", err=True)
        raise
    finally:
        display.end()
    return update


def report_outcome(update: JobUpdate[object]) -> int:
    """Print why a job was not completed, and return the exit code."""
    if update.state == "completed":
        return exits.DONE
    if update.state == "cancelled":
        return fail(f"{escape_controls(update.id)} was cancelled")
    return fail(escape_controls(f"{update.id} failed: {_describe_error(update)}"))


async def _warn_if_unserved(registry: Jobs[Any], id: str, overview: Overview) -> None:
    queues = unserved_queues(overview, to_workers(overview))
    record = await registry.inspect.get_job(id) if queues else None
    if record is not None and record.queue in queues:
        logger.warning("the job waits in the queue %s, which no worker serves", record.queue)


def _cells(update: JobUpdate[object], *, bar: bool = False) -> tuple[datetime, str, str, str]:
    """Return when a job changed, its state, its progress, and the error or the note that goes with them."""
    at, amount, text = update.updated_at, "", ""
    if update.progress is not None:
        at = max(at, update.progress.at)
        amount, text = format_amount(update.progress, bar=bar), update.progress.note or ""
    if update.state in (*_WAITING, "failed") and update.last_error is not None:
        text = _describe_error(update)
    return at, update.state, amount, text


def _describe_error(update: JobUpdate[object]) -> str:
    error = update.last_error
    return "" if error is None else f"{error.type}: {error.message}"


def _cut(text: str, columns: int) -> str:
    """Cut a text so that it leaves the last column of the terminal empty. Wide characters take two columns."""
    used = 0
    for position, character in enumerate(text):
        used += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if used >= columns:
            return f"{text[: max(position - 1, 0)]}~"
    return text
