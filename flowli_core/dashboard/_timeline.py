"""The story of a job: what has happened to it, and when."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flowli_core._jobs.records import JobRecord
from flowli_core.dashboard._texts import show_duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """A line of the story. `tone` is the name of a state, which gives the colour."""

    at: datetime
    text: str
    tone: str
    more: str = ""


def tell_story(record: JobRecord[Any, Any, Any], now: datetime) -> list[Happening]:
    """Return what has happened to a job, the oldest first, and what happens next."""
    story = [Happening(at=record.created_at, text="enqueued", tone="queued")]
    if record.started_at is not None and record.state in ("active", "completed"):
        waited = show_duration(record.started_at - _due(record))
        more = f"attempt {record.attempts_made + (record.state == 'active')}, after a wait of {waited}"
        story.append(Happening(at=record.started_at, text="started", tone="active", more=more))
    if record.finished_at is not None:
        took = record.finished_at - record.started_at if record.started_at else timedelta(0)
        more = f"after {show_duration(took)}" if record.state == "completed" else ""
        story.append(Happening(at=record.finished_at, text=record.state, tone=record.state, more=more))
    elif record.state == "scheduled":
        text = "next attempt" if record.next_retry_at else "due"
        story.append(Happening(at=record.scheduled_for, text=text, tone="scheduled"))
    elif record.state == "queued" and record.scheduled_for != record.created_at:
        story.append(Happening(at=record.scheduled_for, text="due", tone="queued"))
    return sorted(story, key=lambda one: one.at) if now else story


def _due(record: JobRecord[Any, Any, Any]) -> datetime:
    return min(record.scheduled_for, record.started_at or record.scheduled_for)
