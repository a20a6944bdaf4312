"""Whatever a handler does becomes an outcome, and the runner continues."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import NoReturn

import pytest

from flowli_core import Abort, Retry, RetryAfter, RunCounts, Runner, current_job, fixed, per_job
from flowli_core._wire.codec import MAX_PAYLOAD
from flowli_core.testing import ManualClock
from tests.support.running import Deeds, Duties, Work, running, soon, until

AT_ONCE = Retry(max_attempts=3, backoff=fixed("0s"))


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("cannot be printed")


class Unreadable(BaseException):
    """An error whose str() raises SystemExit."""

    def __str__(self) -> str:
        raise SystemExit("while it was printed")


class ForgetfulRetryAfter(RetryAfter):
    def __init__(self) -> None:
        """Forget the delay."""


def nest(depth: int) -> int:
    return nest(depth + 1) + 1


def throw(error: BaseException) -> NoReturn:
    raise error


FAILURES: dict[str, tuple[Callable[[], object], str]] = {
    "Exception": (lambda: throw(ValueError("no")), "ValueError"),
    "BaseException": (lambda: throw(BaseException("no")), "BaseException"),
    "SystemExit": (lambda: throw(SystemExit(3)), "SystemExit"),
    "CancelledError": (lambda: throw(asyncio.CancelledError("mine")), "asyncio.exceptions.CancelledError"),
    "GeneratorExit": (lambda: throw(GeneratorExit()), "GeneratorExit"),
    "ExceptionGroup": (lambda: throw(ExceptionGroup("some", [ValueError("a"), KeyError("b")])), "ExceptionGroup"),
    "RecursionError": (lambda: nest(0), "RecursionError"),
    "MemoryError": (lambda: bytes(1 << 62), "MemoryError"),
    "TimeoutError": (lambda: throw(TimeoutError()), "TimeoutError"),
    "unprintable": (lambda: throw(UnprintableError()), "tests.running.test_outcomes.UnprintableError"),
    "surrogate": (lambda: throw(ValueError("\ud800")), "ValueError"),
    "forgetful": (lambda: throw(ForgetfulRetryAfter()), "AttributeError"),
}


@pytest.mark.parametrize("where", ["act", "toil"])
@pytest.mark.parametrize("kind", FAILURES)
async def test_whatever_a_handler_raises_is_a_failure(kind: str, where: str) -> None:
    """Each error is recorded, and the next job runs."""
    work = Work()
    fail, name = FAILURES[kind]

    def toil(number: int) -> object:
        return fail() if number else "fine"

    async def act(number: int) -> object:
        return toil(number)

    work.deeds.act, work.deeds.toil = act, toil
    called = work.jobs.act if where == "act" else work.jobs.toil
    failing, sound = await called.enqueue_many([1, 0])
    assert await work.run(concurrency=1) == RunCounts(completed=1, failed=1)
    record = await work.job(failing.id)
    assert record.state == "failed"
    assert record.last_error is not None
    assert record.last_error.type == name
    assert record.failure_count == record.attempts_made == 1
    json.dumps(record.last_error.message + record.last_error.traceback).encode()
    assert (await work.job(sound.id)).result == "fine"


@pytest.mark.parametrize("where", ["act", "toil"])
async def test_a_stop_iteration_is_a_failure(where: str) -> None:
    """Neither a coroutine nor a future can carry one, so the runner would wait for ever."""
    work = Work()

    def toil(_: int) -> object:
        raise StopIteration("no more")

    async def act(_: int) -> object:
        return toil(1)

    work.deeds.act, work.deeds.toil = act, toil
    receipt = await (work.jobs.act if where == "act" else work.jobs.toil).enqueue(1)
    assert await work.run() == RunCounts(failed=1)
    error = (await work.job(receipt.id)).last_error
    assert error is not None
    assert "no more" in error.traceback


async def test_an_error_whose_str_raises_system_exit_is_a_failure() -> None:
    work = Work()

    async def act(number: int) -> None:
        if number:
            raise Unreadable

    work.deeds.act = act
    ids = await work.add(1, 0)
    assert await work.run(concurrency=1) == RunCounts(failed=1, completed=1)
    assert await work.states(ids) == ["failed", "completed"]


async def test_a_keyboard_interrupt_is_a_failure_and_stops_the_runner() -> None:
    work = Work()
    held = asyncio.Event()

    async def act(number: int) -> str:
        if number == 0:
            held.set()
            raise KeyboardInterrupt
        await held.wait()
        return "done"

    work.deeds.act = act
    ids = await work.add(1, 0)
    await soon(Runner(work.jobs).run())
    assert await work.states(ids) == ["completed", "failed"]
    error = (await work.job(ids[1])).last_error
    assert error is not None
    assert error.type == "KeyboardInterrupt"


async def test_a_job_that_cancels_its_own_task_is_redelivered_after_a_delay() -> None:
    """It looks like a cancellation from outside, so no attempt is used; the delay prevents a hot loop."""
    clock = ManualClock()
    work = Work(clock=clock)
    runs: list[int] = []

    async def act(number: int) -> None:
        runs.append(number)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    work.deeds.act = act
    (record_id,) = await work.add(1)
    assert await work.run() == RunCounts(released=1)
    assert runs == [1]
    record = await work.job(record_id)
    assert (record.state, record.attempts_made) == ("scheduled", 0)


async def test_a_failed_attempt_is_retried_by_the_policy() -> None:
    work = Work()
    attempts: list[int] = []

    async def act(_: int) -> str:
        attempts.append(current_job().attempt)
        if len(attempts) < 3:
            raise ValueError("not yet")
        return "done"

    work.deeds.act = act
    receipt = await work.jobs.act.options(retry=AT_ONCE).enqueue(1)
    assert await work.run() == RunCounts(retried=2, completed=1)
    record = await work.job(receipt.id)
    assert attempts == [1, 2, 3]
    assert (record.attempts_made, record.failure_count) == (3, 2)


async def test_a_delayed_retry_runs_when_it_is_due() -> None:
    clock = ManualClock()
    work = Work(clock=clock)

    async def act(_: int) -> None:
        raise ValueError("never")

    work.deeds.act = act
    receipt = await work.jobs.act.options(retry=Retry(max_attempts=2, backoff=fixed("1m"))).enqueue(1)
    assert await work.run() == RunCounts(retried=1)
    record = await work.job(receipt.id)
    assert record.state == "scheduled"
    assert record.next_retry_at == clock.now() + timedelta(minutes=1)
    assert await work.run() == RunCounts()
    clock.advance("1m")
    assert await work.run() == RunCounts(failed=1)


async def test_a_handler_may_abort_or_ask_for_a_retry() -> None:
    clock = ManualClock()
    work = Work(clock=clock)

    async def act(number: int) -> None:
        if number == 0:
            raise Abort("pointless")
        if current_job().attempt == 1:
            raise RetryAfter("30s")

    work.deeds.act = act
    ids = [(await work.jobs.act.options(retry=AT_ONCE).enqueue(0)).id, *await work.add(1)]
    assert await work.run() == RunCounts(failed=1, retried=1)
    clock.advance("30s")
    assert await work.run() == RunCounts(completed=1)
    assert await work.states(ids) == ["failed", "completed"]


@pytest.mark.parametrize(
    ("result", "complaint"),
    [(object(), "result cannot be written as JSON"), ("x" * MAX_PAYLOAD, "store a reference")],
    ids=["not JSON", "too big"],
)
async def test_a_result_that_cannot_be_stored_fails_the_job_without_a_retry(result: object, complaint: str) -> None:
    work = Work()
    runs: list[int] = []

    async def act(number: int) -> object:
        runs.append(number)
        return result

    work.deeds.act = act
    receipt = await work.jobs.act.options(retry=AT_ONCE).enqueue(1)
    assert await work.run() == RunCounts(failed=1)
    assert runs == [1]
    error = (await work.job(receipt.id)).last_error
    assert error is not None
    assert complaint in error.message


async def test_current_job_describes_the_running_job() -> None:
    work = Work()
    seen: list[tuple[str, str, str, int, int, bool]] = []
    tokens: list[int] = []

    def note() -> None:
        me = current_job()
        seen.append((me.id, me.name, me.queue, me.attempt, me.recoveries, me.cancelled))
        tokens.append(me.token)

    async def act(_: int) -> None:
        note()

    work.deeds.act, work.deeds.toil = act, lambda _: note()
    first = await work.jobs.act.enqueue(1)
    second = await work.jobs.toil.enqueue(1, queue="mail")
    await work.run(queues=["default"])
    await work.run(queues=["mail"])
    assert seen == [
        (first.id, "act", "default", 1, 0, False),
        (second.id, "toil", "mail", 1, 0, False),
    ]
    assert 0 < tokens[0] < tokens[1]


async def test_the_error_of_a_context_is_a_failure_of_the_job() -> None:
    work = Work()
    tries: list[int] = []

    async def make() -> Deeds:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("no database")
        return work.deeds

    jobs = Duties(context=per_job(make), driver=work.driver)
    receipt = await jobs.act.options(retry=AT_ONCE).enqueue(1)
    assert await Runner(jobs).run_once() == RunCounts(retried=1, completed=1)
    assert (await work.job(receipt.id)).failure_count == 1


async def test_a_failure_does_not_stop_a_runner() -> None:
    work = Work()

    async def act(number: int) -> None:
        if number % 2:
            raise SystemExit

    work.deeds.act = act
    async with running(Runner(work.jobs, concurrency=2)):
        ids = await work.add(*range(10))
        await until(lambda: work.driver.calls["step"] > 0)
        for record_id, number in zip(ids, range(10), strict=True):
            await work.until(record_id, "failed" if number % 2 else "completed")


async def test_a_failure_that_a_context_manager_swallows_is_still_a_failure() -> None:
    work = Work()

    @asynccontextmanager
    async def make() -> AsyncGenerator[Deeds]:
        with contextlib.suppress(ValueError):
            yield work.deeds

    async def act(_: int) -> None:
        raise ValueError("no")

    work.deeds.act = act
    receipt = await work.jobs.act.enqueue(1)
    assert await Runner(Duties(context=per_job(make), driver=work.driver)).run_once() == RunCounts(failed=1)
    error = (await work.job(receipt.id)).last_error
    assert error is not None
    assert error.type == "ValueError"
