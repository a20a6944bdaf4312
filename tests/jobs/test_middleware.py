"""Middleware: functions around each execution, in `run` and in a worker alike."""

import asyncio
import functools
import re
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, cast

import pytest
from pydantic import BaseModel

from flowli_core import (
    Abort,
    BoundJob,
    DefinitionError,
    Execution,
    Jobs,
    Middleware,
    Proceed,
    Retry,
    RetryAfter,
    Runner,
    StrategyError,
    ValidationError,
    current_job,
    fixed,
    job,
    per_job,
)
from flowli_core.drivers.memory import MemoryDriver
from tests.support.running import soon

R = TypeVar("R")

Log = list[object]
variable: ContextVar[str] = ContextVar("variable", default="unset")


class Report(BaseModel):
    customer: str
    pages: int = 1


class Caller(BaseModel):
    request_id: str


@job(Report, meta=Caller)
async def write(input: Report, ctx: Log, meta: Caller | None) -> str:
    ctx.append("handler")
    if input.customer == "nobody":
        raise LookupError("no such customer")
    return input.customer


@job(str)
def toil(input: str, ctx: Log) -> str:
    """Work in a thread."""
    ctx.append(threading.current_thread() is threading.main_thread())
    return f"{input} {variable.get()}"


@job()
async def quiet() -> None: ...


@job()
async def typed() -> Report:
    return Report(customer="Ada")


@job()
async def untyped():  # type: ignore[no-untyped-def]
    return 1


class AppJobs(Jobs[Log]):
    write = write
    toil = toil
    quiet = quiet
    typed = typed
    untyped = untyped


class Failed(Exception):
    """The error of a record."""


class Way:
    """A way to execute a job of the registry that `jobs` made last: `run`, or a worker."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name

    def jobs(self, *middleware: Middleware[Log], context: Any = None) -> AppJobs:
        context = [] if context is None else context
        self._jobs = AppJobs(context=context, driver=MemoryDriver(), middleware=middleware)
        return self._jobs

    async def execute(self, job: BoundJob[Any, Any, Any, R], *args: Any, **kwargs: Any) -> R:
        """Return the result. Raises Failed, with the type and message of the error."""
        if self.name == "run":
            try:
                return await job.run(*args, **kwargs)
            except Exception as error:
                raise Failed(f"{type(error).__name__}: {error}") from error
        receipt = await job.enqueue(*args, **kwargs)
        await soon(Runner(self._jobs).run_once())
        record = await job.get(receipt)
        assert record is not None
        if record.state != "completed":
            assert record.last_error is not None
            raise Failed(f"{record.last_error.type.rpartition('.')[2]}: {record.last_error.message}")
        return cast("R", record.result)


@pytest.fixture(params=["run", "worker"])
def way(request: pytest.FixtureRequest) -> Way:
    return Way(request.param)


async def passing(call: Execution, proceed: Proceed) -> object:
    return await proceed()


def instead(result: object) -> Middleware[Log]:
    """Return middleware that returns this result without calling the handler."""

    async def skip(call: Execution, proceed: Proceed) -> object:
        return result

    return skip


def raising(error: Exception) -> Middleware[Log]:
    async def refuse(call: Execution, proceed: Proceed) -> object:
        raise error

    return refuse


async def test_the_first_middleware_is_the_outermost(way: Way) -> None:
    log: Log = []

    def named(name: str) -> Middleware[Log]:
        async def note(call: Execution[Log], proceed: Proceed) -> object:
            call.ctx.append(f"{name} begins")
            result = await proceed()
            call.ctx.append(f"{name} ends")
            return result

        return note

    jobs = way.jobs(named("outer"), named("inner"), context=log)
    assert await way.execute(jobs.write, customer="Ada") == "Ada"
    assert log == ["outer begins", "inner begins", "handler", "inner ends", "outer ends"]


async def test_middleware_sees_the_execution(way: Way) -> None:
    seen: list[Execution[Log]] = []

    async def watch(call: Execution[Log], proceed: Proceed) -> object:
        assert call.job is current_job()
        assert AppJobs.current() is jobs
        seen.append(call)
        return await proceed()

    log: Log = []
    jobs = way.jobs(watch, context=log)
    await way.execute(jobs.write, Report(customer="Ada"), meta=Caller(request_id="r"))
    await way.execute(jobs.quiet)
    (first, second) = seen
    assert first.input == Report(customer="Ada")
    assert first.meta == Caller(request_id="r")
    assert first.ctx is log
    assert (first.job.name, first.job.queue, first.job.attempt, first.trace) == ("write", "default", 1, None)
    assert (second.input, second.meta, second.job.name) == (None, None, "quiet")


async def test_a_handler_in_a_thread_sees_the_context_variables_of_middleware(way: Way) -> None:
    async def set_variable(call: Execution, proceed: Proceed) -> object:
        token = variable.set("set")
        try:
            return await proceed()
        finally:
            variable.reset(token)

    log: Log = []
    jobs = way.jobs(set_variable, context=log)
    assert await way.execute(jobs.toil, "hard") == "hard set"
    assert log == [False]
    assert variable.get() == "unset"


async def test_middleware_may_skip_the_handler(way: Way) -> None:
    log: Log = []
    jobs = way.jobs(instead("Grace"), context=log)
    assert await way.execute(jobs.write, customer="Ada") == "Grace"
    assert log == []


async def test_middleware_may_replace_the_result(way: Way) -> None:
    async def shout(call: Execution, proceed: Proceed) -> object:
        return str(await proceed()).upper()

    assert await way.execute(way.jobs(shout).write, customer="Ada") == "ADA"


async def test_a_replaced_result_is_read_as_the_type_of_the_job(way: Way) -> None:
    jobs = way.jobs(instead({"customer": "Ada", "pages": "3"}))
    assert await way.execute(jobs.typed) == Report(customer="Ada", pages=3)
    assert await way.execute(way.jobs(instead((1, 2))).untyped) == [1, 2]


async def test_a_replaced_result_of_another_type_fails_the_job_for_good(way: Way) -> None:
    jobs = way.jobs(instead({"pages": 3}))
    with pytest.raises(Failed, match=r"ValidationError: typed: result .*customer.*; middleware returned it"):
        await way.execute(jobs.typed)
    with pytest.raises(Failed, match="ValidationError: result cannot be written as JSON"):
        await way.execute(way.jobs(instead(object())).untyped)


async def test_an_invalid_replaced_result_is_no_mistake_of_a_client() -> None:
    with pytest.raises(ValidationError) as caught:
        await Way("run").jobs(instead({"pages": 3})).typed.run()
    assert caught.value.is_internal
    assert caught.value.issues


async def test_middleware_that_forgets_to_return_the_result_is_told_so(way: Way) -> None:
    async def forget(call: Execution, proceed: Proceed) -> object:
        return print(await proceed(), end="")  # noqa: T201

    with pytest.raises(Failed, match=re.escape("write `return await proceed()`")):
        await way.execute(way.jobs(forget).write, customer="Ada")
    await way.execute(way.jobs(forget).quiet)


async def test_the_error_of_middleware_is_that_of_the_execution(way: Way) -> None:
    async def wrap(call: Execution, proceed: Proceed) -> object:
        try:
            return await proceed()
        except LookupError as error:
            raise ConnectionError("outer") from error

    with pytest.raises(Failed, match="ConnectionError: outer"):
        await way.execute(way.jobs(wrap).write, customer="nobody")
    with pytest.raises(Failed, match="LookupError: no such customer"):
        await way.execute(way.jobs(passing).write, customer="nobody")


async def test_middleware_may_turn_an_error_into_a_result(way: Way) -> None:
    async def forgive(call: Execution, proceed: Proceed) -> object:
        try:
            return await proceed()
        except LookupError:
            return "forgiven"

    assert await way.execute(way.jobs(forgive).write, customer="nobody") == "forgiven"


async def test_the_context_of_an_execution_is_around_its_middleware(way: Way) -> None:
    log: Log = []

    @asynccontextmanager
    async def enter() -> AsyncGenerator[Log]:
        log.append("enter")
        try:
            yield log
        except ConnectionError as error:
            log.append(f"exit with {error}")
            raise

    jobs = way.jobs(raising(ConnectionError("the middleware's")), context=per_job(enter))
    with pytest.raises(Failed):
        await way.execute(jobs.write, customer="Ada")
    assert log == ["enter", "exit with the middleware's"]


async def test_proceed_is_called_once(way: Way) -> None:
    async def twice(call: Execution, proceed: Proceed) -> object:
        await proceed()
        return await proceed()

    log: Log = []
    with pytest.raises(Failed, match=r"StrategyError: the middleware twice may call proceed\(\) once"):
        await way.execute(way.jobs(twice, context=log).write, customer="Ada")
    assert log == ["handler"]


async def test_middleware_that_does_not_await_proceed_fails_the_job(way: Way) -> None:
    started: list[Awaitable[object]] = []

    async def forget(call: Execution, proceed: Proceed) -> object:
        started.append(proceed())
        return None

    async def leave(call: Execution, proceed: Proceed) -> object:
        started.append(asyncio.create_task(proceed()))
        return "left"

    for middleware in (forget, leave):
        with pytest.raises(Failed, match=r"StrategyError: .* returned before proceed\(\) did; await it"):
            await way.execute(way.jobs(middleware, passing).quiet)
        with pytest.raises(Failed, match=r"StrategyError: .* returned before proceed\(\) did; await it"):
            await way.execute(way.jobs(passing, middleware).quiet)
    await asyncio.gather(*started, return_exceptions=True)


async def test_proceed_may_be_awaited_in_a_task(way: Way) -> None:
    async def limit(call: Execution, proceed: Proceed) -> object:
        return await asyncio.wait_for(asyncio.create_task(proceed()), 10)

    assert await way.execute(way.jobs(limit).write, customer="Ada") == "Ada"


# What a retry policy sees


@job(retry=Retry(max_attempts=3, backoff=fixed("1h"), retry_on=(ConnectionError,)))
async def flaky(ctx: Log) -> None:
    raise LookupError


class FlakyJobs(Jobs[Log]):
    flaky = flaky


@pytest.mark.parametrize(
    ("error", "state"),
    [(ConnectionError(), "scheduled"), (LookupError(), "failed"), (Abort(), "failed"), (RetryAfter("1h"), "scheduled")],
)
async def test_the_retry_policy_decides_by_the_outermost_error(error: Exception, state: str) -> None:
    async def wrap(call: Execution, proceed: Proceed) -> object:
        try:
            return await proceed()
        except LookupError:
            raise error from None

    jobs = FlakyJobs(context=[], driver=MemoryDriver(), middleware=[wrap])
    receipt = await jobs.flaky.enqueue()
    await soon(Runner(jobs, concurrency=1).run_once())
    record = await jobs.flaky.get(receipt)
    assert record is not None
    assert record.state == state


# Declarations


class Counting:
    """Middleware that is an object."""

    def __init__(self) -> None:
        self.names: list[str] = []

    async def __call__(self, call: Execution, proceed: Proceed) -> object:
        self.names.append(call.job.name)
        return await proceed()


async def with_limit(limit: int, call: Execution, proceed: Proceed) -> object:
    return await proceed()


async def test_middleware_may_be_an_object_or_a_partial(way: Way) -> None:
    counting = Counting()
    jobs = way.jobs(counting, functools.partial(with_limit, 3))
    assert await way.execute(jobs.write, customer="Ada") == "Ada"
    assert counting.names == ["write"]


def plain(call: Execution, proceed: Proceed) -> object:
    return None


async def takes_one(call: Execution) -> object:
    return None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (passing, "middleware must be a list of async functions, got function"),
        ([3], "middleware must be a list of async functions, not int"),
        ([Counting], "middleware must be a list of async functions, not Counting"),
        ([plain], "the middleware plain must be async: async def plain(call, proceed)"),
        ([takes_one], "the middleware takes_one must take two arguments: async def takes_one(call, proceed)"),
    ],
)
def test_invalid_middleware_is_refused(given: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=re.escape(message)):
        AppJobs(context=[], middleware=given)


def test_the_message_of_a_late_proceed_names_the_middleware() -> None:
    kept: list[Callable[[], Any]] = []

    async def keep(call: Execution, proceed: Proceed) -> object:
        kept.append(proceed)
        return None

    asyncio.run(Way("run").jobs(keep).quiet.run())
    with pytest.raises(StrategyError, match="the middleware keep may call"):
        kept[0]()
