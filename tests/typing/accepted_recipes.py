"""Recipes for users. Checked by all type checkers, and run by test_types.py."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NewType, Optional, Protocol, assert_type

from flowli_core import BoundJob, DeclaredSchedule, JobRecord, Jobs, NoMeta, Receipt, Runner, job
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import drain
from pydantic import BaseModel


class Email(BaseModel):
    to: str


class Audit(BaseModel):
    by: str


@dataclass
class Sent:
    to: str


@dataclass
class AppContext:
    outbox: list[str] = field(default_factory=list[str])


@job(Email, meta=Audit)
async def send_email(input: Email, ctx: AppContext, meta: Audit | None = None) -> Sent:
    """Send an email."""
    ctx.outbox.append(input.to)
    return Sent(input.to)


@job()
async def nightly(ctx: AppContext) -> int:
    return len(ctx.outbox)


class AppJobs(Jobs[AppContext]):
    queues = ["mail"]  # noqa: RUF012
    send_email = send_email
    nightly = nightly


make = AppContext


# A registry inside a function: `double = double` in the class body would be a NameError, because Python looks up a
# name that the class body assigns in the class and in the module, and not in the function around it.


async def declares_jobs_inside_a_class_inside_a_function(jobs: AppJobs) -> None:
    class LocalJobs(Jobs[None]):
        @job(int)
        @staticmethod
        async def double(input: int) -> int:
            return input * 2

        @job()
        @staticmethod
        def ping() -> bool:
            return True

    local = LocalJobs(context=None)
    assert_type(await local.double.run(2), int)
    assert_type(await local.ping.run(), bool)
    assert await local.double.run(2) == 4


async def gives_a_local_job_another_name(jobs: AppJobs) -> None:
    @job(int, name="double")
    async def double_job(input: int) -> int:
        return input * 2

    class LocalJobs(Jobs[None]):
        double = double_job

    assert_type(await LocalJobs(context=None).double.run(2), int)


# A test double for `jobs.send_email`: code that only enqueues asks for a protocol.


class EnqueuesEmail(Protocol):
    async def enqueue(self, input: Email, /) -> Receipt: ...


async def sign_up(address: str, send_email: EnqueuesEmail) -> str:
    return (await send_email.enqueue(Email(to=address))).id


@dataclass
class FakeSendEmail:
    enqueued: list[Email] = field(default_factory=list[Email])
    receipt: Receipt | None = None

    async def enqueue(self, input: Email, /) -> Receipt:
        assert self.receipt is not None
        self.enqueued.append(input)
        return self.receipt


async def code_that_enqueues_is_tested_with_a_fake(jobs: AppJobs) -> None:
    receipt = await jobs.send_email.enqueue(to="ada@example.com")
    fake = FakeSendEmail(receipt=receipt)
    assert await sign_up("ada@example.com", fake) == receipt.id
    assert fake.enqueued == [Email(to="ada@example.com")]
    assert await sign_up("ada@example.com", jobs.send_email)


# Options beside fields


async def options_go_before_the_call(jobs: AppJobs) -> None:
    mail = jobs.send_email.options(meta=Audit(by="ada"), queue="mail", key="ada")
    assert_type(await mail.enqueue(to="ada@example.com"), Receipt[Sent])
    assert_type(await mail.delay("10m", to="ada@example.com"), Receipt[Sent])


# Stored calls, typed


async def reads_a_stored_call(jobs: AppJobs) -> None:
    receipt = await jobs.send_email.enqueue(Email(to="ada@example.com"), meta=Audit(by="ada"))
    assert_type(receipt, Receipt[Sent])
    await drain(jobs)
    record = await jobs.send_email.get(receipt)
    assert_type(record, JobRecord[Email, Audit, Sent] | None)
    assert record is not None
    assert_type(record.input, Email)
    assert_type(record.meta, Audit | None)
    assert_type(record.result, Sent | None)
    assert record.result == Sent("ada@example.com")
    assert_type(await jobs.send_email.get(receipt.id), JobRecord[Email, Audit, Sent] | None)
    assert_type(await jobs.nightly.get("id"), JobRecord[None, NoMeta, int] | None)


def describe(receipt: Receipt, record: JobRecord | None) -> str:
    return f"{receipt.id}: {record.state if record else 'gone'}"


async def a_plain_receipt_and_a_plain_record_are_of_any_job(jobs: AppJobs) -> None:
    receipt = await jobs.send_email.enqueue(to="ada@example.com")
    assert describe(receipt, await jobs.send_email.get(receipt))
    assert describe(receipt, await jobs.inspect.get_job(receipt.id))
    receipts: Sequence[Receipt] = await jobs.send_email.enqueue_many([Email(to="ada@example.com")])
    mixed: list[Receipt] = [*receipts, await jobs.nightly.enqueue()]
    assert len(mixed) == 2


# Schedules that a registry inherits and adds to: annotated, so that mypy does not take the type of the first tuple


class Scheduled(AppJobs):
    schedules: Sequence[DeclaredSchedule[AppContext]] = (nightly.scheduled(cron="0 3 * * *"),)


class ScheduledTwice(Scheduled):
    schedules = (*Scheduled.schedules, send_email.scheduled(every="1h", input=Email(to="ada@example.com")))


class ScheduledForAnyContext(Scheduled):
    schedules: Sequence[DeclaredSchedule] = ()


async def schedules_are_values(jobs: AppJobs) -> None:
    assert len(ScheduledTwice.schedules) == 2
    ScheduledTwice(context=AppContext())


# Types without fields


UserId = NewType("UserId", int)


@job(UserId)
async def greet(input: UserId) -> UserId:
    return input


@job(Literal["quiet", "loud"])
async def ring(input: Literal["quiet", "loud"]) -> Literal["quiet", "loud"]:
    return input


@job(tuple[str, int])
async def pair(input: tuple[str, int]) -> tuple[str, int]:
    return input


@job(Email | None)
async def maybe(input: Email | None) -> bool:
    return input is not None


@job(Optional[Email])
async def perhaps(input: Email | None) -> bool:
    return input is not None


class PlainJobs(Jobs[None]):
    greet = greet
    ring = ring
    pair = pair
    maybe = maybe
    perhaps = perhaps


async def types_without_fields_are_kept(jobs: AppJobs) -> None:
    async with PlainJobs(context=None, driver=MemoryDriver()) as plain:
        assert_type(plain.greet, BoundJob[[UserId], UserId, NoMeta, UserId])
        assert_type(await plain.greet.run(UserId(1)), UserId)
        assert_type(await plain.ring.run("loud"), Literal["quiet", "loud"])
        assert_type(await plain.pair.run(("a", 1)), tuple[str, int])
        # pyrefly matches `Email | None` with a callable that returns an Email, and forgets the None.
        assert_type(await plain.maybe.run(None), bool)  # pyrefly: ignore[assert-type, no-matching-overload]
        assert_type(await plain.maybe.enqueue(Email(to="a")), Receipt[bool])
        assert_type(await plain.perhaps.run(None), bool)  # pyrefly: ignore[assert-type, no-matching-overload]


# Handlers that are more than a function


async def deliver(input: Email) -> Sent:
    return Sent(input.to)


def without_wraps(handler: Callable[..., Awaitable[Sent]]) -> Callable[..., Awaitable[Sent]]:
    def inner(*, input: Email) -> Awaitable[Sent]:
        return handler(input)

    return inner


class Indirect(Jobs[None]):
    by_lambda = job(Email, name="by_lambda")(lambda input: deliver(input))
    decorated = job(Email, name="decorated")(without_wraps(deliver))


async def a_coroutine_that_a_plain_function_returns_is_awaited(jobs: AppJobs) -> None:
    indirect = Indirect(context=None)
    # No assert_type: mypy answers Any where a lambda, or a handler that takes anything, fits several overloads.
    sent: list[Sent] = [await indirect.by_lambda.run(to="a"), await indirect.decorated.run(to="a")]
    assert sent == [Sent("a"), Sent("a")]


# A function over any job


async def enqueue_twice(bound: BoundJob[..., Any, Any, Sent]) -> list[Receipt[Sent]]:
    return [await bound.enqueue(to="a"), await bound.enqueue(to="b")]


async def a_function_takes_jobs_with_a_certain_result(jobs: AppJobs) -> None:
    assert len(await enqueue_twice(jobs.send_email)) == 2
    Runner(jobs, queues=["mail", "default"])
    Runner(jobs, queues=("mail",))
