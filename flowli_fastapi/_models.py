"""The models of the responses of `jobs_router`.

`JobOut` and `ScheduleOut` leave out what jobs carry: inputs, metas, keys, results, and texts of handlers and of errors,
which may quote them. `FullJobOut` and `FullScheduleOut` add it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from flowli_core import Missed, Overlap, State

T = TypeVar("T")


class _Out(BaseModel, frozen=True):
    model_config = ConfigDict(from_attributes=True)


class ErrorOut(_Out, frozen=True):
    """The reason for an error response."""

    detail: str


class JobErrorOut(_Out, frozen=True):
    """The type of the error of a failed attempt."""

    type: str


class FullJobErrorOut(JobErrorOut, frozen=True):
    """The error of a failed attempt."""

    message: str
    traceback: str


class AttemptOut(_Out, frozen=True):
    """An attempt that failed or lost its worker. `duration` is in ISO 8601."""

    number: int
    started_at: datetime | None
    duration: timedelta | None
    worker: str | None
    error: JobErrorOut


class FullAttemptOut(AttemptOut, frozen=True):
    """An attempt that failed or lost its worker, with its whole error."""

    error: FullJobErrorOut


class ProgressOut(_Out, frozen=True):
    """The progress that a handler reported last. `fraction` is from 0 to 1, null without a total."""

    done: float
    total: float | None
    fraction: float | None
    at: datetime


class FullProgressOut(ProgressOut, frozen=True):
    """The progress that a handler reported last, with its note."""

    note: str | None


class LogLineOut(_Out, frozen=True):
    """A line of the log of a job."""

    at: datetime
    text: str


class JobOut(_Out, frozen=True):
    """A stored job without what it carries. Times are the store's, in UTC."""

    id: str
    name: str
    queue: str
    state: State
    created_at: datetime
    updated_at: datetime
    scheduled_for: datetime
    attempts_made: int
    failure_count: int
    recoveries: int
    max_attempts: int | None
    last_failed_at: datetime | None
    next_retry_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    worker: str | None
    lease_until: datetime | None
    cancel_requested: bool
    expires_at: datetime | None
    expired: bool
    limit: str | None
    progress: ProgressOut | None
    last_error: JobErrorOut | None
    attempts: tuple[AttemptOut, ...]
    damage: str | None


class FullJobOut(JobOut, frozen=True):
    """A stored job with its input, meta, key, lane, result, error, note and log. A list leaves out the log."""

    input: object
    meta: object
    key: str | None
    lane: str | None
    result: object
    progress: FullProgressOut | None
    log: tuple[LogLineOut, ...]
    last_error: FullJobErrorOut | None
    attempts: tuple[FullAttemptOut, ...]


class ScheduleOut(_Out, frozen=True):
    """A schedule without the input and meta of its jobs. `every` is in ISO 8601."""

    key: str
    name: str
    queue: str
    cron: str | None
    every: timedelta | None
    timezone: str
    start: datetime | None
    end: datetime | None
    missed: Missed
    overlap: Overlap
    next_tick: datetime | None
    last_tick: datetime | None
    last_record_id: str | None
    paused: bool
    declared_by: str | None
    readable: bool


class FullScheduleOut(ScheduleOut, frozen=True):
    """A schedule with the input and meta of its jobs."""

    input: object
    meta: object


class PageOut(_Out, Generic[T], frozen=True):
    """A page of a list. `cursor` asks for the next page; it is null on the last."""

    items: list[T]
    cursor: str | None
