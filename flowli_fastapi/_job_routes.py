"""A router for one job: start it, read its state, follow its events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from fastapi import APIRouter, Body, Depends, Request, Response
from fastapi.params import Depends as DependsParam

from flowli_core import BoundJob, Job, Receipt
from flowli_core.web import (
    JobStatus,
    accepted_headers,
    check_guarded,
    check_owner,
    enqueue_value,
    input_type,
    job_name,
    result_type,
)
from flowli_fastapi._dependency import get_jobs
from flowli_fastapi._events import job_events, job_status
from flowli_fastapi._models import ErrorOut
from flowli_fastapi._router import UNAVAILABLE_RESPONSE, NoStoreRoute, as_http_errors
from flowli_starlette._routes import ACCEPTED, AnyJob

_MISSING: dict[int | str, dict[str, Any]] = {404: {"model": ErrorOut, "description": "There is no such job"}}
_STARTED: dict[int | str, dict[str, Any]] = {
    ACCEPTED: {
        "description": "The job is stored",
        "headers": {
            "Location": {"description": "The path of the job's state", "schema": {"type": "string"}},
            "Retry-After": {"description": "Seconds after which to ask for it", "schema": {"type": "integer"}},
        },
    }
}
_EVENTS: dict[int | str, dict[str, Any]] = {
    **_MISSING,
    200: {
        "description": "An `update` event for the state as it is and after each change, then an `end` event",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    204: {"description": "The client has seen the end already"},
}


def job_routes(
    job: AnyJob,
    path: str,
    *,
    dependencies: Sequence[DependsParam] = (),
    owner: Callable[..., Any] | None = None,
    allow_anonymous: bool = False,
) -> APIRouter:
    """Make a router for a job: `app.include_router(job_routes(AppJobs.write_report, "/reports", owner=current_user))`.

    `POST /reports` takes the input and responds with 202, the receipt, `Location` and `Retry-After`.
    `GET /reports/{id}` shows the JobStatus, and `GET /reports/{id}/events` its changes: see `job_events`. They find the
    registry as `get_jobs` does, unless the job is one of a registry (`jobs.write_report`).

    `owner` is a dependency that returns the name of the user, who sees only jobs of their own: others get a 404. Raises
    DefinitionError unless `dependencies` or `owner` guard the router, or `allow_anonymous` says that all may use it.
    """
    check_guarded(dependencies, owner, allow_anonymous, cure="pass dependencies=[Depends(...)] or owner=")
    name, declared = job_name(job), input_type(job)
    status: Any = JobStatus
    bound: Any = Depends(_bound_to_request(job))
    owned_by: Any = Depends(_checked(owner))
    body: Any = Depends(_nothing) if declared is None else Body()
    router = APIRouter(
        prefix=path,
        tags=[name],
        dependencies=list(dependencies),
        responses=UNAVAILABLE_RESPONSE,
        route_class=NoStoreRoute,
    )

    async def start(
        request: Request, response: Response, input: Any = body, job: Any = bound, owner: Any = owned_by
    ) -> Receipt:
        with as_http_errors("body"):
            receipt = await enqueue_value(job, input, owner=owner)
        response.headers.update(accepted_headers(request.scope, receipt.id))
        return receipt

    async def show(id: str, job: Any = bound, owner: Any = owned_by) -> object:
        return await job_status(job, id, owner=owner)

    async def follow(request: Request, id: str, job: Any = bound, owner: Any = owned_by) -> Response:
        return await job_events(request, job, id, owner=owner)

    start.__annotations__["input"] = declared or Any  # FastAPI reads the type of the body here
    router.post("", name=f"start_{name}", status_code=ACCEPTED, responses=_STARTED)(start)
    router.get("/{id}", name=f"show_{name}", response_model=status[result_type(job)], responses=_MISSING)(show)
    router.get("/{id}/events", name=f"follow_{name}", response_class=Response, responses=_EVENTS)(follow)
    return router


def _bound_to_request(job: AnyJob) -> Callable[..., Any]:
    """Make the dependency that returns a job of a registry as it is, and binds a declaration to that of the request."""

    async def declared(jobs: Any = Depends(get_jobs)) -> Any:  # noqa: B008 - as `jobs` is no type of the user
        return cast("Job[Any, Any, Any, Any, Any]", job).on(jobs)

    async def bound() -> Any:
        return job

    return bound if isinstance(job, BoundJob) else declared


def _checked(owner: Callable[..., Any] | None) -> Callable[..., Any]:
    """Make the dependency that returns the name of the owner."""
    if owner is None:
        return _nothing

    async def owner_of(name: Any = Depends(owner)) -> str:  # noqa: B008 - the type is the user's
        return check_owner(name)

    return owner_of


async def _nothing() -> None:
    """Return None, as the input of a job that takes none, or the owner where all share the jobs."""
