"""The work that a record leads to. Each job asks only for the part of the context that it needs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from pydantic import BaseModel

from flowli_core import Jobs, Retry, current_job, exponential, job

from .context import AppContext
from .mailer import Mailer, ServerBusyError
from .refunds import Refund, RefundError, add_refund

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from .store import RecordStore


class AuditEntry(BaseModel):
    """Something that was done to a record."""

    record_id: str
    action: str


class Notification(BaseModel):
    """A confirmation to the payer."""

    record_id: str
    to: str
    subject: str
    text: str


class FollowUp(BaseModel):
    """A later look at a record."""

    record_id: str


class RequestMeta(BaseModel):
    """Where a job came from."""

    request_id: str


class HasStore(Protocol):
    """A context with a database."""

    @property
    def store(self) -> RecordStore:
        """The records."""
        ...


class HasMailer(HasStore, Protocol):
    """A context that can send mail, too."""

    @property
    def mailer(self) -> Mailer:
        """What sends it."""
        ...


class HasSession(Protocol):
    """A context with a database session that belongs to one execution."""

    @property
    def session(self) -> AsyncSession:
        """Committed if the handler returns, rolled back if it raises."""
        ...


@job(AuditEntry, meta=RequestMeta)
def write_audit_log(input: AuditEntry, ctx: HasStore, meta: RequestMeta | None) -> None:
    """Note what was done. A plain function, because it blocks: Flowli runs it in a thread."""
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
    """Tell the payer. A job may run again after a crash, so its id is the message's: the mailer sends it once."""
    message_id = current_job().id
    await ctx.mailer.send(message_id=message_id, to=input.to, subject=input.subject, text=input.text)
    await asyncio.to_thread(ctx.store.add_delivery, message_id, record_id=input.record_id)
    return message_id


@job(FollowUp, retry=Retry(max_attempts=3))
def follow_up(input: FollowUp, ctx: HasStore) -> str:
    """Look whether the payer has been told."""
    return ctx.store.add_follow_up(current_job().id, record_id=input.record_id)


@job(Refund, retry=Retry(max_attempts=3, give_up_on=(RefundError,)))
async def pay_back(input: Refund, ctx: HasSession) -> str:
    """Note a refund. What is refused half-way is not there afterwards, because the session is rolled back."""
    return await add_refund(ctx.session, input)


class AppJobs(Jobs[AppContext]):
    """The jobs of this service."""

    write_audit_log = write_audit_log
    send_notification = send_notification
    follow_up = follow_up
    pay_back = pay_back
