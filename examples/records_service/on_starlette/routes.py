"""The routes: records are stored at once, and the rest is left to jobs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from flowli_starlette import JobsState, get_jobs

from ..domain import service
from ..domain.jobs import AppJobs
from ..domain.models import NewRecord
from ..domain.refunds import NewRefund, RefundError
from ..domain.store import RecordStore, ReferenceTakenError

if TYPE_CHECKING:
    from starlette.requests import Request


class AppState(JobsState[AppJobs]):
    """What the lifespan has opened: `request.state["jobs"]` is an AppJobs. `get_jobs(request, AppJobs)` is the same."""

    store: RecordStore


def reply(content: object, status: int = 200) -> Response:
    """Answer with JSON, of pydantic models and dataclasses as well."""
    return Response(to_json(content), status, media_type="application/json")


async def create_record(request: Request[AppState]) -> Response:
    """Store a record, note that in the audit log, and leave the rest to jobs."""
    new = NewRecord.model_validate_json(await request.body())
    jobs, store = request.state["jobs"], request.state["store"]
    try:
        made = await service.create(new, jobs=jobs, store=store, request_id=request.headers.get("X-Request-ID"))
    except ReferenceTakenError:
        raise HTTPException(409, f"there is another record {new.reference}") from None
    return reply(made, 201)


async def read_record(request: Request[AppState]) -> Response:
    """Show a record, and what was done for it."""
    record = await asyncio.to_thread(request.state["store"].get, request.path_params["record_id"])
    if record is None:
        raise HTTPException(404, "there is no such record")
    return reply(record)


async def refund(request: Request) -> Response:
    """Leave a refund to a job."""
    new = NewRefund.model_validate_json(await request.body())
    jobs = get_jobs(request, AppJobs)
    return reply(await service.refund_later(request.path_params["record_id"], new, jobs=jobs), 202)


async def refund_now(request: Request) -> Response:
    """Refund here and now: the same handler, with a session of its own; answer what is left."""
    new = NewRefund.model_validate_json(await request.body())
    jobs = get_jobs(request, AppJobs)
    try:
        return reply(await service.refund_now(request.path_params["record_id"], new, jobs=jobs), 201)
    except RefundError as error:
        raise HTTPException(409, str(error)) from None


async def count_jobs(request: Request) -> Response:
    """Count the jobs in each state."""
    return reply(await get_jobs(request).inspect.get_queue_counts())


async def read_job(request: Request) -> Response:
    """Show a job."""
    record = await get_jobs(request).inspect.get_job(request.path_params["job_id"])
    if record is None:
        raise HTTPException(404, "there is no such job (any more)")
    return reply(record)


ROUTES = [
    Route("/records", create_record, methods=["POST"]),
    Route("/records/{record_id}", read_record),
    Route("/records/{record_id}/refunds", refund, methods=["POST"]),
    Route("/records/{record_id}/refunds/now", refund_now, methods=["POST"]),
    Route("/jobs/counts", count_jobs),
    Route("/jobs/{job_id}", read_job),
]
