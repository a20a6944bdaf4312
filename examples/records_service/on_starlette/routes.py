"""The routes. They store records at once and enqueue the other work."""

from __future__ import annotations

import asyncio

from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flowli_core import JobCancelled, JobFailed
from flowli_starlette import JobsState, get_jobs, job_events

from ..domain import service
from ..domain.jobs import AppJobs
from ..domain.models import NewRecord
from ..domain.refunds import NewRefund, RefundError
from ..domain.reports import NewReport
from ..domain.store import RecordStore, ReferenceTakenError


class AppState(JobsState[AppJobs]):
    """The lifespan state. `request.state["jobs"]` is an AppJobs; `get_jobs(request, AppJobs)` returns the same."""

    store: RecordStore


def reply(content: object, status: int = 200) -> Response:
    """Respond with JSON. The content may hold pydantic models and dataclasses."""
    return Response(to_json(content), status, media_type="application/json")


async def create_record(request: Request[AppState]) -> Response:
    """Store a record, write the audit log, and enqueue the other work."""
    new = NewRecord.model_validate_json(await request.body())
    jobs, store = request.state["jobs"], request.state["store"]
    try:
        made = await service.create(new, jobs=jobs, store=store, request_id=request.headers.get("X-Request-ID"))
    except ReferenceTakenError:
        raise HTTPException(409, f"there is another record {new.reference}") from None
    return reply(made, 201)


async def read_record(request: Request[AppState]) -> Response:
    """Show a record with the work done for it."""
    record = await asyncio.to_thread(request.state["store"].get, request.path_params["record_id"])
    if record is None:
        raise HTTPException(404, "there is no such record")
    return reply(record)


async def refund(request: Request) -> Response:
    """Enqueue a refund."""
    new = NewRefund.model_validate_json(await request.body())
    jobs = get_jobs(request, AppJobs)
    return reply(await service.refund_later(request.path_params["record_id"], new, jobs=jobs), 202)


async def refund_now(request: Request) -> Response:
    """Refund now, in this request, and return the rest of the payment."""
    new = NewRefund.model_validate_json(await request.body())
    jobs = get_jobs(request, AppJobs)
    try:
        return reply(await service.refund_now(request.path_params["record_id"], new, jobs=jobs), 201)
    except RefundError as error:
        raise HTTPException(409, str(error)) from None


async def order_report(request: Request) -> Response:
    """Enqueue a report. `Location` is where it will be."""
    new = NewReport.model_validate_json(await request.body())
    receipt = await service.order_report(new, jobs=get_jobs(request, AppJobs))
    response = reply(receipt, 202)
    response.headers["Location"] = f"/reports/{receipt.id}"
    return response


async def read_report(request: Request) -> Response:
    """Show a report. If it is not done after a second, the response is a 202: ask again."""
    try:
        report = await service.wait_for_report(request.path_params["job_id"], jobs=get_jobs(request, AppJobs))
    except (JobFailed, JobCancelled):
        raise HTTPException(409, "the report was not completed") from None
    return Response(status_code=202, headers={"Retry-After": "1"}) if report is None else reply(report)


async def follow_report(request: Request) -> Response:
    """Send the progress of a report as server-sent events, until it is done."""
    return await job_events(request, get_jobs(request, AppJobs).write_report, request.path_params["job_id"])


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
    Route("/reports", order_report, methods=["POST"]),
    Route("/reports/{job_id}", read_report),
    Route("/reports/{job_id}/events", follow_report),
    Route("/jobs/counts", count_jobs),
    Route("/jobs/{job_id}", read_job),
]
