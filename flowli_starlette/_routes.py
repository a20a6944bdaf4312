"""The routes of one job: start it, read its state, follow its events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, TypeAlias

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flowli_core import BoundJob, Job
from flowli_core.web import accepted_headers, check_guarded, check_owner, enqueue_json, job_name
from flowli_starlette._connection import get_jobs
from flowli_starlette._events import as_http_errors, job_events, job_status

AnyJob: TypeAlias = Job[Any, Any, Any, Any, Any] | BoundJob[Any, Any, Any, Any]
Owner: TypeAlias = "Callable[[Request[Any]], str | Awaitable[str]]"  # as text: older releases have no generic Request

ACCEPTED = 202


def job_routes(job: AnyJob, path: str, *, owner: Owner | None = None, allow_anonymous: bool = False) -> list[Route]:
    """Make the routes of a job: `Starlette(routes=[*job_routes(AppJobs.write_report, "/reports", owner=user_of)])`.

    `POST /reports` takes the input as JSON and responds with 202, the receipt, `Location` and `Retry-After`; to an
    invalid input with 422, if the application has `jobs_exception_handlers()`.
    `GET /reports/{id}` shows the JobStatus, and `GET /reports/{id}/events` its changes: see `job_events`. They find the
    registry as `get_jobs` does, unless the job is one of a registry (`jobs.write_report`).

    `owner` returns the name of the user of a request, who sees only jobs of their own: others get a 404. It refuses
    strangers with HTTPException. Raises DefinitionError without `owner`, unless `allow_anonymous` says that anybody may
    use the routes, or that a middleware guards them.
    """
    check_guarded(owner, allow_anonymous, cure="pass owner=")

    async def start(request: Request[Any]) -> Response:
        name = await _owner_of(request, owner)
        with as_http_errors():
            receipt = await enqueue_json(bound_job(request, job), await request.body(), owner=name)
        headers = accepted_headers(request.scope, receipt.id)
        return Response(to_json(receipt), status_code=ACCEPTED, headers=headers, media_type="application/json")

    async def show(request: Request[Any]) -> Response:
        owned_by = await _owner_of(request, owner)
        return await job_status(bound_job(request, job), request.path_params["id"], owner=owned_by)

    async def follow(request: Request[Any]) -> Response:
        owned_by = await _owner_of(request, owner)
        return await job_events(request, bound_job(request, job), request.path_params["id"], owner=owned_by)

    name = job_name(job)
    return [
        Route(path, start, methods=["POST"], name=f"start_{name}"),
        Route(f"{path}/{{id}}", show, name=f"show_{name}"),
        Route(f"{path}/{{id}}/events", follow, name=f"follow_{name}"),
    ]


def bound_job(request: Request[Any], job: AnyJob) -> BoundJob[Any, Any, Any, Any]:
    """Return a job of a registry as it is, and bind a declaration to the registry of the request."""
    bound: BoundJob[Any, Any, Any, Any] = job if isinstance(job, BoundJob) else job.on(get_jobs(request))
    return bound


async def _owner_of(request: Request[Any], owner: Owner | None) -> str | None:
    if owner is None:
        return None
    found = owner(request)
    return check_owner(await found if isawaitable(found) else found)
