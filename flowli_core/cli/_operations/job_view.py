"""Stored jobs as people read them: the rows of a list, and the fields of one job."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime

from flowli_core._jobs.describe import describe_attempt, describe_backoff
from flowli_core._jobs.lanes import explain_wait
from flowli_core._jobs.past_attempts import PastAttempt
from flowli_core._jobs.records import JobRecord
from flowli_core._jobs.workers import WORKER_ALIVE
from flowli_core._progress import Progress
from flowli_core._text import escape_controls
from flowli_core.cli._common.show import format_fields, format_moment, format_table, is_terminal
from flowli_core.durations import format_elapsed
from flowli_core.stored import STATES, Overview, State, StateCounts

_BAR = 20
"""The width of a progress bar."""

_TIMES = {"queued": "due", "scheduled": "due", "active": "started"}
"""The time that a list shows of jobs in these states. For the other states it is when they finished."""


def format_jobs(records: Sequence[JobRecord], state: State) -> str:
    """Format jobs in the same state as a table, one a row."""
    headers = ["id", "name", "queue", "attempts", f"{_TIMES.get(state, state)} (UTC)", "error"]
    return format_table(headers, [_row(record) for record in records], right=["attempts"])


def describe_unknown(id: str) -> str:
    """Return the message for an id that no job has."""
    return f"there is no job with the id {escape_controls(id)}; finished jobs are removed after a while"


def explain_no_jobs(state: State, counts: StateCounts) -> str:
    """Return a text for an empty list: it names the states in which there are jobs."""
    others = {name: count for name in STATES if name != state and (count := getattr(counts, name))}
    if not others:
        return f"no {state} jobs, and none in another state"
    found = ", ".join(f"{count} {name}" for name, count in others.items())
    return f"no {state} jobs, but {found}: flowli jobs list {next(iter(others))}"


def format_job(record: JobRecord, overview: Overview, *, tracebacks: bool = False) -> str:
    """Format all that is known of a job, with the traceback of each attempt if wanted."""
    shown: dict[str, object] = {}
    for field in fields(record):
        if field.name == "attempts_made":
            shown["attempt"] = describe_attempt(record)
        elif field.name not in ("max_attempts", "backoff", "last_error"):
            shown[field.name] = getattr(record, field.name)
    if record.backoff is not None and record.max_attempts != 1:
        shown["backoff"] = describe_backoff(record.backoff)
    if record.state == "active" and record.worker is not None:
        shown["worker"] = f"{record.worker} ({describe_worker(record.worker, overview)})"
    if record.lease_until is not None:
        remaining = format_moment(record.lease_until, overview.now)
        shown["lease_until"] = f"{record.lease_until:%Y-%m-%d %H:%M:%S} UTC ({remaining})"
    error = record.last_error
    if error is not None:
        shown["last_error"] = f"{error.type}: {error.message}"
        shown["traceback"] = error.traceback.rstrip() or None
    shown["cancel_requested"], shown["expired"] = record.cancel_requested or None, record.expired or None
    shown["lane"] = record.lane or None  # a limit without `by` has one lane, with an empty value
    shown["waits"] = explain_wait(record, overview)
    if record.progress is not None:
        shown["progress"] = format_progress(record.progress, overview.now)
    del shown["log"], shown["attempts"]
    pairs = [pair for pair in shown.items() if pair[1] is not None]
    attempts = [_format_past_attempt(attempt, traceback=tracebacks) for attempt in record.attempts]
    log = [f"{line.at:%Y-%m-%d %H:%M:%S} {escape_controls(line.text)}" for line in record.log]
    return format_fields([*pairs, *_fields_of_lines("attempts", attempts), *_fields_of_lines("log", log)])


def format_progress(progress: Progress, now: datetime) -> str:
    """Format progress, on a terminal with a bar: how much is done, the note, and when it was reported."""
    note = f": {escape_controls(progress.note)}" if progress.note else ""
    return f"{format_amount(progress, bar=is_terminal())}{note}, {format_moment(progress.at, now)}"


def format_amount(progress: Progress, *, bar: bool) -> str:
    """Format how much is done, after a bar if there is a total and `bar` is set."""
    fraction, amount = progress.fraction, f"{progress.done:,}"
    if fraction is None:
        return amount
    filled = int(fraction * _BAR)
    drawn = f"[{'#' * filled}{'-' * (_BAR - filled)}] " if bar else ""
    return f"{drawn}{amount} of {progress.total:,} ({fraction:.0%})"


def explain_cancel(worker: str, lease_until: datetime, overview: Overview) -> str:
    """Return when a running job, whose cancellation was requested, will be cancelled."""
    seen = f"requested: the job is running on {worker} ({describe_worker(worker, overview)})"
    if is_silent(worker, overview):
        expiry = format_moment(lease_until, overview.now)
        return f"{seen}; if that worker is dead, the job is cancelled when its lease expires, {expiry}"
    return f"{seen}; it is cancelled at the next heartbeat"


def describe_worker(worker: str, overview: Overview) -> str:
    """Return when a worker was last seen."""
    known = overview.workers.get(worker)
    return "not seen in the last minute" if known is None else f"last seen {format_moment(known.seen, overview.now)}"


def is_silent(worker: str, overview: Overview) -> bool:
    """Return True if a worker was not seen for longer than a living one can be."""
    known = overview.workers.get(worker)
    return known is None or overview.now - known.seen >= WORKER_ALIVE


def _fields_of_lines(name: str, lines: Sequence[str]) -> list[tuple[str, object]]:
    """Return the field of some lines, all in one on a terminal. In a pipe, each line is a field of its own."""
    if not lines:
        return []
    return [(name, "\n".join(lines))] if is_terminal() else [(name, line) for line in lines]


def _format_past_attempt(attempt: PastAttempt, *, traceback: bool) -> str:
    """Return a line with the number, start, duration, worker and error of an attempt, and its traceback if wanted."""
    parts = [str(attempt.number)]
    if attempt.started_at is not None:
        parts.append(f"{attempt.started_at:%Y-%m-%d %H:%M:%S}")
    if attempt.duration is not None:
        parts.append(f"for {format_elapsed(attempt.duration)}")
    if attempt.worker is not None:
        parts.append(f"on {attempt.worker}")
    error = attempt.error
    line = escape_controls(f"{' '.join(parts)}, {error.type}: {error.message}")
    return f"{line}\n{error.traceback.rstrip()}" if traceback and error.traceback else line


def _row(record: JobRecord) -> list[object]:
    error = record.last_error
    at: datetime | None = record.scheduled_for
    if record.state not in ("queued", "scheduled"):
        at = record.started_at if record.state == "active" else record.finished_at
    message = "" if error is None else f"{error.type}: {error.message}"
    return [record.id, record.name, record.queue, describe_attempt(record), at, message]
