"""The routes. They store records at once and enqueue the other work."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response

from flowli_core import JobCancelled, JobFailed, JobRecord, Page, QueueCounts, Receipt, State
from flowli_fastapi import JobsDep, job_events

from ..domain import service
from ..domain.jobs import AppJobs
from ..domain.models import Created, NewRecord, Record, RecordDetails
from ..domain.refunds import NewRefund, RefundError
from ..domain.reports import NewReport, Report
from ..domain.store import RecordStore, ReferenceTakenError

router = APIRouter()


def get_store(request: Request) -> RecordStore:
    """Return the database that the lifespan opened."""
    store: RecordStore = request.state.store
    return store


AppJobsDep = JobsDep[AppJobs]
StoreDep = Annotated[RecordStore, Depends(get_store)]
Limit = Annotated[int, Query(ge=1, le=500)]
Offset = Annotated[int, Query(ge=0, le=2**63 - 1)]  # SQLite has no greater numbers


@router.post("/records", status_code=201)
async def create_record(
    body: NewRecord, jobs: AppJobsDep, store: StoreDep, x_request_id: Annotated[str | None, Header()] = None
) -> Created:
    """Store a record, write the audit log, and enqueue the other work."""
    try:
        return await service.create(body, jobs=jobs, store=store, request_id=x_request_id)
    except ReferenceTakenError:
        raise HTTPException(409, f"there is another record {body.reference}") from None


@router.get("/records")
async def list_records(store: StoreDep, limit: Limit = 100, offset: Offset = 0) -> list[Record]:
    """List records in the order in which they were added."""
    return await asyncio.to_thread(store.page, limit=limit, offset=offset)


@router.get("/records/{record_id}")
async def read_record(record_id: str, store: StoreDep) -> RecordDetails:
    """Show a record with the work done for it."""
    record = await asyncio.to_thread(store.get, record_id)
    if record is None:
        raise HTTPException(404, "there is no such record")
    return record


@router.post("/records/{record_id}/refunds", status_code=202)
async def refund(record_id: str, body: NewRefund, jobs: AppJobsDep) -> Receipt:
    """Enqueue a refund."""
    return await service.refund_later(record_id, body, jobs=jobs)


@router.post("/records/{record_id}/refunds/now", status_code=201)
async def refund_now(record_id: str, body: NewRefund, jobs: AppJobsDep) -> str:
    """Refund now, in this request, and return the rest of the payment."""
    try:
        return await service.refund_now(record_id, body, jobs=jobs)
    except RefundError as error:
        raise HTTPException(409, str(error)) from None


@router.post("/reports", status_code=202)
async def order_report(body: NewReport, jobs: AppJobsDep, response: Response) -> Receipt[Report]:
    """Enqueue a report. `Location` is where it will be."""
    receipt = await service.order_report(body, jobs=jobs)
    response.headers["Location"] = f"/reports/{receipt.id}"
    return receipt


@router.get("/reports/{job_id}", responses={202: {"description": "It is not done yet"}}, response_model=Report)
async def read_report(job_id: str, jobs: AppJobsDep) -> Report | Response:
    """Show a report. If it is not done after a second, the response is a 202: ask again."""
    try:
        report = await service.wait_for_report(job_id, jobs=jobs)
    except (JobFailed, JobCancelled):
        raise HTTPException(409, "the report was not completed") from None
    return Response(status_code=202, headers={"Retry-After": "1"}) if report is None else report


@router.get("/reports/{job_id}/events")
async def follow_report(request: Request, job_id: str, jobs: AppJobsDep) -> Response:
    """Send the progress of a report as server-sent events, until it is done."""
    return await job_events(request, jobs.write_report, job_id)


@router.get("/jobs/counts")
async def count_jobs(jobs: AppJobsDep) -> QueueCounts:
    """Count the jobs in each state."""
    return await jobs.inspect.get_queue_counts()


@router.get("/jobs")
async def list_jobs(jobs: AppJobsDep, state: State, limit: Limit = 100, cursor: str | None = None) -> Page[JobRecord]:
    """List the jobs in a state, newest first. `cursor` is that of the previous page."""
    return await jobs.inspect.find(state, limit=limit, cursor=cursor)


@router.get("/jobs/{job_id}")
async def read_job(job_id: str, jobs: AppJobsDep) -> JobRecord:
    """Show a job."""
    record = await jobs.inspect.get_job(job_id)
    if record is None:
        raise HTTPException(404, "there is no such job (any more)")
    return record
