"""Wrong uses, which type checkers must refuse. Each wrong line names the errors that mypy and pyright report.

The comment above a line says what is wrong. An ignore that is not needed is an error as well, so a line that is no
longer refused fails the test. test_types.py also removes the ignores and expects exactly these errors, and it expects
pyrefly and ty to refuse the same lines, except those below a comment `# missed by ...`. This file is never run.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, NewType, Protocol

from flowli_core import (
    DeclaredSchedule,
    Defaults,
    Execution,
    JobRecord,
    Jobs,
    Limit,
    Proceed,
    Receipt,
    Retry,
    RetryAfter,
    Runner,
    With,
    exponential,
    fixed,
    job,
    per_job,
    run_sync,
)
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.sqlalchemy import SqlOutbox
from pydantic import BaseModel
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import async_sessionmaker
from typing_extensions import TypedDict


ENGINE = create_engine("sqlite:///shop.db")


class Email(BaseModel):
    to: str
    subject: str = "hi"


class Meta(BaseModel):
    request_id: str


class Other(BaseModel):
    to: str


@dataclass
class Point:
    x: int
    y: int = 0


class Row(TypedDict):
    id: int


class Loose(TypedDict):
    payload: Any


class HasMailer(Protocol):
    @property
    def mailer(self) -> int: ...


class HasCache(Protocol):
    @property
    def cache(self) -> int: ...


class HasTextMailer(Protocol):
    @property
    def mailer(self) -> str: ...


@dataclass
class AppContext:
    mailer: int


@dataclass
class OtherContext:
    cache: int


@job(Email)
async def send(input: Email, ctx: HasMailer) -> int:
    return ctx.mailer


@job(Email, meta=Meta)
async def audit(input: Email, meta: Meta | None) -> str:
    return input.to


@job(Email)
async def needs_cache(input: Email, ctx: HasCache) -> None: ...


@job(Email)
async def needs_text_mailer(input: Email, ctx: HasTextMailer) -> None: ...


@job()
async def needs_other(ctx: OtherContext) -> None: ...


@job(Point)
async def plot(input: Point) -> Point:
    return input


@job(Row)
async def store_row(input: Row) -> None: ...


@job(int)
async def double(input: int) -> int:
    return input * 2


@job(list[int])
async def total(input: list[int]) -> int:
    return sum(input)


@job(int | str)
async def either(input: int | str) -> str:
    return str(input)


@job()
async def nightly(ctx: AppContext) -> str:
    return ""


# An Any in one place does not make an Any of the other types.


@job(Email)
async def report(input: Email) -> dict[str, Any]:
    return {}


@job(dict[str, Any])
async def merge(input: dict[str, Any]) -> int:
    return len(input)


@job(Email)
async def loose_context(input: Email, ctx: Any) -> int:
    return 0


@job(Loose)
async def store_loose(input: Loose) -> int:
    return 0


UserId = NewType("UserId", int)


@job(UserId)
async def greet(input: UserId) -> None: ...


@job(Literal["quiet", "loud"])
async def ring(input: Literal["quiet", "loud"]) -> None: ...


@job(tuple[str, int])
async def pair(input: tuple[str, int]) -> None: ...


@job(Email | None)
async def maybe(input: Email | None) -> None: ...


app = With[AppContext]()


class AppJobs(Jobs[AppContext]):
    send = send
    audit = audit
    needs_cache = needs_cache
    needs_text_mailer = needs_text_mailer
    needs_other = needs_other
    plot = plot
    store_row = store_row
    double = double
    total = total
    either = either
    nightly = nightly
    report = report
    merge = merge
    loose_context = loose_context
    store_loose = store_loose
    greet = greet
    ring = ring
    pair = pair
    maybe = maybe


jobs = AppJobs(context=AppContext(1), driver=MemoryDriver())


# The input of a call


async def wrong_inputs() -> None:
    # "too" is no field of Email
    await jobs.send.run(too="a")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    # Email needs "to"
    await jobs.send.run(subject="a")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    # neither fields nor an Email
    await jobs.send.run()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    # "to" is a str
    await jobs.send.run(to=3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    # fields of a model go by name
    await jobs.send.run("a@example.com")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    # an instance of another model
    await jobs.send.run(Other(to="a"))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    # a dict is no model
    await jobs.send.run({"to": "a"})  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    # the model itself, and a field of it
    await jobs.send.run(Email(to="a"), subject="b")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    # the same for a call that is stored
    await jobs.send.enqueue(too="a")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    # and with a wrong type
    await jobs.send.enqueue(to=3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    # and with another model
    await jobs.send.enqueue(Other(to="a"))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    # the same for a call that is delayed
    await jobs.send.delay("10m", too="a")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    # and without any input
    await jobs.send.delay("10m")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    # "x" of a dataclass is an int
    await jobs.plot.run(x="a")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    # a dataclass without the field that it needs
    await jobs.plot.run(y=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    # a wrong key of a TypedDict
    await jobs.store_row.run({"key": 1})  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    # a wrong type in a TypedDict
    await jobs.store_row.enqueue({"id": "a"})  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    # neither of a union
    await jobs.either.run(3.5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    # a list of the wrong things
    await jobs.total.run(["a"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType, reportCallIssue]
    # one where a list is asked for
    await jobs.total.enqueue(3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    # a value by name: a plain type has no fields
    await jobs.double.run(value=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    # text for an int
    await jobs.double.run("three")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    # nothing for an int
    await jobs.double.enqueue()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    # nothing for a list
    await jobs.total.run()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    # an input for a job that takes none
    await jobs.nightly.run(3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    # a field for a job that takes none
    await jobs.nightly.enqueue(to="a")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    # an int that is no UserId
    await jobs.greet.run(3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    # an object for a type without fields
    await jobs.greet.enqueue(object())  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    # another literal
    await jobs.ring.enqueue("silent")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    # a tuple that is too short
    await jobs.pair.enqueue(("a",))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    # a field of a model for a job that takes the model or None
    # missed by pyrefly: it matches `Email | None` with a callable that returns an Email
    await jobs.maybe.run(to="a")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    # another model for the same
    await jobs.maybe.enqueue(Other(to="a"))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    # many at once, of which some are no Email
    await jobs.send.enqueue_many([Email(to="a"), "b"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    # many at once, of another model
    await jobs.send.enqueue_many([Other(to="a")])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    # many at once, by their fields
    await jobs.send.enqueue_many([{"to": "a"}])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    # one where many are asked for
    await jobs.send.enqueue_many(Email(to="a"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def wrong_beside_an_any() -> None:
    # a handler that returns a dict of Any still takes an Email
    await jobs.report.run(too="a")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    # and its result is still a dict
    number: int = await jobs.report.run(to="a")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    # the input is still a dict
    await jobs.merge.run(3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    # and the result is still an int
    text: str = await jobs.merge.run({"a": object()})  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    # a handler with any context still takes an Email
    await jobs.loose_context.enqueue(Other(to="a"))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    # a TypedDict with an Any still has its keys
    await jobs.store_loose.enqueue({"a": 1})  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    del number, text


# Options of a call


async def wrong_options() -> None:
    # meta of another type
    await jobs.audit.run(Email(to="a"), meta=3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    # meta of another model
    await jobs.audit.enqueue(Email(to="a"), meta=Other(to="a"))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    # meta for a job that declares none
    await jobs.send.run(Email(to="a"), meta=Meta(request_id="r"))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    # the same through options()
    jobs.send.options(meta=Meta(request_id="r"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    # meta of another model through options()
    jobs.audit.options(meta=Other(to="a"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    # meta beside fields: it goes through options(meta=...)
    # missed by ty: it lets a call of a model have unknown names
    # missed by pyrefly: it lets a call of a model have unknown names
    await jobs.audit.run(to="a", meta=Meta(request_id="r"))  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    # a queue beside fields: it goes through options(queue=...)
    # missed by ty: it lets a call of a model have unknown names
    # missed by pyrefly: it lets a call of a model have unknown names
    await jobs.send.enqueue(to="a", queue="mail")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    # a queue is for stored calls, not for run()
    await jobs.send.run(Email(to="a"), queue="mail")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    # an option that does not exist
    await jobs.send.enqueue(Email(to="a"), priority=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    # an option of the wrong type
    await jobs.send.enqueue(Email(to="a"), queue=3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    # an option of options()
    await jobs.send.enqueue(Email(to="a"), timeout="3s")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    # a key is for one record, not for many
    await jobs.send.enqueue_many([Email(to="a")], key="k")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    # an option that does not exist
    jobs.send.options(priority=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    # an expiry without its unit
    jobs.send.options(expires=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    # a time without its unit
    jobs.send.options(debounce=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    # another way to solve a conflict
    jobs.send.options(on_conflict="drop")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    # a timeout without its unit
    jobs.send.options(timeout=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    # a number of attempts is no retry
    jobs.send.options(retry=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    # a queue is named
    jobs.send.options(queue=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    # a session factory is no session
    jobs.send.options(session=async_sessionmaker())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    # an engine is no session
    jobs.send.options(session=ENGINE)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    # options go by name
    jobs.send.options("mail")  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
    # a delay without its unit
    await jobs.send.delay(10, Email(to="a"))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    # a delay without its unit, with fields
    await jobs.send.delay(10.5, to="a")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    # a delay forgotten
    await jobs.send.delay(Email(to="a"))  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    # a schedule of numbers
    await jobs.send.schedule("daily", every=60, input=Email(to="a"))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    # a schedule of another model
    await jobs.send.schedule("daily", cron="0 8 * * *", input=Other(to="a"))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    # a schedule without its input
    await jobs.send.schedule("daily", cron="0 8 * * *")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    # a schedule with an input that the job does not take
    await jobs.nightly.schedule("daily", cron="0 8 * * *", input=3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    # a schedule without a rule
    await jobs.nightly.schedule("daily")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    # a schedule with two rules
    await jobs.nightly.schedule("daily", cron="0 8 * * *", every="1h")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    # an interval in a time zone
    await jobs.nightly.schedule("daily", every="1h", timezone="Europe/Paris")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    # a schedule with another meta
    await jobs.send.schedule(every="1h", input=Email(to="a"), meta=Other(to="a"))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    # an option that does not exist
    await jobs.nightly.schedule(cron="0 8 * * *", tz="Europe/Paris")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    # a declared schedule with two rules
    AppJobs.nightly.scheduled(cron="0 8 * * *", every="1h")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    # a declared schedule with an input for a job that takes none
    AppJobs.nightly.scheduled(every="1h", input=Email(to="a"))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    # a policy that does not exist
    await jobs.nightly.schedule(every="1h", missed="never")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    # a start that is no moment
    await jobs.nightly.schedule(every="1h", start="tomorrow")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    # a declared schedule of another model
    AppJobs.send.scheduled(every="1h", input=Other(to="a"))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    # a declared schedule without its input
    AppJobs.send.scheduled(every="1h")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


# Results of calls


async def needs_a_cache_around(call: Execution[HasCache], proceed: Proceed) -> object:
    return await proceed()


async def takes_no_proceed(call: Execution) -> object:
    return None


def not_async(call: Execution, proceed: Proceed) -> str:
    return ""


async def wrong_middleware() -> None:
    # the context has no cache
    AppJobs(context=AppContext(1), middleware=[needs_a_cache_around])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    # middleware takes `proceed`
    AppJobs(context=AppContext(1), middleware=[takes_no_proceed])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    # middleware is async
    AppJobs(context=AppContext(1), middleware=[not_async])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    # a list
    AppJobs(context=AppContext(1), middleware=takes_no_proceed)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def wrong_plain_calls() -> None:
    # a method that was not called
    run_sync(jobs.double.enqueue)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    # a receipt is not the result
    number: int = run_sync(jobs.double.enqueue(3))  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType, reportUnusedVariable]
    # a number has no unit
    run_sync(jobs.double.enqueue(3), timeout=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def wrong_results(any_receipt: Receipt) -> None:
    # the result is an int
    text: str = await jobs.send.run(to="a")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    # enqueue returns a receipt, not the result
    number: int = await jobs.send.enqueue(to="a")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    # run is not awaited
    soon: int = jobs.send.run(to="a")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    # the receipt of a job with another result
    await jobs.send.get(await jobs.audit.enqueue(to="a"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    # the receipt of any job: its id can be given
    await jobs.send.get(any_receipt)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    # an id is text
    await jobs.send.get(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    # a receipt is for one job
    wrong: Receipt[str] = await jobs.send.enqueue(to="a")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    # the record may be gone
    (await jobs.send.get("id")).state  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    record = await jobs.send.get("id")
    assert record is not None
    # the result is an int, or None until the job is completed
    result: int = record.result  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    # the input is an Email
    other: JobRecord[Other, Meta, int] = record  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    # many receipts are a tuple
    receipts: list[Receipt] = await jobs.send.enqueue_many([Email(to="a")])  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    # the record may be gone
    (await jobs.inspect.get_job("id")).state  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    # a receipt has no result
    (await jobs.send.enqueue(to="a")).result  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    # a receipt does not change
    (await jobs.send.enqueue(to="a")).state = "failed"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    # no such state
    await jobs.inspect.find("done")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    # an id is text
    await jobs.inspect.get_job(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    # only finished records can be purged
    await jobs.control.purge_all("queued")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    # an age without its unit
    await jobs.control.purge_all("failed", older_than=3600)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    del text, number, soon, wrong, result, other, receipts


# Registries and jobs


async def wrong_jobs() -> None:
    # no such job
    await jobs.sendd.run(to="a")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    # the job of the class belongs to no registry
    await AppJobs.send.run(to="a")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    # a job is not a function
    await send(Email(to="a"))  # type: ignore[operator]  # pyright: ignore[reportCallIssue]
    # a job is called with run, enqueue or delay
    await jobs.send(to="a")  # type: ignore[operator]  # pyright: ignore[reportCallIssue]
    # the context has no cache
    await jobs.needs_cache.run(to="a")  # type: ignore[arg-type]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    # the context has another mailer
    await jobs.needs_text_mailer.enqueue(to="a")  # type: ignore[arg-type]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    # the context is another class
    await jobs.needs_other.run()  # type: ignore[arg-type]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    # the same through on()
    needs_cache.on(jobs)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    # the jobs of a registry do not change
    jobs.send = 3  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]


def needs_a_cache(some: Jobs[HasCache]) -> None: ...


# a registry whose context lacks what the function needs
needs_a_cache(jobs)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# a job that needs another context
app.use(needs_cache)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# the same, of another class
app.use(needs_other)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# a function is not a job
app.use(needs_a_cache)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# Contexts


def make_number() -> int:
    return 3


async def make_number_async() -> int:
    return 3


@asynccontextmanager
async def open_number() -> AsyncGenerator[int]:
    yield 3


async def bare_generator() -> AsyncGenerator[AppContext]:
    yield AppContext(1)


# no context
AppJobs()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
# the context goes by name
AppJobs(AppContext(1))  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
# None is no AppContext
AppJobs(context=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# a value of another type
AppJobs(context=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# another context
AppJobs(context=OtherContext(1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# a factory of something else
AppJobs(context=make_number)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# a lambda that gives something else
AppJobs(context=lambda: 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# an async factory of something else
AppJobs(context=make_number_async)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# a context manager of something else
AppJobs(context=open_number)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# the context manager was called already: give the function
AppJobs(context=open_number())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# a generator without @asynccontextmanager
AppJobs(context=bare_generator)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# a factory that wants arguments
AppJobs(context=AppContext)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# for each job: something else
AppJobs(context=per_job(make_number))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# for each job: something else, async
AppJobs(context=per_job(make_number_async))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# for each job: a context manager of something else
AppJobs(context=per_job(open_number))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# per_job takes what makes a context, not a context
AppJobs(context=per_job(AppContext(1)))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUnknownArgumentType]
# a URL is no driver
AppJobs(context=AppContext(1), driver="redis://localhost")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# an engine is no outbox
AppJobs(context=AppContext(1), driver=MemoryDriver(), outbox=ENGINE)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# a name is no table
SqlOutbox(ENGINE, "flowli_outbox")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# the driver's class is no driver
AppJobs(context=AppContext(1), driver=MemoryDriver)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# an option that does not exist
AppJobs(context=AppContext(1), concurrency=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
# options for all go into Defaults(...)
AppJobs(context=AppContext(1), defaults={"queue": "mail"})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# an option that does not exist
Defaults(priority=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
# a time without its unit
Defaults(timeout=30)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class SchedulesAJobNotAScheduled(AppJobs):
    # a job is no schedule
    schedules = [AppJobs.nightly]  # type: ignore[list-item]  # pyright: ignore[reportAssignmentType]


class SchedulesAJobOfAnotherContext(AppJobs):
    # the job of the schedule needs a cache, which the context lacks
    schedules = (needs_cache.scheduled(every="1h", input=Email(to="a")),)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


# the same as a value
for_app: DeclaredSchedule[AppContext] = needs_other.scheduled(every="1h")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
# a text for queues
Runner(jobs, queues="mail")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# a registry is given as an instance
Runner(AppJobs)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# a registry says what its context is
# missed by ty: it has no such rule
# missed by pyrefly: its rule is off in pyproject.toml, because it also reports `isinstance(value, list | tuple)`
class Untyped(Jobs):  # type: ignore[type-arg]  # pyright: ignore[reportMissingTypeArgument]
    nightly = nightly


# Declarations


class Measure(BaseModel):
    size: float


def size_of(input: Measure) -> int:
    return int(input.size)


async def later(input: Email) -> str:
    return input.to


# attempts are part of Retry(...)
job(Email, max_attempts=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
# an option that does not exist
job(Email, priority=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
# a number of attempts is no retry
job(Email, retry=3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
# an expiry without its unit
job(Email, expires=30)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
# a number is no limit
job(Email, limit=3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
# a concurrency that is a text
Limit(concurrency="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# a misspelt field in the function of a limit
job(Email, limit=Limit(by=lambda input: input.too))  # type: ignore[attr-defined, type-var]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownLambdaType, reportUnknownMemberType]
# a limit by something else than a text, a number or an enum
# missed by ty: it does not check what the lambda returns
job(Measure, limit=Limit(by=lambda input: input.size))  # type: ignore[arg-type, return-value, type-var]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownLambdaType, reportUnknownMemberType]
# a limit by the fields of another input
job(Email, limit=Limit(by=size_of))  # type: ignore[arg-type, type-var]  # pyright: ignore[reportArgumentType, reportCallIssue]
# a limit by the input of a job without input
job(limit=Limit(by=size_of))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# a limit by a coroutine
Limit(by=later)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# a timeout without its unit
job(Email, timeout=30)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
# tags are a list
job(Email, tags=3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
# an instance where its class is asked for
job(Email(to="a"))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
# a number where a type is asked for
job(3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
# meta is a type
job(Email, meta=Meta(request_id="r"))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
# a delay without its unit
Retry(max_attempts=3, backoff=fixed(3))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# a duration is no backoff
Retry(max_attempts=3, backoff="3s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# a growing delay without its unit
exponential(2, max_delay="5m")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# exceptions come as a tuple
Retry(retry_on=ConnectionError)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# classes, not instances
Retry(retry_on=(ConnectionError(),))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# the number of attempts is an int
Retry(max_attempts="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
# options go by name
Retry(3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
# a delay without its unit
RetryAfter(30)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# the parentheses were forgotten
@job  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def no_parentheses(input: Email) -> None: ...


# the same for a job without input
@job  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def bare_no_parentheses() -> None: ...


# the same for a plain handler
@job  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def plain_no_parentheses(input: Email) -> None: ...


# the same, authored against AppContext
@app.job  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def scoped_no_parentheses(input: Email, ctx: AppContext) -> None: ...


# a handler takes input, ctx and meta, and nothing else
@job(Email)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def unknown_parameter(input: Email, request: int) -> None: ...


# its parameter is called input
@job(Email)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def input_by_another_name(email: Email) -> None: ...


# parameters are given by name
@job(Email)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def positional_only(input: Email, /) -> None: ...


# the declared input is not taken
@job(Email)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def input_not_taken(ctx: HasMailer) -> None: ...


# the input that is taken is not declared
@job()  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def input_not_declared(input: Email) -> None: ...


# the input that is taken is another model
@job(Email)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def another_input(input: Other) -> None: ...


# one is declared, a list is taken
@job(int)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def list_for_one(input: list[int]) -> None: ...


# the handler takes less than is declared
@job(int | str)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def narrower(input: int) -> None: ...


# the meta that is taken is not declared
@job(Email)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def meta_not_declared(input: Email, meta: Meta | None) -> None: ...


# the meta that is taken is another model
@job(Email, meta=Meta)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def another_meta(input: Email, meta: Other | None) -> None: ...


# meta may be missing: a handler takes Meta | None
@job(Email, meta=Meta)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def meta_never_missing(input: Email, meta: Meta) -> None: ...


# the same for a plain handler
@job(Email)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def plain_another_input(input: Other) -> None: ...


# the same for a job without input
@job(meta=Meta)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def bare_another_meta(meta: Other | None) -> None: ...


# authored against AppContext, and takes another
@app.job(Email)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def scoped_another_context(input: Email, ctx: OtherContext) -> None: ...


# authored against AppContext, which has no cache
@app.job(Email)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def scoped_lacks_cache(input: Email, ctx: HasCache) -> None: ...


# the same without input
@app.job()  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def scoped_bare_lacks_cache(ctx: HasCache) -> None: ...


# the same for a plain handler
@app.job()  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def scoped_plain_lacks_cache(ctx: HasCache) -> None: ...


# authored against AppContext, with another input
@app.job(Email)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def scoped_another_input(input: Other) -> None: ...


# authored against AppContext, with another meta
@app.job(Email, meta=Meta)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def scoped_another_meta(input: Email, meta: Other | None) -> None: ...


# With says what its context is
# missed by ty: it has no such rule
# missed by pyrefly: it has no such rule
loose = With()  # type: ignore[var-annotated]  # pyright: ignore[reportUnknownVariableType]
# a wrong option of a scoped job
app.job(Email, timeout=30)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
