"""The routes: records are stored at once, and the rest is left to jobs."""

import asyncio
from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request

from flowli_core import JobRecord, Page, QueueCounts, State
from flowli_fastapi import get_jobs

from .jobs import AppJobs, AuditEntry, FollowUp, Notification, RequestMeta
from .models import Created, JobIds, NewRecord, Record, RecordDetails
from .store import RecordStore, ReferenceTakenError

router = APIRouter()


def get_store(request: Request) -> RecordStore:
    """Answer the database that the lifespan has opened."""
    store: RecordStore = request.state.store
    return store


JobsOf = Annotated[AppJobs, Depends(get_jobs)]
StoreOf = Annotated[RecordStore, Depends(get_store)]
Limit = Annotated[int, Query(ge=1, le=500)]


@router.post("/records", status_code=201)
async def create_record(
    body: NewRecord, jobs: JobsOf, store: StoreOf, x_request_id: Annotated[str | None, Header()] = None
) -> Created:
    """Store a record, note that in the audit log, and leave the rest to jobs.

    The jobs' ids are made from the record's: so a client that had no answer (a 503, a broken connection) just sends
    the record again, and whatever had been done is not done twice.
    """
    meta = RequestMeta(request_id=x_request_id or str(uuid4()))
    try:
        record = await asyncio.to_thread(store.add, body)
    except ReferenceTakenError:
        raise HTTPException(409, f"there is another record {body.reference}") from None
    await jobs.write_audit_log.run(AuditEntry(record_id=record.id, action="created"), meta=meta)
    notification = await jobs.send_notification.options(id=f"notification-{record.id}", meta=meta).enqueue(
        Notification(
            record_id=record.id,
            to=record.email,
            subject=f"We have booked {record.amount} {record.currency}",
            text=f"Dear {record.name},\n\nyour payment {record.reference} is in our books.\n\n{record.note}",
        )
    )
    follow_up = await jobs.follow_up.options(id=f"follow-up-{record.id}").delay("2s", FollowUp(record_id=record.id))
    return Created(record=record, jobs=JobIds(notification=notification.id, follow_up=follow_up.id))


@router.get("/records")
async def list_records(store: StoreOf, limit: Limit = 100, offset: Annotated[int, Query(ge=0)] = 0) -> list[Record]:
    """List records in the order in which they came."""
    return await asyncio.to_thread(store.page, limit=limit, offset=offset)


@router.get("/records/{record_id}")
async def read_record(record_id: str, store: StoreOf) -> RecordDetails:
    """Show a record, and what was done for it."""
    record = await asyncio.to_thread(store.get, record_id)
    if record is None:
        raise HTTPException(404, "there is no such record")
    return record


@router.get("/jobs/counts")
async def count_jobs(jobs: JobsOf) -> QueueCounts:
    """Count the jobs in each state."""
    return await jobs.inspect.get_queue_counts()


@router.get("/jobs")
async def list_jobs(jobs: JobsOf, state: State, limit: Limit = 100, cursor: str | None = None) -> Page[JobRecord]:
    """List the jobs in a state, newest first; `cursor` is what the page before gave."""
    return await jobs.inspect.get_jobs_by_state(state, limit=limit, cursor=cursor)


@router.get("/jobs/{job_id}")
async def read_job(job_id: str, jobs: JobsOf) -> JobRecord:
    """Show a job."""
    record = await jobs.inspect.get_job(job_id)
    if record is None:
        raise HTTPException(404, "there is no such job (any more)")
    return record
