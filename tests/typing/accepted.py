"""Right uses, which type checkers must accept, with the types that they must infer. Checked by all four of them.

Each `async def` below that takes `jobs` holds uses of one kind. test_types.py runs it with a real registry, so the types
are also true at run time.
"""

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Generic, ParamSpec, Protocol, TypeVar, assert_type

from flowli_core import (
    Abort,
    AllMissed,
    BoundJob,
    BulkResult,
    CurrentJob,
    Defaults,
    Execution,
    Exponential,
    Fixed,
    Job,
    JobRecord,
    JobUpdate,
    Jobs,
    Keep,
    LastError,
    LogLine,
    Middleware,
    Page,
    PastAttempt,
    PerJob,
    Proceed,
    Progress,
    QueueCounts,
    Receipt,
    RecordNotFound,
    Retry,
    RetryAfter,
    Runner,
    ScheduleReceipt,
    ScheduleRecord,
    State,
    StateCounts,
    With,
    current_job,
    exponential,
    fixed,
    job,
    per_job,
    run_sync,
)
from flowli_core import CancelAnswer, RequeueAnswer
from flowli_core.drivers.memory import MemoryDriver
from flowli_core._jobs.job import NoMeta
from pydantic import BaseModel, Field
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

P = ParamSpec("P")
In = TypeVar("In")
M = TypeVar("M")
R = TypeVar("R")
C_co = TypeVar("C_co", covariant=True)

# The classes of an application


class Mailer:
    def send(self, to: str) -> int:
        return len(to)


class HasMailer(Protocol):
    @property
    def mailer(self) -> Mailer: ...


class HasClock(Protocol):
    @property
    def started(self) -> datetime: ...


@dataclass
class AppContext:
    mailer: Mailer
    started: datetime


class Email(BaseModel):
    to: str
    subject: str = "hi"


class Meta(BaseModel):
    request_id: str


@pydantic_dataclass
class Resize:
    width: int
    height: int = 1


@dataclass
class Point:
    x: int
    y: int = 0


class Row(TypedDict):
    id: int


class Loose(TypedDict):
    payload: Any


class Event(BaseModel):
    payload: dict[str, Any]


# Declarations: every shape of a handler


@job(Email, meta=Meta, retry=Retry(max_attempts=3, backoff=exponential("2s", max_delay="5m", jitter=True)))
async def send(input: Email, ctx: HasMailer, meta: Meta | None) -> int:
    return ctx.mailer.send(input.to)


@job(Email, name="send-in-thread", timeout="30s", queue="mail", tags=["mail"], aliases=("sent",), description="Sends.")
def send_in_thread(input: Email, ctx: HasMailer) -> int:
    return ctx.mailer.send(input.to)


@job(Email, meta=Meta)
async def meta_first(meta: Meta | None, input: Email) -> str:
    return meta.request_id if meta else ""


@job(Email, meta=Meta)
def context_last(meta: Meta | None, input: Email, ctx: HasMailer) -> str:
    return input.subject


@job(Email, meta=Meta)
async def meta_unused(input: Email) -> str:
    return input.to


@job(Email)
async def keyword_only(*, ctx: HasClock, input: Email) -> datetime:
    return ctx.started


@job(Resize, retry=Retry(max_attempts=2, backoff=fixed(timedelta(seconds=1)), retry_on=(ConnectionError,)))
async def resize(input: Resize) -> tuple[int, int]:
    return (input.width, input.height)


@job(Point, expires="10m", keep_completed="1h", keep_failed=timedelta(days=1))
async def plot(input: Point) -> Point:
    return input


@job(Row)
async def store_row(input: Row) -> Row:
    return input


@job(Event)
async def record_event(input: Event) -> None: ...


@job(int)
async def double(input: int) -> int:
    return input * 2


@job(list[int])
async def total(input: list[int]) -> int:
    return sum(input)


@job(int | str)
async def either(input: int | str) -> int | str:
    return input


@job(int | str, meta=Meta)
def either_with_meta(meta: Meta | None, input: int | str) -> int | str:
    return input


@job(Annotated[int, Field(gt=0)])
async def positive(input: int) -> int:
    return input


@job()
async def nightly(ctx: AppContext) -> str:
    return ctx.started.isoformat()


@job()
async def ping() -> bool:
    return True


@job()
def ping_in_thread() -> bool:
    return True


@job(meta=Meta)
def audit(meta: Meta | None) -> str:
    return "" if meta is None else meta.request_id


@job(meta=Meta)
async def audit_with_context(ctx: HasClock, meta: Meta | None) -> datetime:
    return ctx.started


@job(int)
async def stubborn(input: int) -> int:
    if input == 1:
        raise Abort("enough")
    if input == 2:
        raise RetryAfter("30s", "not yet")
    if input == 3:
        raise RetryAfter(timedelta(seconds=30))
    return input


@job()
async def who_am_i() -> str:
    current = current_job()
    assert_type(current, CurrentJob)
    assert_type(current.id, str)
    assert_type(current.attempt, int)
    assert_type(current.recoveries, int)
    assert_type(current.token, int)
    assert_type(current.cancelled, bool)
    assert_type(current.progress(1, 2.5, "half"), None)
    assert_type(current.progress(done=1), None)
    assert_type(current.log("text"), None)
    assert_type(current.last_progress, Progress | None)
    assert_type(AppJobs.current(), AppJobs)
    assert_type(await AppJobs.current().double.run(1), int)
    return current.name


# An Any in one place does not make an Any of the other types


@job(Email)
async def report(input: Email) -> dict[str, Any]:
    return {"to": input.to}


@job(Email)
def report_in_thread(input: Email) -> dict[str, Any]:
    return {"to": input.to}


@job(dict[str, Any])
async def merge(input: dict[str, Any]) -> int:
    return len(input)


@job(Email, meta=dict[str, Any])
async def loose_meta(input: Email, meta: dict[str, Any] | None) -> int:
    return 0


@job(Email)
async def loose_context(input: Email, ctx: Any) -> int:
    return 0


@job(Loose)
async def store_loose(input: Loose) -> int:
    return 0


# Handlers that are more than a function


def traced(handler: Callable[P, R]) -> Callable[P, R]:
    @functools.wraps(handler)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        return handler(*args, **kwargs)

    return inner


@job(Email)
@traced
async def decorated(input: Email, ctx: HasMailer) -> int:
    return ctx.mailer.send(input.to)


class Service:
    async def method(self, input: Email) -> int:
        return len(input.to)

    async def __call__(self, input: Email, ctx: HasMailer) -> str:
        return input.to


service = Service()
of_a_method = job(Email)(service.method)
of_an_object = job(Email, name="of_an_object")(service)


# Declarations against a context

app = With[AppContext]()


@app.job(Email, meta=Meta, queue="mail")
async def scoped(input: Email, ctx: AppContext, meta: Meta | None) -> bytes:
    return input.to.encode()


@app.job(Email)
def scoped_asks_for_less(input: Email, ctx: HasMailer) -> int:
    return ctx.mailer.send(input.to)


@app.job()
async def scoped_bare(ctx: AppContext) -> str:
    return ctx.started.isoformat()


@app.job(int | str)
async def scoped_either(input: int | str) -> str:
    return str(input)


class AppJobs(Jobs[AppContext]):
    queues = ("mail", "other", "q")
    send = app.use(send)
    send_in_thread = app.use(send_in_thread)
    meta_first = meta_first
    context_last = context_last
    meta_unused = meta_unused
    keyword_only = keyword_only
    resize = resize
    plot = plot
    store_row = store_row
    record_event = record_event
    double = double
    total = total
    either = either
    either_with_meta = either_with_meta
    positive = positive
    nightly = nightly
    ping = ping
    ping_in_thread = ping_in_thread
    audit = audit
    audit_with_context = audit_with_context
    stubborn = stubborn
    who_am_i = who_am_i
    report = report
    report_in_thread = report_in_thread
    merge = merge
    loose_meta = loose_meta
    loose_context = loose_context
    store_loose = store_loose
    decorated = decorated
    of_a_method = of_a_method
    of_an_object = of_an_object
    scoped = scoped
    scoped_asks_for_less = scoped_asks_for_less
    scoped_bare = scoped_bare
    scoped_either = scoped_either


# Contexts: a value, and each way to make one


def make() -> AppContext:
    return AppContext(mailer=Mailer(), started=datetime(2026, 1, 1, tzinfo=UTC))


async def make_async() -> AppContext:
    return make()


@asynccontextmanager
async def make_and_close() -> AsyncGenerator[AppContext]:
    yield make()


class Session(AppContext):
    async def __aenter__(self) -> "Session":
        return self

    async def __aexit__(self, *_: object) -> None: ...


def open_session() -> Session:
    return Session(mailer=Mailer(), started=datetime(2026, 1, 1, tzinfo=UTC))


@dataclass
class Larger(AppContext):
    more: int = 0


assert_type(per_job(make), PerJob[AppContext])
assert_type(per_job(make_async), PerJob[AppContext])
assert_type(per_job(make_and_close), PerJob[AppContext])

contexts = [
    AppJobs(context=make()),
    AppJobs(context=make),
    AppJobs(context=lambda: make()),
    AppJobs(context=make_async),
    AppJobs(context=make_and_close),
    AppJobs(context=open_session),
    AppJobs(context=per_job(make)),
    AppJobs(context=per_job(make_async)),
    AppJobs(context=per_job(make_and_close)),
    AppJobs(context=Larger(mailer=Mailer(), started=datetime(2026, 1, 1, tzinfo=UTC), more=1)),
]
assert_type(contexts, list[AppJobs])


class NeedsNothing(Jobs[None]):
    ping = ping


class TakesAnything(Jobs[object]):
    ping = ping


NeedsNothing(context=None)
TakesAnything(context=3)


# Middleware: for any context, or for one that has what it needs


async def timing(call: Execution, proceed: Proceed) -> object:
    assert_type(call.job, CurrentJob)
    assert_type(call.input, object)
    assert_type(call.meta, object)
    assert_type(call.ctx, object)
    assert_type(call.trace, bytes | None)
    result = await proceed()
    assert_type(result, object)
    return result


async def with_mailer(call: Execution[HasMailer], proceed: Proceed) -> object:
    assert_type(call.ctx.mailer, Mailer)
    return await proceed()


class Timing:
    async def __call__(self, call: Execution[AppContext], proceed: Proceed) -> object:
        return await proceed()


around: list[Middleware[AppContext]] = [timing, with_mailer, Timing()]
with_middleware = [
    AppJobs(context=make, middleware=[timing, with_mailer, Timing()]),
    AppJobs(context=make, middleware=(timing,)),
    AppJobs(context=make, middleware=around),
]


# Registries: subclassed, mixed in, with a driver and defaults


@job(int)
async def spell(input: int) -> str:
    return str(input)


class MoreJobs(AppJobs):
    spell = spell


class Mixin:
    nightly = nightly


class Mixed(Mixin, Jobs[AppContext]):
    send = send


class ForAnyContext(Jobs[C_co], Generic[C_co]):
    ping = ping


class ForThisContext(ForAnyContext[AppContext]):
    send = send


with_all = MoreJobs(
    context=make,
    driver=MemoryDriver(),
    defaults=Defaults(retry=Retry(max_attempts=2), timeout="1m", queue="other", keep=Keep(completed=10)),
)


async def subclasses(jobs: AppJobs) -> None:
    more = MoreJobs(context=make())
    assert_type(await more.spell.run(3), str)
    assert_type(await more.send.run(to="a"), int)
    assert_type(await Mixed(context=make).nightly.run(), str)
    assert_type(await ForThisContext(context=make).ping.run(), bool)
    async with more as opened:
        assert_type(opened, MoreJobs)


# Calls


async def runs_with_fields_or_the_instance(jobs: AppJobs) -> None:
    assert_type(await jobs.send.run(to="a"), int)
    assert_type(await jobs.send.run(to="a", subject="b"), int)
    assert_type(await jobs.send.run(Email(to="a")), int)
    assert_type(await jobs.send.run(Email(to="a"), meta=Meta(request_id="r")), int)
    assert_type(await jobs.send.run(Email(to="a"), meta=None), int)
    assert_type(await jobs.send_in_thread.run(to="a"), int)
    assert_type(await jobs.meta_first.run(to="a"), str)
    assert_type(await jobs.context_last.run(Email(to="a"), meta=Meta(request_id="r")), str)
    assert_type(await jobs.meta_unused.run(Email(to="a"), meta=Meta(request_id="r")), str)
    assert_type(await jobs.keyword_only.run(to="a"), datetime)


async def runs_with_each_type_of_input(jobs: AppJobs) -> None:
    assert_type(await jobs.resize.run(width=2), tuple[int, int])
    assert_type(await jobs.resize.run(2, height=3), tuple[int, int])
    assert_type(await jobs.resize.run(Resize(2)), tuple[int, int])
    assert_type(await jobs.plot.run(x=1), Point)
    assert_type(await jobs.plot.run(1, 2), Point)
    assert_type(await jobs.plot.run(Point(1)), Point)
    assert_type(await jobs.store_row.run({"id": 1}), Row)
    assert_type(await jobs.store_row.run(Row(id=1)), Row)
    assert_type(await jobs.record_event.run(payload={"any": ["thing"]}), None)
    assert_type(await jobs.double.run(3), int)
    assert_type(await jobs.total.run([1, 2]), int)
    assert_type(await jobs.either.run(3), int | str)
    assert_type(await jobs.either.run("three"), int | str)
    assert_type(await jobs.either_with_meta.run("three", meta=Meta(request_id="r")), int | str)
    assert_type(await jobs.positive.run(3), int)
    assert_type(await jobs.stubborn.run(4), int)


async def runs_without_input(jobs: AppJobs) -> None:
    assert_type(await jobs.nightly.run(), str)
    assert_type(await jobs.ping.run(), bool)
    assert_type(await jobs.ping_in_thread.run(), bool)
    assert_type(await jobs.who_am_i.run(), str)
    assert_type(await jobs.audit.run(), str)
    assert_type(await jobs.audit.run(None, meta=Meta(request_id="r")), str)
    assert_type(await jobs.audit.options(meta=Meta(request_id="r")).run(), str)
    assert_type(await jobs.audit_with_context.run(), datetime)


async def keeps_types_beside_an_any(jobs: AppJobs) -> None:
    assert_type(await jobs.report.run(to="a"), dict[str, Any])
    assert_type(await jobs.report_in_thread.run(to="a"), dict[str, Any])
    assert_type(await jobs.merge.run({"a": 1}), int)
    assert_type(await jobs.merge.enqueue({"a": 1}), Receipt[int])
    assert_type(await jobs.loose_meta.run(Email(to="a"), meta={"a": 1}), int)
    assert_type(await jobs.loose_context.run(to="a"), int)
    assert_type(await jobs.store_loose.run({"payload": 1}), int)


async def runs_handlers_that_are_more_than_a_function(jobs: AppJobs) -> None:
    assert_type(await jobs.decorated.run(to="a"), int)
    assert_type(await jobs.of_a_method.run(to="a"), int)
    assert_type(await jobs.of_an_object.run(to="a"), str)


async def runs_what_was_authored_against_the_context(jobs: AppJobs) -> None:
    assert_type(await jobs.scoped.run(to="a"), bytes)
    assert_type(await jobs.scoped.run(Email(to="a"), meta=Meta(request_id="r")), bytes)
    assert_type(await jobs.scoped_asks_for_less.run(to="a"), int)
    assert_type(await jobs.scoped_bare.run(), str)
    assert_type(await jobs.scoped_either.run(3), str)


async def enqueues(jobs: AppJobs) -> None:
    assert_type(await jobs.send.enqueue(to="a"), Receipt[int])
    assert_type(await jobs.send.enqueue(Email(to="a")), Receipt[int])
    assert_type(await jobs.send.enqueue(Email(to="a"), meta=Meta(request_id="r"), queue="mail", key="k"), Receipt[int])
    assert_type(await jobs.resize.enqueue(2, height=3), Receipt[tuple[int, int]])
    assert_type(await jobs.plot.enqueue(x=1), Receipt[Point])
    assert_type(await jobs.store_row.enqueue({"id": 1}), Receipt[Row])
    assert_type(await jobs.double.enqueue(3), Receipt[int])
    assert_type(await jobs.either.enqueue("three", queue="other"), Receipt[int | str])
    assert_type(await jobs.nightly.enqueue(), Receipt[str])
    assert_type(await jobs.nightly.enqueue(None, key="tonight"), Receipt[str])


async def calls_from_plain_code(jobs: AppJobs) -> None:
    def plain() -> None:
        assert_type(run_sync(jobs.double.enqueue(3)), Receipt[int])
        assert_type(run_sync(jobs.send.run(to="a"), timeout="5s"), int)
        assert_type(run_sync(jobs.inspect.get_job("unknown")), JobRecord | None)
        assert_type(run_sync(jobs.double.get("unknown")), JobRecord[int, NoMeta, int] | None)
        with suppress(RecordNotFound):
            assert_type(run_sync(jobs.double.result("unknown", timeout="1s")), int)

    await asyncio.to_thread(plain)


async def watches(jobs: AppJobs) -> None:
    receipt = await jobs.double.enqueue(3)
    await Runner(jobs).run_once()
    assert_type(await jobs.double.result(receipt), int)
    async for update in jobs.double.watch(receipt.id):
        assert_type(update, JobUpdate[int])
        assert_type(update.result, int | None)
    async for plain in jobs.inspect.watch(receipt.id):
        assert_type(plain, JobUpdate)


async def enqueues_many(jobs: AppJobs) -> None:
    assert_type(await jobs.send.enqueue_many([Email(to="a"), Email(to="b")]), tuple[Receipt[int], ...])
    assert_type(
        await jobs.send.enqueue_many([Email(to="a")], meta=Meta(request_id="r"), queue="mail"), tuple[Receipt[int], ...]
    )
    assert_type(await jobs.send.enqueue_many(Email(to=name) for name in "abc"), tuple[Receipt[int], ...])
    assert_type(await jobs.store_row.enqueue_many([{"id": 1}, {"id": 2}]), tuple[Receipt[Row], ...])
    assert_type(await jobs.double.enqueue_many(range(3)), tuple[Receipt[int], ...])
    assert_type(await jobs.either.enqueue_many([1, "two"]), tuple[Receipt[int | str], ...])


async def delays(jobs: AppJobs) -> None:
    assert_type(await jobs.send.delay("10m", to="a"), Receipt[int])
    assert_type(await jobs.send.delay(timedelta(minutes=10), Email(to="a")), Receipt[int])
    assert_type(await jobs.send.delay(datetime(2026, 1, 1, tzinfo=UTC), Email(to="a"), queue="mail"), Receipt[int])
    assert_type(await jobs.plot.delay("10m", 1, y=2), Receipt[Point])
    assert_type(await jobs.double.delay("10m", 3, key="k"), Receipt[int])
    assert_type(await jobs.nightly.delay("1d"), Receipt[str])


async def takes_options(jobs: AppJobs) -> None:
    options = jobs.send.options(meta=Meta(request_id="r"), queue="mail", key="o", id="an-id", timeout="1m")
    assert_type(await options.enqueue(to="a"), Receipt[int])
    assert_type(await options.run(to="a"), int)
    assert_type(
        await jobs.send.options(retry=Retry(max_attempts=9)).options(queue="q").delay("1s", to="a"), Receipt[int]
    )
    assert_type(await jobs.double.options(timeout=timedelta(seconds=3)).run(3), int)
    assert_type(await jobs.double.options(expires="1m").options(expires=datetime.now(UTC)).enqueue(3), Receipt[int])


async def takes_schedules(jobs: AppJobs) -> None:
    email = Email(to="a")
    daily = await jobs.send.schedule("daily", cron="0 8 * * *", input=email, timezone="Europe/Paris")
    assert_type(daily, ScheduleReceipt)
    assert_type(daily.next_runs, tuple[datetime, ...])
    assert_type(await jobs.send.schedule(every="15m", input=email, meta=Meta(request_id="r")), ScheduleReceipt)
    assert_type(await jobs.send.options(queue="q").schedule(every=timedelta(hours=1), input=email), ScheduleReceipt)
    assert_type(await jobs.nightly.schedule("often", every="15m", missed="skip", overlap="skip"), ScheduleReceipt)
    assert_type(await jobs.nightly.schedule(cron="@daily", missed=AllMissed(limit=3), input=None), ScheduleReceipt)
    assert_type(await jobs.double.schedule(every="1s", input=3, retry=Retry(max_attempts=2)), ScheduleReceipt)
    day = datetime(2026, 1, 1, tzinfo=UTC)
    assert_type(await jobs.double.schedule(every="1s", input=3, start=day, end=day), ScheduleReceipt)


class Scheduled(AppJobs):
    schedules = (
        AppJobs.nightly.scheduled(cron="0 3 * * *", timezone="Europe/Paris"),
        AppJobs.send.scheduled("hello", every="1h", input=Email(to="a"), meta=Meta(request_id="r")),
    )


class ScheduledInAList(AppJobs):
    schedules = [AppJobs.nightly.scheduled(every="1h", overlap="skip")]


async def steers_schedules(jobs: AppJobs) -> None:
    assert_type(await jobs.control.pause_queue("mail"), bool)
    assert_type(await jobs.control.resume_queue("mail"), bool)
    assert_type(await jobs.control.unschedule("daily"), bool)
    assert_type(await jobs.control.pause("daily"), bool)
    assert_type(await jobs.control.resume("daily"), bool)
    assert_type(await jobs.control.trigger("daily"), Receipt | None)
    assert_type(await jobs.inspect.next_runs("daily", 3), tuple[datetime, ...])
    assert_type(await jobs.inspect.get_schedule("daily"), ScheduleRecord | None)
    assert_type(await jobs.inspect.get_schedules(limit=3), Page[ScheduleRecord])


# Results of calls


async def reads_receipts(jobs: AppJobs) -> None:
    receipt = await jobs.send.enqueue(to="a")
    assert_type(receipt.id, str)
    assert_type(receipt.name, str)
    assert_type(receipt.state, State)
    assert_type(receipt.scheduled_for, datetime)
    assert_type(receipt.attempts_made, int)
    if receipt.disposition == "accepted":
        assert receipt.state != "failed"


async def inspects(jobs: AppJobs) -> None:
    receipt = await jobs.send.enqueue(to="a")
    record = await jobs.inspect.get_job(receipt.id)
    assert_type(record, JobRecord | None)
    assert record is not None
    assert_type(record.input, object)
    result: object = record.result
    assert result is None
    assert_type(record.backoff, Fixed | Exponential | None)
    assert_type(record.last_error, LastError | None)
    assert_type(record.attempts, tuple[PastAttempt, ...])
    assert_type(record.progress, Progress | None)
    assert_type(record.log, tuple[LogLine, ...])
    if record.progress is not None:
        assert_type(record.progress.fraction, float | None)
        assert_type(record.progress.at, datetime)
    assert_type(record.next_retry_at, datetime | None)
    counts = await jobs.inspect.get_queue_counts()
    assert_type(counts, QueueCounts)
    assert_type(counts.queued, int)
    assert_type(counts.by_queue["default"], StateCounts)
    page = await jobs.inspect.find("queued", limit=1, cursor=None)
    assert_type(page, Page[JobRecord])
    assert_type(page.items, tuple[JobRecord, ...])
    assert_type(page.cursor, str | None)


async def controls(jobs: AppJobs) -> None:
    receipt = await jobs.send.enqueue(to="a")
    assert_type(await jobs.control.cancel(receipt.id), CancelAnswer)
    assert_type(await jobs.control.requeue(receipt.id), RequeueAnswer)
    assert_type(await jobs.control.purge_all("completed", older_than="1h"), BulkResult)
    assert_type(await jobs.control.purge_all("failed", older_than=timedelta(hours=1)), BulkResult)
    assert_type(await jobs.control.requeue_all("scheduled", name="send", on_progress=print), BulkResult)
    assert_type(await jobs.control.cancel_all("active", queue="q"), BulkResult)
    assert_type(await jobs.inspect.count("failed", error="ValueError", older_than="1h"), int)


# Jobs as values


async def a_job_is_itself_on_the_class_and_bound_on_the_instance(jobs: AppJobs) -> None:
    assert_type(AppJobs.audit, Job[object, [], None, Meta, str])
    assert_type(AppJobs.either_with_meta, Job[object, [int | str], int | str, Meta, int | str])
    assert_type(AppJobs.ping_in_thread, Job[object, [], None, NoMeta, bool])
    assert_type(jobs.nightly, BoundJob[[], None, NoMeta, str])
    assert_type(jobs.double, BoundJob[[int], int, NoMeta, int])
    assert_type(jobs.total, BoundJob[[list[int]], list[int], NoMeta, int])
    assert_type(jobs.store_row, BoundJob[[Row], Row, NoMeta, Row])
    assert_type(jobs.merge, BoundJob[[dict[str, Any]], dict[str, Any], NoMeta, int])
    assert_type(jobs.audit, BoundJob[[], None, Meta, str])
    assert_type(jobs.audit_with_context, BoundJob[[], None, Meta, datetime])
    assert_type(jobs.either_with_meta, BoundJob[[int | str], int | str, Meta, int | str])


async def run_twice(bound: BoundJob[P, In, M, R], *args: P.args, **kwargs: P.kwargs) -> tuple[R, R]:
    return await bound.run(*args, **kwargs), await bound.run(*args, **kwargs)


async def enqueue_each(bound: BoundJob[P, In, M, R], inputs: list[In]) -> list[Receipt]:
    return [await bound.enqueue(value) for value in inputs]


async def a_function_takes_any_job(jobs: AppJobs) -> None:
    assert_type(await run_twice(jobs.send, to="a"), tuple[int, int])
    assert_type(await enqueue_each(jobs.plot, [Point(1), Point(2)]), list[Receipt])
    assert_type(await asyncio.gather(jobs.send.run(to="a"), jobs.ping.enqueue()), tuple[int, Receipt[bool]])


async def a_function_asks_for_what_it_needs(jobs: AppJobs) -> None:
    async def welcome(some: Jobs[HasMailer]) -> int:
        await send.on(some).enqueue(to="a")
        return await send.on(some).run(to="a")

    assert_type(await welcome(jobs), int)
    assert_type(await nightly.on(jobs).run(), str)
    assert_type(await jobs.nightly.run(), str)


def backoffs_are_values() -> None:
    assert_type(fixed("1s", jitter=(0.5, 1.0)), Fixed)
    assert_type(exponential("1s", max_delay=timedelta(hours=1), factor=3, jitter=True), Exponential)
    assert_type(Retry(give_up_on=(ValueError, KeyError)).backoff, Fixed | Exponential)
