"""The state of a job, as an HTTP client sees it."""

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Generic

from pydantic import TypeAdapter
from typing_extensions import TypeVar

from flowli_core._jobs.job import BoundJob, call_of
from flowli_core._jobs.result_codec import ResultCodec
from flowli_core._jobs.updates import JobUpdate
from flowli_core._progress import Progress
from flowli_core.errors import ValidationError
from flowli_core.stored import State
from flowli_core.web._owners import is_owned

R_co = TypeVar("R_co", covariant=True, default=object)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus(Generic[R_co]):
    """The state of a job. Times are the store's, in UTC.

    `progress` is what the handler reported last. `error` is the type of the error of the last attempt that failed; its
    text may quote the input, so it is not shown. `result` is null until the job is completed.
    """

    id: str
    state: State
    progress: Progress | None
    attempts_made: int
    error: str | None
    result: R_co | None
    updated_at: datetime


def to_status(job: JobUpdate[Any]) -> JobStatus[Any]:
    """Return the state that an update shows."""
    return JobStatus(
        id=job.id,
        state=job.state,
        progress=job.progress,
        attempts_made=job.attempts_made,
        error=None if job.last_error is None else job.last_error.type,
        result=job.result,
        updated_at=job.updated_at,
    )


async def read_status(job: BoundJob[Any, Any, Any, Any], id: str, *, owner: str | None) -> JobStatus[Any] | None:
    """Return the state of a stored call of this job.

    It is None if the id is not that of a record of this job, or is not an id of this owner. Raises DriverError, and
    ValidationError if the result does not fit the job any more. The input is not read.
    """
    if owner is not None and not is_owned(id, owner):
        return None
    try:
        update = await call_of(job).state(id)
    except ValidationError as error:
        if error.is_internal:
            raise
        return None  # an invalid id, or that of another job
    return None if update is None else to_status(update)


def dump_status(job: BoundJob[Any, Any, Any, Any], status: JobStatus[Any]) -> str:
    """Return the JSON of a state, with the result as the handler's own type writes it. Secrets are masked."""
    return _adapter(call_of(job).definition.result).dump_json(status).decode()


@cache
def _adapter(result: ResultCodec) -> TypeAdapter[Any]:
    status: Any = JobStatus
    return TypeAdapter(status[result.declared])
