"""Retry rules apply to the errors within exception groups, as task groups and `except*` raise them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest

from flowli_core import Abort, Jobs, Retry, RetryAfter, Runner, fixed, job
from flowli_core._wire.attempts import describe_error
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.retry import next_delay
from flowli_core.testing import ManualClock, drain
from tests.support.running import Work, running, soon

any_job: Any = job
SECOND = timedelta(seconds=1)
RETRY = Retry(max_attempts=3, backoff=fixed("10s"), retry_on=(ConnectionError,))


def group(*errors: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("several", errors)


def decide(error: BaseException, **rules: Any) -> timedelta | None:
    """Return the delay of the second of three attempts after an error."""
    return next_delay(
        error,
        attempt=1,
        failures=1,
        rules=Retry(**rules),
        max_attempts=3,
        backoff=fixed("1s"),
        random=lambda: 0.0,
    )


def test_a_group_that_holds_an_abort_is_not_retried() -> None:
    assert decide(group(Abort("no"))) is None
    assert decide(group(OSError(), group(group(Abort("no")), OSError()))) is None
    assert decide(group(Abort("no"), RetryAfter("1m"))) is None


def test_the_longest_delay_that_a_group_asks_for_is_obeyed() -> None:
    assert decide(group(RetryAfter("1m"), OSError(), group(RetryAfter("5m"))), retry_on=()) == timedelta(minutes=5)


def test_retry_on_must_name_all_errors_of_a_group() -> None:
    assert decide(group(ConnectionError(), group(TimeoutError())), retry_on=(OSError,)) == SECOND
    assert decide(group(ConnectionError(), ValueError()), retry_on=(OSError,)) is None
    assert decide(group(ValueError()), retry_on=(BaseExceptionGroup,)) == SECOND
    assert decide(group(KeyboardInterrupt(), OSError()), retry_on=(OSError,)) is None
    assert decide(group(KeyboardInterrupt(), OSError())) == SECOND


def test_give_up_on_need_name_only_one_error_of_a_group() -> None:
    assert decide(group(ConnectionError(), group(ValueError())), give_up_on=(ValueError,)) is None
    assert decide(group(ConnectionError()), give_up_on=(BaseExceptionGroup,)) is None
    assert decide(group(ConnectionError()), give_up_on=(ValueError,)) == SECOND


def test_the_cancellation_of_a_task_beside_the_one_that_failed_does_not_count() -> None:
    assert decide(group(asyncio.CancelledError(), ConnectionError()), retry_on=(OSError,)) == SECOND
    assert decide(group(asyncio.CancelledError()), retry_on=(OSError,)) is None


def test_a_group_nested_any_number_of_times_is_decided() -> None:
    error: BaseException = Abort("no")
    for _ in range(10_000):
        error = group(error)
    assert decide(error) is None
    assert "Abort: no" in describe_error(error).message


def test_the_message_of_a_group_names_the_errors_within_it() -> None:
    described = describe_error(group(ConnectionError("reset"), group(ValueError("x" * 9_000), KeyError())))
    assert described.type == "ExceptionGroup"
    assert described.message.startswith("several (2 sub-exceptions): ConnectionError: reset; ValueError: xxx")
    assert described.message.endswith("xxx; KeyError")
    assert len(described.message) < 500


def test_the_message_of_a_large_group_is_short() -> None:
    described = describe_error(group(*[ValueError(f"{number:0300}") for number in range(10_000)]))
    assert described.message.endswith("; and 9,995 more")
    assert len(described.message) < 2_000
    same = describe_error(group(*[ConnectionError("reset")] * 4))
    assert same.message == "several (4 sub-exceptions): ConnectionError: reset"


def test_an_error_without_words_in_a_group_is_named() -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    message = describe_error(group(Unprintable())).message
    assert message.endswith("Unprintable: <its message cannot be read: RuntimeError>")


async def fail(error: BaseException) -> None:
    raise error


async def in_asyncio(error: BaseException) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fail(error))
        tasks.create_task(asyncio.sleep(9))


async def in_anyio(error: BaseException) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fail, error)
        tasks.start_soon(anyio.sleep, 9)


async def nested(error: BaseException) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(in_anyio(error))


async def in_except_star(error: BaseException) -> None:
    try:
        raise group(error, KeyError("handled"))
    except* KeyError:
        await asyncio.sleep(0)


@pytest.mark.parametrize("raising", [in_asyncio, in_anyio, nested, in_except_star])
@pytest.mark.parametrize(
    ("make", "attempts", "waited"),
    [
        (lambda: Abort("no such user"), 1, 0),
        (lambda: ConnectionError("reset"), 3, 20),
        (lambda: ValueError("bad"), 1, 0),
        (lambda: RetryAfter("1m", "the quota is used up"), 3, 120),
    ],
    ids=["abort", "retry_on", "other", "retry after"],
)
async def test_a_worker_retries_by_the_error_that_a_task_group_has_wrapped(
    raising: Callable[[BaseException], Awaitable[None]], make: Callable[[], Exception], attempts: int, waited: int
) -> None:
    tries: list[int] = []

    async def handler() -> None:
        tries.append(1)
        error = make()
        if len(tries) < 3 or not isinstance(error, RetryAfter):  # which would be retried for ever
            await raising(error)

    class AppJobs(Jobs[None]):
        work = any_job(name="work", retry=RETRY)(handler)

    clock = ManualClock()
    begin = clock.now()
    async with AppJobs(context=None, driver=MemoryDriver(clock=clock)) as jobs:
        receipt = await jobs.work.enqueue()
        await drain(jobs)
        while (record := await jobs.inspect.get_job(receipt.id)) is not None and record.next_retry_at is not None:
            clock.advance(record.next_retry_at - clock.now())
            await drain(jobs)
    assert record is not None
    assert (record.attempts_made, (clock.now() - begin).total_seconds()) == (attempts, waited)
    assert record.last_error is not None
    assert f"{type(make()).__name__}: {make()}" in record.last_error.message


async def test_run_raises_the_group_that_the_handler_raises() -> None:
    async def handler() -> None:
        await in_asyncio(Abort("no such user"))

    class AppJobs(Jobs[None]):
        work = any_job(name="work")(handler)

    with pytest.raises(BaseExceptionGroup) as caught:
        await AppJobs(context=None).work.run()
    assert caught.group_contains(Abort, match="no such user")


async def test_a_handler_that_reraises_its_cancellation_as_a_group_is_returned_to_the_queue() -> None:
    """`except*` wraps a CancelledError that it catches, also when it raises it again."""
    work = Work()
    started, cleaned = asyncio.Event(), list[object]()

    async def act(_: int) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except* asyncio.CancelledError as cancelled:
            cleaned.append(cancelled)
            raise

    work.deeds.act = act
    (record_id,) = await work.add(1)
    runner = Runner(work.jobs)
    async with running(runner) as task:
        await soon(started.wait())
        await soon(runner.stop(drain="0s"))
        await soon(task)
    record = await work.job(record_id)
    assert (record.state, record.attempts_made, record.last_error) == ("queued", 0, None)
