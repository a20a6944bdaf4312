"""What a caller is told about records: receipts, records, pages and counts."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, Literal, TypeVar

from pydantic_core import from_json

from flowli_core._policy import LastError, NewerVersionError, Policy, unpack_policy, unpack_progress
from flowli_core._trace import without_trace
from flowli_core.driver import Position, State, StoredRecord
from flowli_core.errors import ValidationError
from flowli_core.retry import Backoff

T = TypeVar("T")

Disposition = Literal["accepted", "duplicate", "existing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of an enqueued job.

    accepted: it is stored. duplicate: a record with this id was there already. existing: an unfinished record of this
    job holds the same key, and the receipt is that record's.
    """

    id: str
    name: str
    state: State
    scheduled_for: datetime
    attempts_made: int = 0
    disposition: Disposition = "accepted"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A stored call of a job. Times are the store's, in UTC.

    `input`, `meta` and `result` are what their JSON says, not instances of the declared types. `attempts_made` counts
    attempts that ended, `failure_count` those that failed, `recoveries` the times that a worker was lost while it ran.
    `started_at` belongs to the last attempt. `next_retry_at` is set while a retry waits. `backoff` and `max_attempts`
    are None where the record was written by a later release.
    """

    id: str
    name: str
    queue: str
    state: State
    input: object
    meta: object
    key: str | None
    created_at: datetime
    updated_at: datetime
    scheduled_for: datetime
    attempts_made: int
    failure_count: int
    recoveries: int
    max_attempts: int | None
    backoff: Backoff | None
    last_error: LastError | None
    last_failed_at: datetime | None
    next_retry_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    worker: str | None
    result: object


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRecord:
    """A recurring definition. None can exist in this release: `schedule` raises SchedulingError."""

    key: str
    name: str


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some of a listing, newest first. `cursor` asks for what follows; None means that this was the end."""

    items: tuple[T, ...]
    cursor: str | None = None


def job_record(stored: StoredRecord) -> JobRecord:
    """Read what a driver stores."""
    policy = _policy(stored)
    progress = unpack_progress(stored.progress)
    lost = stored.state == "failed" and stored.recoveries > stored.max_recoveries
    retrying = stored.state == "scheduled" and progress.failure_count > 0
    return JobRecord(
        id=stored.id,
        name=stored.name,
        queue=stored.queue,
        state=stored.state,
        input=_json(stored.input),
        meta=_json(without_trace(stored.meta)),
        key=None if stored.key is None else stored.key.removeprefix(f"{stored.name}:"),
        created_at=stored.created_at,
        updated_at=stored.updated_at,
        scheduled_for=stored.scheduled_for,
        attempts_made=progress.attempts_made + (stored.state == "completed"),
        failure_count=progress.failure_count,
        recoveries=stored.recoveries,
        max_attempts=policy.max_attempts if policy else None,
        backoff=policy.backoff if policy else None,
        last_error=_worker_lost(stored.recoveries) if lost else progress.last_error,
        last_failed_at=stored.finished_at if lost else stored.failed_at,
        next_retry_at=stored.scheduled_for if retrying else None,
        started_at=stored.started_at,
        finished_at=stored.finished_at,
        worker=stored.worker,
        result=_json(stored.result),
    )


def pack_cursor(position: Position) -> str:
    """Write where a page ended as text that may stand in a URL."""
    return base64.urlsafe_b64encode(f"{position.at.isoformat()} {position.id}".encode()).decode().rstrip("=")


def unpack_cursor(cursor: object) -> Position:
    """Read a cursor. Raises ValidationError for one that this library did not make."""
    try:
        text = base64.b64decode(str(cursor) + "==", altchars=b"-_").decode()
        moment, record_id = text.split(" ", 1)
        at = datetime.fromisoformat(moment)
        return Position(at.astimezone(UTC), record_id)
    except (binascii.Error, ValueError, OverflowError):
        raise ValidationError("cursor is not one that an earlier page gave") from None


def _worker_lost(recoveries: int) -> LastError:
    message = f"worker lost: its lease ended unrenewed {recoveries} times, so this job may be what kills its workers"
    return LastError("WorkerLost", message)


def _policy(stored: StoredRecord) -> Policy | None:
    try:
        return unpack_policy(stored.policy)
    except (NewerVersionError, ValueError):
        return None


def _json(wire: bytes | None) -> object:
    if wire is None:
        return None
    try:
        return from_json(wire)
    except ValueError:
        return wire.decode(errors="backslashreplace")
