"""What `jobs_router` answers."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict

from flowli_core import Missed, Overlap, State


class _Out(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class ErrorOut(_Out):
    """Why there is no answer."""

    detail: str


class StateCountsOut(_Out):
    """How many jobs are in each state."""

    queued: int
    scheduled: int
    active: int
    completed: int
    failed: int
    cancelled: int


class JobCountsOut(StateCountsOut):
    """How many jobs are in each state, over all queues and in each."""

    by_queue: dict[str, StateCountsOut]


class JobErrorOut(_Out):
    """What kind of error ended the last attempt that failed."""

    type: str


class FullJobErrorOut(JobErrorOut):
    """The error that ended the last attempt that failed."""

    message: str
    traceback: str


class _JobOut(_Out):
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


class JobOut(_JobOut):
    """A stored job, without what it carries. Times are the store's, in UTC."""

    last_error: JobErrorOut | None


class FullJobOut(_JobOut):
    """A stored job, with its input, meta, key, result, and what its error said."""

    input: object
    meta: object
    key: str | None
    result: object
    last_error: FullJobErrorOut | None


class _PageOut(_Out):
    cursor: str | None


class JobPageOut(_PageOut):
    """Some of a listing, newest first. `cursor` asks for what follows; null means that this was the end."""

    items: list[JobOut]


class FullJobPageOut(_PageOut):
    """The same, with what the jobs carry."""

    items: list[FullJobOut]


class ScheduleOut(_Out):
    """A recurring definition, without what its jobs carry. `every` is in ISO 8601."""

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


class FullScheduleOut(ScheduleOut):
    """The same, with the input and meta of its jobs."""

    input: object
    meta: object


class SchedulePageOut(_PageOut):
    """Some of the recurring definitions."""

    items: list[ScheduleOut]


class FullSchedulePageOut(_PageOut):
    """The same, with what their jobs carry."""

    items: list[FullScheduleOut]
