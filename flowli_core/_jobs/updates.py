"""The updates of a job that is watched, and the end of one that is awaited."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic

from flowli_core._jobs.definition import Definition
from flowli_core._jobs.records import R_co, no_longer_fits, to_job_record
from flowli_core._progress import Progress
from flowli_core.errors import JobCancelled, JobFailed, LastError, ValidationError
from flowli_core.stored import FINISHED, State, StoredRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class JobUpdate(Generic[R_co]):
    """The state of a job after a change. Times are the store's, in UTC.

    `progress` is what the handler reported last. `result` is None until the job is completed. `last_error` is that of
    the last attempt that failed.
    """

    id: str
    name: str
    state: State
    progress: Progress | None
    attempts_made: int
    last_error: LastError | None
    result: R_co | None
    updated_at: datetime

    @property
    def is_finished(self) -> bool:
        """Return True if the job is completed, failed or cancelled: there is no further update."""
        return self.state in FINISHED


def to_update(stored: StoredRecord, definition: Definition | None, *, typed: bool) -> JobUpdate[Any]:
    """Return the update for a stored record. Raises ValidationError if its result does not fit the job any more.

    If it is not `typed`, the result is plain JSON with its secrets masked.
    """
    record = to_job_record(stored, None if typed else definition)
    return JobUpdate(
        id=stored.id,
        name=stored.name,
        state=stored.state,
        progress=record.progress,
        attempts_made=record.attempts_made,
        last_error=record.last_error,
        result=_result(stored, definition) if typed and definition is not None else record.result,
        updated_at=stored.updated_at,
    )


def result_of(stored: StoredRecord, definition: Definition) -> Any:
    """Return the result of a finished record. Raises JobFailed, JobCancelled, or ValidationError if it does not fit."""
    if stored.state == "completed" and stored.damage is None:
        return _result(stored, definition)
    if stored.state == "cancelled":
        expired = f": it expired at {stored.expires_at}, before a worker began it" if stored.expired else ""
        raise JobCancelled(f"{definition.name}: the job {stored.id} was cancelled{expired}")
    record = to_job_record(stored, None)
    error = record.last_error or LastError("", "")
    attempts = f"{record.attempts_made} attempt{'' if record.attempts_made == 1 else 's'}"
    raise JobFailed(
        f"{definition.name}: the job {stored.id} failed after {attempts}: {error.type}: {error.message}",
        error=error,
        attempts=record.attempts_made,
    )


def _result(stored: StoredRecord, definition: Definition) -> Any:
    if stored.result is None:
        return None
    try:
        return definition.result.unpack(stored.result)
    except ValidationError as error:
        raise no_longer_fits(stored, error) from None
