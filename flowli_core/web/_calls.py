"""Calls of a job by HTTP clients, and the types that their schema shows."""

from collections.abc import Mapping
from typing import Any

from flowli_core._jobs.arguments import Given, Json
from flowli_core._jobs.definition import Definition, JobBase
from flowli_core._jobs.job import BoundJob, call_of
from flowli_core._jobs.records import Receipt
from flowli_core.durations import ZERO
from flowli_core.errors import DefinitionError
from flowli_core.web._owners import owned_id


def input_type(job: BoundJob[Any, Any, Any, Any] | JobBase) -> Any:
    """Return the type of the input of a job, or None if it takes none."""
    codec = _definition(job).input
    return None if codec is None else codec.declared


def result_type(job: BoundJob[Any, Any, Any, Any] | JobBase) -> Any:
    """Return the type of the result of a job. Raises DefinitionError if it cannot be resolved."""
    return _definition(job).result.declared


def job_name(job: BoundJob[Any, Any, Any, Any] | JobBase) -> str:
    """Return the name of a job."""
    return _definition(job).name


async def enqueue_value(job: BoundJob[Any, Any, Any, Any], input: object, *, owner: str | None) -> Receipt[Any]:
    """Store a call with this input; None if the job takes none. With an owner, its id is one of that owner."""
    return await _enqueue(job, Given(input), owner)


async def enqueue_json(job: BoundJob[Any, Any, Any, Any], body: bytes, *, owner: str | None) -> Receipt[Any]:
    """Store a call with the input that this JSON is; it is ignored if the job takes none."""
    return await _enqueue(job, Given(None) if input_type(job) is None else Json(body), owner)


def accepted_headers(scope: Mapping[str, Any], id: str) -> dict[str, str]:
    """Return the headers of the response to a started job: where its state is, and after how many seconds to read it.

    `scope` is that of the request. A proxy may have removed the root path of the application from its path.
    """
    path, root = scope["path"].rstrip("/"), scope.get("root_path", "").rstrip("/")
    prefix = "" if path.startswith(f"{root}/") else root
    return {"Cache-Control": "no-store", "Location": f"{prefix}{path}/{id}", "Retry-After": "1"}


async def _enqueue(job: BoundJob[Any, Any, Any, Any], input: Given | Json, owner: str | None) -> Receipt[Any]:
    call = call_of(job)
    if owner is not None:
        call = call.over(id=owned_id(owner))
    (receipt,) = await call.send([call.record(input, ZERO)])
    return receipt


def check_guarded(*guards: object, cure: str) -> None:
    """Raise DefinitionError unless something guards the routes of a job."""
    if not any(guards):
        raise DefinitionError(f"job_routes lets anybody start jobs and read results: {cure}, or allow_anonymous=True")


def _definition(job: BoundJob[Any, Any, Any, Any] | JobBase) -> Definition:
    return job.definition if isinstance(job, JobBase) else call_of(job).definition
