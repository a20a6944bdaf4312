"""The timeline of a job: its attempts and changes of state, with their times."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flowli_core._jobs.past_attempts import PastAttempt
from flowli_core._jobs.records import JobRecord
from flowli_core.dashboard._texts import show_duration
from flowli_core.durations import ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """An entry of the timeline. `tone` is the name of a state, which gives the colour."""

    at: datetime | None
    text: str
    tone: str
    more: str = ""


def make_timeline(record: JobRecord[Any, Any, Any]) -> list[TimelineEntry]:
    """Return the past of a job, the oldest first, and its next attempt. Only its last ten failed attempts are known."""
    entries = [TimelineEntry(at=record.created_at, text="enqueued", tone="queued")]
    entries += map(_attempt, record.attempts)
    started = record.started_at
    if started is not None and record.state in ("active", "completed"):
        waited = max(started - record.scheduled_for, ZERO)
        number = record.attempts_made + (record.state == "active")
        more = f"after a wait of {show_duration(waited)}" if number == 1 else ""
        entries.append(TimelineEntry(at=started, text=f"attempt {number} started", tone="active", more=more))
    if record.finished_at is not None:
        ran = None if started is None or record.state != "completed" else record.finished_at - started
        more = "" if ran is None else f"it ran for {show_duration(ran)}"
        if record.expired:
            more = "it expired before a worker began it"
        entries.append(TimelineEntry(at=record.finished_at, text=record.state, tone=record.state, more=more))
    elif record.state == "scheduled":
        text = "next attempt" if record.next_retry_at else "due"
        entries.append(TimelineEntry(at=record.scheduled_for, text=text, tone="scheduled"))
    elif record.state == "queued" and record.scheduled_for > record.created_at:
        entries.append(TimelineEntry(at=record.scheduled_for, text="due", tone="queued"))
    if record.expires_at is not None and not record.expired:
        text = "expires if no worker has begun it"
        entries.append(TimelineEntry(at=record.expires_at, text=text, tone="cancelled"))
    return entries


def _attempt(attempt: PastAttempt) -> TimelineEntry:
    ran = "" if attempt.duration is None else f", after {show_duration(attempt.duration)}"
    worker = "" if attempt.worker is None else f" on {attempt.worker}"
    text = f"attempt {attempt.number} failed"
    return TimelineEntry(at=attempt.started_at, text=text, tone="failed", more=f"{attempt.error.type}{ran}{worker}")
