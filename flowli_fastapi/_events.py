"""The state and the events of a job as responses of FastAPI."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar

from fastapi import Request, Response
from starlette.responses import StreamingResponse

from flowli_core import BoundJob
from flowli_core.web import JobStatus
from flowli_starlette._events import EventStream, find_status, respond_with_events

R = TypeVar("R")


def _response_class() -> type[StreamingResponse]:
    if find_spec("fastapi.sse") is None:  # an older release of FastAPI
        return EventStream
    found: type[StreamingResponse] = import_module("fastapi.sse").EventSourceResponse
    return found


EVENT_RESPONSE = _response_class()
"""FastAPI's own class of responses of server-sent events."""


async def job_status(job: BoundJob[Any, Any, Any, R], id: str, *, owner: str | None = None) -> JobStatus[R]:
    """Return the state of a stored call, as the response of a route `-> JobStatus[...]`.

    Raises HTTPException: 404 if there is no such call of this job, or with an `owner` if it is not one of that owner's
    (see `owned_id`), and 503 if the store fails.
    """
    return await find_status(job, id, owner=owner)


async def job_events(
    request: Request, job: BoundJob[Any, Any, Any, Any], id: str, *, owner: str | None = None
) -> Response:
    """Respond with the changes of a stored call, as server-sent events: see `flowli_starlette.job_events`.

    The response is an EventSourceResponse of `fastapi.sse`. The route must not name that class as `response_class`,
    which is for routes that yield.
    """
    return await respond_with_events(EVENT_RESPONSE, request, job, id, owner=owner)
