"""The jobs of the service. Each one declares only the part of the context that it needs."""

from __future__ import annotations

import asyncio
from typing import Protocol

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from flowli_core import Jobs, Retry, current_job, exponential, job

from .context import AppContext
from .mailer import Mailer, ServerBusyError
from .refunds import Refund, RefundError, add_refund
from .reports import NewReport, Report, add_up
from .store import RecordStore


class AuditEntry(BaseModel):
    """An action on a record."""

    record_id: str
    action: str


class Notification(BaseModel):
    """A confirmation to the payer."""

    record_id: str
    to: str
    subject: str
    text: str


class FollowUp(BaseModel):
    """A check of a record some time after it was created."""

    record_id: str


class RequestMeta(BaseModel):
    """The request that enqueued a job."""

    request_id: str


class HasStore(Protocol):
    """A context with a database."""

    @property
    def store(self) -> RecordStore:
        """The records."""
        ...


class HasMailer(HasStore, Protocol):
    """A context that can also send mail."""

    @property
    def mailer(self) -> Mailer:
        """The mailer."""
        ...


class HasSession(Protocol):
    """A context with a database session that belongs to one execution."""

    @property
    def session(self) -> AsyncSession:
        """Committed if the handler returns, rolled back if it raises."""
        ...


@job(AuditEntry, meta=RequestMeta)
def write_audit_log(input: AuditEntry, ctx: HasStore, meta: RequestMeta | None) -> None:
    """Record an action. It is a plain function because it blocks; Flowli runs it in a thread."""
    ctx.store.add_audit(input.record_id, action=input.action, request_id=meta.request_id if meta else None)


@job(
    Notification,
    meta=RequestMeta,
    queue="mail",
    retry=Retry(
        max_attempts=5,
        backoff=exponential("200ms", max_delay="5s", jitter=True),
        retry_on=(ServerBusyError, ConnectionError, TimeoutError),
    ),
    timeout="10s",
)
async def send_notification(input: Notification, ctx: HasMailer) -> str:
    """Send a message to the payer.

    A job may run again after a crash, so the job's id is also the message's id: the mailer delivers the message once.
    """
    message_id = current_job().id
    await ctx.mailer.send(message_id=message_id, to=input.to, subject=input.subject, text=input.text)
    await asyncio.to_thread(ctx.store.add_delivery, message_id, record_id=input.record_id)
    return message_id


@job(FollowUp, retry=Retry(max_attempts=3))
def follow_up(input: FollowUp, ctx: HasStore) -> str:
    """Check that the payer was notified."""
    return ctx.store.add_follow_up(current_job().id, record_id=input.record_id)


@job(Refund, retry=Retry(max_attempts=3, give_up_on=(RefundError,)))
async def pay_back(input: Refund, ctx: HasSession) -> str:
    """Store a refund, and enqueue its audit in the same transaction.

    If the refund is refused half-way, the session is rolled back, and neither exists.
    """
    write = AppJobs.current().write_audit_log.options(session=ctx.session, id=f"audit-{input.record_id}-{input.id}")
    await write.enqueue(AuditEntry(record_id=input.record_id, action=f"refunded {input.amount}"))
    return await add_refund(ctx.session, input)


@job(NewReport)
async def write_report(input: NewReport, ctx: HasStore) -> Report:
    """Write a report, which takes a while: `progress` shows how far it is, and `result` waits for it."""
    return await add_up(ctx.store, input.currency)


class AppJobs(Jobs[AppContext]):
    """The jobs of this service."""

    write_audit_log = write_audit_log
    send_notification = send_notification
    follow_up = follow_up
    pay_back = pay_back
    write_report = write_report
