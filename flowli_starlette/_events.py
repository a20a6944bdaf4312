"""The state and the events of a job as responses."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from flowli_core import BoundJob, DriverError
from flowli_core.web import JobStatus, dump_status, has_seen_end, read_status, stream_events
from flowli_starlette._errors import NOT_FOUND, UNAVAILABLE, store_failure

R = TypeVar("R")

NO_CONTENT = 204
NO_STORE = {"Cache-Control": "no-store"}
_NO_BUFFERING = {"X-Accel-Buffering": "no"}  # by nginx


class EventStream(StreamingResponse):
    """A response of server-sent events."""

    media_type = "text/event-stream"


async def job_status(job: BoundJob[Any, Any, Any, R], id: str, *, owner: str | None = None) -> Response:
    """Respond with the JobStatus of a stored call, as JSON.

    Raises HTTPException: 404 if there is no such call of this job, or with an `owner` if it is not one of that owner's
    (see `owned_id`), and 503 if the store fails.
    """
    status = await find_status(job, id, owner=owner)
    return Response(dump_status(job, status), headers=NO_STORE, media_type="application/json")


async def job_events(
    request: Request[Any], job: BoundJob[Any, Any, Any, Any], id: str, *, owner: str | None = None
) -> Response:
    """Respond with the changes of a stored call, as server-sent events.

    An `update` event has the JobStatus as JSON. The first shows the job as it is, unless the client has seen that
    before it connected again. The `end` event comes last: the client closes its EventSource. If it does not, it gets a
    204 when it connects again, which ends it too. Raises HTTPException as `job_status` does.
    """
    return await respond_with_events(EventStream, request, job, id, owner=owner)


async def respond_with_events(
    kind: type[StreamingResponse],
    request: Request[Any],
    job: BoundJob[Any, Any, Any, Any],
    id: str,
    *,
    owner: str | None,
) -> Response:
    """Respond with the events of a job, in a response of this class."""
    status = await find_status(job, id, owner=owner)
    last_event_id = request.headers.get("Last-Event-ID")
    if has_seen_end(status, last_event_id):
        return Response(status_code=NO_CONTENT, headers=NO_STORE)
    headers = {**NO_STORE, **_NO_BUFFERING}
    if request.method == "HEAD":
        return Response(headers=headers, media_type=EventStream.media_type)
    return kind(_encoded(job, id, last_event_id), headers=headers)


async def find_status(job: BoundJob[Any, Any, Any, R], id: str, *, owner: str | None) -> JobStatus[R]:
    """Return the state of a stored call. Raises HTTPException."""
    with as_http_errors():
        status = await read_status(job, id, owner=owner)
    if status is None:
        raise HTTPException(NOT_FOUND, "there is no job with this id", headers=NO_STORE)
    return status


@contextmanager
def as_http_errors() -> Generator[None]:
    """Turn a failure of the store into a 503, so that it also works in an app without `jobs_exception_handlers`."""
    try:
        yield
    except DriverError as error:
        detail, headers = store_failure(error)
        raise HTTPException(UNAVAILABLE, detail, headers={**NO_STORE, **headers}) from error


async def _encoded(job: BoundJob[Any, Any, Any, Any], id: str, last_event_id: str | None) -> AsyncGenerator[str]:
    async with aclosing(stream_events(job, id, last_event_id=last_event_id)) as events:
        async for event in events:
            yield ":\n\n" if event is None else f"id: {event.id}\nevent: {event.name}\ndata: {event.data}\n\n"
