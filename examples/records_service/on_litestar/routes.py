"""The routes. They store records at once and enqueue the other work."""

import asyncio
from typing import Annotated

from litestar import MediaType, get, post
from litestar.di import NamedDependency
from litestar.exceptions import ClientException, NotFoundException
from litestar.params import FromPath, HeaderParameter, JSONBody
from litestar.types import ControllerRouterHandler

from flowli_core import JobRecord, QueueCounts, Receipt

from ..domain import service
from ..domain.jobs import AppJobs
from ..domain.models import Created, NewRecord, RecordDetails
from ..domain.refunds import NewRefund, RefundError
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


ROUTES: list[ControllerRouterHandler] = [create_record, read_record, refund, refund_now, count_jobs, read_job]
