"""An app that sends mail, for tests of calls and records."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from flowli_core import JobRecord, Jobs, Retry, current_job, fixed, job

START = datetime(2026, 1, 1, tzinfo=UTC)


class Email(BaseModel):
    to: str
    subject: str = "hi"


class Meta(BaseModel):
    request_id: str


ran: list[tuple[str, str | None]] = []


@job(Email, meta=Meta)
async def send(input: Email, meta: Meta | None) -> int:
    """Send an email."""
    ran.append((input.to, meta.request_id if meta else None))
    if input.to == "nobody":
        raise ConnectionError(input.to)
    return len(input.to)


@job(
    str,
    name="mail/slow",
    queue="slow",
    timeout="30s",
    retry=Retry(max_attempts=5, backoff=fixed("2s")),
    keep_completed="2h",
    keep_failed="3d",
    description="Slow.",
    tags=["mail"],
)
def slow(input: str) -> str:
    return threading.current_thread().name


@job()
async def who() -> dict[str, Any]:
    running = current_job()
    return {
        "id": running.id,
        "name": running.name,
        "queue": running.queue,
        "attempt": running.attempt,
        "recoveries": running.recoveries,
        "token": running.token,
        "cancelled": running.cancelled,
    }


class AppJobs(Jobs[None]):
    send = send
    slow = slow
    who = who
    queues = ("urgent", "calm", "last", "other", "bulk", "q")


async def recorded(jobs: Jobs[None], record_id: str) -> JobRecord:
    """Return a record that must exist."""
    found = await jobs.inspect.get_job(record_id)
    assert found is not None
    return found
