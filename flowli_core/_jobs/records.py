"""Receipts, job records, schedule records and pages: the values that callers get, made of what the driver returns."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Generic, Literal

from pydantic_core import from_json
from typing_extensions import TypeVar

from flowli_core._checks import internal
from flowli_core._jobs.definition import Definition
from flowli_core._jobs.past_attempts import PastAttempt, find_last_error, is_lost, to_past_attempts
from flowli_core._jobs.result_codec import ResultCodec
from flowli_core._progress import LogLine, Progress
from flowli_core._schedules.rules import Cron, Every
from flowli_core._schedules.spec import ScheduleDisposition, read_or_none
from flowli_core._schedules.timing import Missed, Overlap
from flowli_core._wire.attempts import unpack_attempts
from flowli_core._wire.codec import Codec
from flowli_core._wire.keys import given_key
from flowli_core._wire.policy import Policy, unpack_policy
from flowli_core._wire.reports import unpack_log, unpack_progress
from flowli_core._wire.trace import without_trace
from flowli_core.errors import LastError, ValidationError
from flowli_core.new_records import Disposition, Enqueued
from flowli_core.retry import Backoff
from flowli_core.stored import State, StoredRecord, StoredSchedule

T = TypeVar("T")
In_co = TypeVar("In_co", covariant=True, default=object)
M_co = TypeVar("M_co", covariant=True, default=object)
R_co = TypeVar("R_co", covariant=True, default=object)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt(Generic[R_co]):
    """The answer to an enqueued call of a job that returns `R_co`.

    `disposition` is "accepted" if the call was stored, "duplicate" if there was a record with this id already, and
    "existing" if another record of this job has the same key; then the receipt is that of the other record. It is
    "replaced" if the call has replaced a record that waited, and has its id now, and "outbox" if the call waits for the
    commit of its session.
    """

    id: str
    name: str
    state: State
    scheduled_for: datetime
    attempts_made: int = 0
    disposition: Disposition | Literal["outbox"] = "accepted"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord(Generic[In_co, M_co, R_co]):
    """A stored call of a job. Times are the store's, in UTC.

    A record that `jobs.send_email.get(...)` returns has validated and typed `input`, `meta` and `result`. In one that
    `jobs.inspect` returns they are plain JSON values with secrets masked. `result` is None until the job is completed.

    `attempts_made` counts attempts that ended, `failure_count` those that failed, `recoveries` the times that a worker
    was lost while it ran. `started_at` is that of the last attempt. `next_retry_at` is set while a retry is pending.
    `lease_until` is when the lease of a running job expires, if its worker does not renew it before. `cancel_requested`
    is True while a running job is to be cancelled. `expires_at` is when a job that has not begun expires; once it has,
    it is cancelled and `expired`. `limit` is the name of the limit that it counts to, and `lane` the value of its lane.
    `progress` is what a handler reported last, and `log` holds the last 100 lines that it wrote, over all attempts;
    listings leave out the log. `attempts` are the last ten attempts that failed or lost their worker, newest last.

    `backoff` and `max_attempts` are None if a later release wrote the record.

    `damage` is None, or says what cannot be read in the store. A field that cannot be read is then empty, and a time is
    1970. The worker that meets such a record sets it aside as failed; its stored data is kept.
    """

    id: str
    name: str
    queue: str
    state: State
    input: In_co
    meta: M_co | None
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
    result: R_co | None
    lease_until: datetime | None = None
    cancel_requested: bool = False
    expires_at: datetime | None = None
    expired: bool = False
    limit: str | None = None
    lane: str | None = None
    progress: Progress | None = None
    log: tuple[LogLine, ...] = ()
    attempts: tuple[PastAttempt, ...] = ()
    damage: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleReceipt:
    """The answer to `schedule`. `next_runs` are the next five ticks in UTC; a paused or ended schedule has none."""

    key: str
    name: str
    disposition: ScheduleDisposition
    next_runs: tuple[datetime, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRecord:
    """A stored schedule. Times are the store's, in UTC.

    It has either `cron` and `timezone`, or `every`. `next_tick` is None if it is paused or has ended. `last_record_id`
    is the id of the job that its last tick stored. `declared_by` names the registry whose code declares it. If a later
    release wrote it, or it is damaged, `readable` is False and `name` is empty.
    """

    key: str
    name: str
    queue: str
    cron: str | None = None
    every: timedelta | None = None
    timezone: str = "UTC"
    start: datetime | None = None
    end: datetime | None = None
    missed: Missed = "once"
    overlap: Overlap = "allow"
    input: object = None
    meta: object = None
    next_tick: datetime | None
    last_tick: datetime | None
    last_record_id: str | None
    paused: bool
    declared_by: str | None = None
    readable: bool = True


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of a listing. `cursor` gets the next page; it is None on the last one."""

    items: tuple[T, ...]
    cursor: str | None = None


def to_receipt(name: str, answer: Enqueued, duplicate: Disposition = "duplicate") -> Receipt[Any]:
    """Return the receipt of a driver's answer. `duplicate` is the disposition of a record whose id existed already."""
    return Receipt(
        id=answer.id,
        name=name,
        state=answer.state,
        scheduled_for=answer.scheduled_for,
        attempts_made=unpack_attempts(answer.attempts).attempts_made,
        disposition=duplicate if answer.disposition == "duplicate" else answer.disposition,
    )


def to_job_record(stored: StoredRecord, definition: Definition | None) -> JobRecord:
    """Return a stored record as callers get it, with payloads as plain JSON values.

    `definition` is that of its job, or None if the registry does not know the job. It says which values are secrets;
    they are masked.
    """
    policy = _policy(stored)
    attempts = unpack_attempts(stored.attempts)
    lost = is_lost(stored)
    retrying = stored.state == "scheduled" and attempts.failure_count > 0
    return JobRecord(
        id=stored.id,
        name=stored.name,
        queue=stored.queue,
        state=stored.state,
        input=_to_plain(stored.input, None if definition is None else definition.input),
        meta=_to_plain(without_trace(stored.meta), None if definition is None else definition.meta),
        key=None if stored.key is None else given_key(stored.name, stored.key),
        created_at=stored.created_at,
        updated_at=stored.updated_at,
        scheduled_for=stored.scheduled_for,
        attempts_made=attempts.attempts_made + (stored.state == "completed"),  # a success stores no attempts
        failure_count=attempts.failure_count,
        recoveries=stored.recoveries,
        max_attempts=policy.max_attempts if policy else None,
        backoff=policy.backoff if policy else None,
        last_error=find_last_error(stored, attempts),
        last_failed_at=stored.finished_at if lost else stored.failed_at,
        next_retry_at=stored.scheduled_for if retrying else None,
        started_at=stored.started_at,
        finished_at=stored.finished_at,
        worker=stored.worker,
        result=_to_plain(stored.result, None if definition is None else definition.result),
        lease_until=stored.lease_until,
        cancel_requested=stored.cancel_requested,
        expires_at=stored.expires_at,
        expired=stored.expired,
        limit=None if stored.lane is None else stored.lane.limit,
        lane=None if stored.lane is None else stored.lane.value,
        progress=unpack_progress(stored.progress),
        log=unpack_log(stored.log),
        attempts=to_past_attempts(stored, attempts),
        damage=stored.damage,
    )


def to_typed_record(stored: StoredRecord, definition: Definition) -> JobRecord[Any, Any, Any]:
    """Return a stored record of a job, with its input, meta and result validated. Raises ValidationError."""
    job, meta = definition.name, without_trace(stored.meta)
    if stored.damage is not None:
        raise internal(ValidationError(f"{job}: the record {stored.id} is damaged: {stored.damage}"))
    if not definition.is_called(stored.name):
        raise ValidationError(f"{job}: the record {stored.id} is one of the job {stored.name!r}")
    try:
        return replace(
            to_job_record(stored, None),
            input=None if definition.input is None else definition.input.unpack(stored.input),
            meta=None if definition.meta is None or meta is None else definition.meta.unpack(meta),
            result=None if stored.result is None else definition.result.unpack(stored.result),
        )
    except ValidationError as error:
        raise no_longer_fits(stored, error) from None


def no_longer_fits(stored: StoredRecord, error: ValidationError) -> ValidationError:
    """Return the error for a stored value that does not fit its job any more, which no client can cause."""
    cure = f"jobs.inspect.get_job({stored.id!r}) reads it as JSON"
    return internal(ValidationError(f"{error}; {cure}", error.issues))


def to_schedule_record(stored: StoredSchedule, jobs: Mapping[str, Definition]) -> ScheduleRecord:
    """Return a stored schedule as callers get it. Secrets in its input and meta are masked, as `jobs` declare them."""
    found = ScheduleRecord(
        key=stored.key,
        name="",
        queue=stored.queue,
        next_tick=stored.next_tick,
        last_tick=stored.last_tick,
        last_record_id=stored.last_record_id,
        paused=stored.paused,
        readable=False,
    )
    spec = read_or_none(stored)
    if spec is None:
        return found
    rule, definition = spec.timing.rule, jobs.get(spec.record.name)
    return replace(
        found,
        name=spec.record.name,
        cron=rule.expression if isinstance(rule, Cron) else None,
        timezone=rule.timezone if isinstance(rule, Cron) else "UTC",
        every=rule.interval if isinstance(rule, Every) else None,
        start=spec.timing.start,
        end=spec.timing.end,
        missed=spec.missed,
        overlap=spec.overlap,
        input=_to_plain(spec.record.input, None if definition is None else definition.input),
        meta=_to_plain(spec.record.meta, None if definition is None else definition.meta),
        declared_by=spec.declared_by,
        readable=True,
    )


def _policy(stored: StoredRecord) -> Policy | None:
    try:
        return unpack_policy(stored.policy)
    except ValueError:
        return None


def _to_plain(wire: bytes | None, codec: Codec[Any] | ResultCodec | None) -> object:
    """Return JSON as plain data for people to read, with its secrets masked."""
    if not wire:
        return None
    try:
        plain = from_json(wire)
    except ValueError:
        plain = wire.decode(errors="backslashreplace")
    return plain if codec is None else codec.mask(plain, wire)
