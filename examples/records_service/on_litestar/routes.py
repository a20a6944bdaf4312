"""The routes. They store records at once and enqueue the other work."""

import asyncio
from typing import Annotated, Any

from litestar import MediaType, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.exceptions import ClientException, NotFoundException
from litestar.params import FromPath, HeaderParameter, JSONBody
from litestar.types import ControllerRouterHandler

from flowli_core import JobCancelled, JobFailed, JobRecord, QueueCounts, Receipt
from flowli_litestar import job_events

from ..domain import service
from ..domain.jobs import AppJobs
from ..domain.models import Created, NewRecord, RecordDetails
from ..domain.refunds import NewRefund, RefundError
from ..domain.reports import NewReport, Report
from ..domain.store import RecordStore, ReferenceTakenError


@post("/records")
async def create_record(
    data: JSONBody[NewRecord],
    jobs: NamedDependency[AppJobs],
    store: NamedDependency[RecordStore],
    request_id: Annotated[str | None, HeaderParameter(name="X-Request-ID")] = None,
) -> Created:
    """Store a record, write the audit log, and enqueue the other work."""
    try:
        return await service.create(data, jobs=jobs, store=store, request_id=request_id)
    except ReferenceTakenError:
        raise ClientException("there is another record with this reference", status_code=409) from None


@get("/records/{record_id:str}")
async def read_record(record_id: FromPath[str], store: NamedDependency[RecordStore]) -> RecordDetails:
    """Show a record with the work done for it."""
    record = await asyncio.to_thread(store.get, record_id)
    if record is None:
        raise NotFoundException("there is no such record")
    return record


@post("/records/{record_id:str}/refunds", status_code=202)
async def refund(record_id: FromPath[str], data: JSONBody[NewRefund], jobs: NamedDependency[AppJobs]) -> Receipt:
    """Enqueue a refund."""
    return await service.refund_later(record_id, data, jobs=jobs)


@post("/records/{record_id:str}/refunds/now", media_type=MediaType.JSON)
async def refund_now(record_id: FromPath[str], data: JSONBody[NewRefund], jobs: NamedDependency[AppJobs]) -> str:
    """Refund now, in this request, and return the rest of the payment."""
    try:
        return await service.refund_now(record_id, data, jobs=jobs)
    except RefundError as error:
        raise ClientException(str(error), status_code=409) from None


@post("/reports")
async def order_report(data: JSONBody[NewReport], jobs: NamedDependency[AppJobs]) -> Response[Receipt[Report]]:
    """Enqueue a report. `Location` is where it will be."""
    receipt = await service.order_report(data, jobs=jobs)
    return Response(receipt, status_code=202, headers={"Location": f"/reports/{receipt.id}"})


@get("/reports/{job_id:str}")
async def read_report(job_id: FromPath[str], jobs: NamedDependency[AppJobs]) -> Response[Report | None]:
    """Show a report. If it is not done after a second, the response is a 202: ask again."""
    try:
        report = await service.wait_for_report(job_id, jobs=jobs)
    except (JobFailed, JobCancelled):
        raise ClientException("the report was not completed", status_code=409) from None
    return Response(None, status_code=202, headers={"Retry-After": "1"}) if report is None else Response(report)


@get("/reports/{job_id:str}/events")
async def follow_report(
    request: Request[Any, Any, Any], job_id: FromPath[str], jobs: NamedDependency[AppJobs]
) -> Response[Any]:
    """Send the progress of a report as server-sent events, until it is done."""
    return await job_events(request, jobs.write_report, job_id)


@get("/jobs/counts")
async def count_jobs(jobs: NamedDependency[AppJobs]) -> QueueCounts:
    """Count the jobs in each state."""
    return await jobs.inspect.get_queue_counts()


@get("/jobs/{job_id:str}")
async def read_job(job_id: FromPath[str], jobs: NamedDependency[AppJobs]) -> JobRecord:
    """Show a job."""
    record = await jobs.inspect.get_job(job_id)
    if record is None:
        raise NotFoundException("there is no such job (any more)")
    return record


ROUTES: list[ControllerRouterHandler] = [
    create_record,
    read_record,
    refund,
    refund_now,
    order_report,
    read_report,
    follow_report,
    count_jobs,
    read_job,
]
