"""The state and the events of a job as responses of Litestar."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, TypeVar

from litestar import MediaType, Request, Response
from litestar.exceptions import NotFoundException
from litestar.response import ServerSentEvent, ServerSentEventMessage

from flowli_core import BoundJob
from flowli_core.web import JobStatus, dump_status, has_seen_end, read_status, stream_events

R = TypeVar("R")

NO_STORE = {"Cache-Control": "no-store"}
_NO_CONTENT = 204


async def job_status(job: BoundJob[Any, Any, Any, R], id: str, *, owner: str | None = None) -> Response[JobStatus[R]]:
    """Respond with the JobStatus of a stored call, as JSON.

    Raises NotFoundException if there is no such call of this job, or with an `owner` if it is not one of that owner's
    (see `owned_id`), and DriverError, which the plugin turns into a 503, if the store fails.
    """
    content: Any = dump_status(job, await _find_status(job, id, owner=owner))
    return Response(content.encode(), headers=NO_STORE, media_type=MediaType.JSON)


async def job_events(
    request: Request[Any, Any, Any], job: BoundJob[Any, Any, Any, Any], id: str, *, owner: str | None = None
) -> Response[Any]:
    """Respond with the changes of a stored call, as a ServerSentEvent response.

    An `update` event has the JobStatus as JSON. The first shows the job as it is, unless the client has seen that
    before it connected again. The `end` event comes last: the client closes its EventSource. If it does not, it gets a
    204 when it connects again, which ends it too. Raises errors as `job_status` does.
    """
    status = await _find_status(job, id, owner=owner)
    last_event_id = request.headers.get("Last-Event-ID")
    if has_seen_end(status, last_event_id):
        return Response(None, status_code=_NO_CONTENT, headers=NO_STORE)
    return ServerSentEvent(_messages(job, id, last_event_id), headers=NO_STORE)


async def _find_status(job: BoundJob[Any, Any, Any, Any], id: str, *, owner: str | None) -> JobStatus[Any]:
    status = await read_status(job, id, owner=owner)
    if status is None:
        raise NotFoundException("there is no job with this id", headers=NO_STORE)
    return status


async def _messages(
    job: BoundJob[Any, Any, Any, Any], id: str, last_event_id: str | None
) -> AsyncGenerator[ServerSentEventMessage]:
    async with aclosing(stream_events(job, id, last_event_id=last_event_id)) as events:
        async for event in events:
            if event is None:
                yield ServerSentEventMessage(data=None, comment="")
            else:
                yield ServerSentEventMessage(data=event.data, event=event.name, id=event.id)
