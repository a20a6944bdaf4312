"""A router for one job: start it, read its state, follow its events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable
from typing import Any

from litestar import Request, Response, Router, get, post
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody

from flowli_core import BoundJob, Receipt
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
from flowli_litestar._events import job_events, job_status

Owner = Callable[[Request[Any, Any, Any]], str | Awaitable[str]]
Guard = Callable[[ASGIConnection[Any, Any, Any, Any], BaseRouteHandler], Any]

_ACCEPTED = 202
_EVENTS = ResponseSpec(
    data_container=str,
    generate_examples=False,
    description="An `update` event for the state as it is and after each change, then an `end` event",
    media_type="text/event-stream",
)


def job_routes(
    job: BoundJob[Any, Any, Any, Any],
    path: str,
    *,
    guards: Sequence[Guard] = (),
    owner: Owner | None = None,
    allow_anonymous: bool = False,
) -> Router:
    """Make a router for a job: `Litestar([job_routes(jobs.write_report, "/reports", owner=user_of)])`.

    `POST /reports` takes the input and responds with 202, the receipt, `Location` and `Retry-After`.
    `GET /reports/{job_id}` shows the JobStatus, and `GET /reports/{job_id}/events` its changes: see `job_events`.

    `owner` returns the name of the user of a request, who sees only jobs of their own: others get a 404. Raises
    DefinitionError unless `guards` or `owner` guard the router, or `allow_anonymous` says that anybody may use it.
    """
    check_guarded(guards, owner, allow_anonymous, cure="pass guards=[...] or owner=")

    async def start(request: Request[Any, Any, Any], data: Any) -> Response[Receipt]:
        receipt = await enqueue_value(job, data, owner=await _owner_of(request, owner))
        return Response(receipt, headers=accepted_headers(request.scope, receipt.id))

    async def start_without_input(request: Request[Any, Any, Any]) -> Response[Receipt]:
        return await start(request, None)

    async def show(request: Request[Any, Any, Any], job_id: FromPath[str]) -> Response[Any]:
        return await job_status(job, job_id, owner=await _owner_of(request, owner))

    async def follow(request: Request[Any, Any, Any], job_id: FromPath[str]) -> Response[Any]:
        return await job_events(request, job, job_id, owner=await _owner_of(request, owner))

    name, declared, status = job_name(job), input_type(job), _untyped(JobStatus)
    start.__annotations__["data"] = _untyped(JSONBody)[declared]
    show.__annotations__["return"] = _untyped(Response)[status[result_type(job)]]
    return Router(
        path,
        guards=guards,
        tags=[name],
        route_handlers=[
            post(status_code=_ACCEPTED, summary=f"Start {name}")(start if declared else start_without_input),
            get("/{job_id:str}", summary=f"Show {name}")(show),
            get("/{job_id:str}/events", summary=f"Follow {name}", responses={200: _EVENTS})(follow),
        ],
    )


def _untyped(generic: Any) -> Any:
    """Return a generic type, to be given a type that is known only when the program runs."""
    return generic


async def _owner_of(request: Request[Any, Any, Any], owner: Owner | None) -> str | None:
    if owner is None:
        return None
    found = owner(request)
    return check_owner(await found if isawaitable(found) else found)
