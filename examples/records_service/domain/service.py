"""The functions that the routes of all three frameworks call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from uuid import uuid4

from flowli_core import Defaults, Keep, Receipt, Runner
from flowli_core.dashboard import Dashboard
from flowli_core.drivers.sqlite import SqliteDriver
from flowli_core.sqlalchemy import SqlOutbox

from .context import make_context
from .database import OUTBOX, make_engine
from .jobs import AppJobs, AuditEntry, FollowUp, Notification, RequestMeta
from .mailer import PretendedMailer
from .models import Created, JobIds, NewRecord
from .refunds import NewRefund, Refund
from .reports import NewReport, Report
from .settings import Settings
from .store import RecordStore

REPORT_WITHIN = "1s"
"""A request waits at most this long for a report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of an application. Entering it opens the database of records."""

    jobs: AppJobs
    store: RecordStore
    runner: Runner | None = None
    dashboard: Dashboard | None = None

    @classmethod
    def make(cls, settings: Settings) -> Self:
        """Make the parts of the real service."""
        store = RecordStore(make_engine(settings.records_path))
        jobs = AppJobs(
            context=make_context(store, PretendedMailer()),
            driver=SqliteDriver(settings.jobs_path),
            outbox=SqlOutbox(store.engine, OUTBOX),
            defaults=Defaults(keep=Keep(completed=settings.keep_completed), keep_completed="1d"),
        )
        runner = Runner(jobs, concurrency=settings.concurrency, queues=["mail", "default"])  # mail first
        # A service with users passes authorize=..., which decides for each request.
        dashboard = Dashboard(jobs, allow_anonymous=True, show_payloads=True) if settings.dashboard else None
        return cls(jobs=jobs, store=store, runner=runner, dashboard=dashboard)

    async def __aenter__(self) -> Self:
        self.store.__enter__()
        async with self.store.engine.begin() as connection:
            await connection.run_sync(OUTBOX.create, checkfirst=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.store.__exit__()
        await self.store.engine.dispose()


async def create(new: NewRecord, *, jobs: AppJobs, store: RecordStore, request_id: str | None) -> Created:
    """Store a record and enqueue its jobs, and write the audit log. Raises ReferenceTakenError.

    The record and its jobs are one transaction: either all of them exist, or none. The jobs' ids are derived from the
    record's id. So a client that got no response can send the record again, and nothing is done twice.
    """
    meta = RequestMeta(request_id=request_id or str(uuid4()))
    async with store.sessions.begin() as session:
        record = await store.add(session, new)
        notify = jobs.send_notification.options(id=f"notification-{record.id}", meta=meta, session=session)
        notification = await notify.enqueue(
            Notification(
                record_id=record.id,
                to=record.email,
                subject=f"We have booked {record.amount} {record.currency}",
                text=f"Dear {record.name},\n\nyour payment {record.reference} is in our books.\n\n{record.note}",
            )
        )
        check = jobs.follow_up.options(id=f"follow-up-{record.id}", session=session)
        follow_up = await check.delay("2s", FollowUp(record_id=record.id))
    await jobs.write_audit_log.run(AuditEntry(record_id=record.id, action="created"), meta=meta)
    return Created(record=record, jobs=JobIds(notification=notification.id, follow_up=follow_up.id))


async def refund_later(record_id: str, new: NewRefund, *, jobs: AppJobs) -> Receipt:
    """Enqueue a refund."""
    refund = Refund(record_id=record_id, **new.model_dump())
    return await jobs.pay_back.options(id=f"refund-{record_id}-{new.id}").enqueue(refund)


async def refund_now(record_id: str, new: NewRefund, *, jobs: AppJobs) -> str:
    """Refund now, in this request, and return the rest of the payment. Raises RefundError."""
    return await jobs.pay_back.run(Refund(record_id=record_id, **new.model_dump()))


async def order_report(new: NewReport, *, jobs: AppJobs) -> Receipt[Report]:
    """Enqueue a report."""
    return await jobs.write_report.enqueue(new)


async def wait_for_report(job_id: str, *, jobs: AppJobs) -> Report | None:
    """Return a report, or None if it takes longer. Raises RecordNotFound, JobFailed and JobCancelled."""
    try:
        return await jobs.write_report.result(job_id, timeout=REPORT_WITHIN)
    except TimeoutError:
        return None
