"""A handler is async or plain by what its call gives, however it was made: `run` and a worker do the same."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any
from unittest.mock import create_autospec

import pytest

from flowli_core import Jobs, Retry, fixed, job
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import drain

any_job: Any = job
tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


async def render(input: int) -> str:
    await asyncio.sleep(0)
    return f"page {input}"


def blocking(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def entry(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(function(*args, **kwargs))

    return entry


def passing_on(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def entry(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return entry


def renders(input: int) -> Awaitable[str]:
    return render(input)


shortened: Callable[[int], Awaitable[str]] = lambda input: render(input + 0)  # noqa: E731 - as users write it


class Later:
    """An awaitable that is no coroutine."""

    def __init__(self, page: str) -> None:
        self.page = page

    def __await__(self) -> Generator[Any, None, str]:
        yield from asyncio.sleep(0).__await__()
        return self.page


def later(input: int) -> Later:
    return Later(f"page {input}")


class Renderer:
    async def __call__(self, input: int) -> str:
        return await render(input)

    def plain(self, input: int) -> str:
        assert threading.current_thread() is not threading.main_thread()
        return f"page {input}"

    async def method(self, input: int) -> str:
        return await render(input)


@functools.wraps(renders)
async def made_async(input: int) -> str:
    return await render(input)


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(render, id="async function"),
        pytest.param(renders, id="plain function that returns a coroutine"),
        pytest.param(later, id="plain function that returns another awaitable"),
        pytest.param(shortened, id="lambda"),
        pytest.param(functools.partial(shortened), id="partial of a lambda"),
        pytest.param(functools.partial(functools.partial(render)), id="partial of a partial"),
        pytest.param(Renderer(), id="object with an async call"),
        pytest.param(functools.partial(Renderer()), id="partial of an object with an async call"),
        pytest.param(Renderer().method, id="async method"),
        pytest.param(Renderer().plain, id="plain method"),
        pytest.param(blocking(render), id="plain wrapper that runs a loop of its own"),
        pytest.param(passing_on(render), id="plain wrapper that returns the coroutine"),
        pytest.param(passing_on(blocking(render)), id="wrapper of a wrapper"),
        pytest.param(made_async, id="async wrapper of a plain function"),
        pytest.param(create_autospec(render, side_effect=render), id="mock of an async function"),
    ],
)
async def test_run_and_a_worker_give_the_result_of_a_handler_of_any_kind(handler: Any) -> None:
    class AppJobs(Jobs[None]):
        work = any_job(int, name="work")(handler)

    async with AppJobs(context=None, driver=MemoryDriver()) as jobs:
        assert await jobs.work.run(1) == "page 1"
        receipt = await jobs.work.enqueue(1)
        await drain(jobs)
        record = await jobs.inspect.get_job(receipt.id)
        assert record is not None
        assert (record.state, record.result, record.last_error) == ("completed", "page 1", None)


async def test_the_error_of_the_awaitable_that_a_plain_handler_returns_is_retried() -> None:
    tries: list[int] = []

    async def fails() -> None:
        tries.append(1)
        raise ConnectionError("reset")

    class AppJobs(Jobs[None]):
        work = any_job(name="work", retry=Retry(max_attempts=3, backoff=fixed("0s")))(lambda: fails())  # noqa: PLW0108

    async with AppJobs(context=None, driver=MemoryDriver()) as jobs:
        await jobs.work.enqueue()
        await drain(jobs)
    assert len(tries) == 3


async def test_an_attempt_that_timed_out_in_its_thread_is_cancelled_on_the_loop() -> None:
    """A thread cannot be cancelled, but the coroutine that it returns can."""
    cancelled: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append("wait")
            raise

    def begins_slowly() -> Awaitable[None]:
        time.sleep(0.1)
        return wait()

    class AppJobs(Jobs[None]):
        work = any_job(name="work", timeout="20ms")(begins_slowly)

    async with AppJobs(context=None, driver=MemoryDriver()) as jobs:
        receipt = await jobs.work.enqueue()
        async with asyncio.timeout(5):
            await drain(jobs)
        record = await jobs.inspect.get_job(receipt.id)
    assert cancelled == ["wait"]
    assert record is not None
    assert record.last_error is not None
    assert record.last_error.type.endswith("JobTimeout")


async def test_the_awaitable_sees_the_context_variables_that_a_plain_wrapper_has_set() -> None:
    async def read() -> str:
        return tenant.get()

    @functools.wraps(read)
    def for_acme() -> Awaitable[str]:
        tenant.set("acme")
        return read()

    class AppJobs(Jobs[None]):
        read = job()(for_acme)

    async with AppJobs(context=None, driver=MemoryDriver()) as jobs:
        assert await asyncio.create_task(jobs.read.run()) == "acme"
        receipt = await jobs.read.enqueue()
        await drain(jobs)
        record = await jobs.inspect.get_job(receipt.id)
        assert record is not None
        assert record.result == "acme"
    assert tenant.get() == "nobody"


def numbers() -> Generator[int]:
    yield 1
    yield 2


async def later_numbers() -> AsyncGenerator[int]:
    yield 1


async def test_a_plain_wrapper_may_collect_what_a_generator_yields() -> None:
    @functools.wraps(numbers)
    def collected() -> list[int]:
        return list(numbers())

    class AppJobs(Jobs[None]):
        collect = any_job(name="collect")(collected)

    assert await AppJobs(context=None).collect.run() == [1, 2]


@pytest.mark.parametrize("generator", [numbers, later_numbers])
async def test_a_wrapper_that_returns_a_generator_fails_with_the_cure(generator: Any) -> None:
    """Nothing runs the code of the generator, so the job must not complete."""

    class AppJobs(Jobs[None]):
        work = any_job(name="work")(passing_on(generator))

    async with AppJobs(context=None, driver=MemoryDriver()) as jobs:
        with pytest.raises(TypeError, match="returned a generator, whose code has not run; return a list"):
            await jobs.work.run()
        await jobs.work.enqueue()
        assert (await drain(jobs)).failed == 1
