"""Contexts that cannot be made, have the wrong type, or raise on exit."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core import DefinitionError, Runner, per_job
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.errors import StoreUnavailable
from flowli_core.testing import drain
from tests.conformance.builders import soon, waiting_step
from tests.support.sessions import AppJobs, Session

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

any_jobs: Any = AppJobs
made = Session()


def raises() -> Session:
    raise ConnectionError("no database")


def gives_another_type() -> object:
    return "a text"


async def gives_another_type_later() -> object:
    return 5


def generates() -> Generator[Session]:
    yield Session()


async def generates_later() -> AsyncGenerator[Session]:
    yield Session()


WRONG = [
    (raises, ConnectionError, "no database"),
    (gives_another_type, DefinitionError, "the context must be Session, as the registry declares, got str"),
    (gives_another_type_later, DefinitionError, "got int"),
    (generates, DefinitionError, "a generator; decorate it with @asynccontextmanager"),
    (generates_later, DefinitionError, "a generator; decorate it with @asynccontextmanager"),
]


@pytest.mark.parametrize("is_per_job", [False, True])
@pytest.mark.parametrize(("source", "error", "says"), WRONG)
async def test_run_raises_if_the_context_cannot_be_made(
    source: Any, error: type[Exception], says: str, *, is_per_job: bool
) -> None:
    jobs = any_jobs(context=per_job(source) if is_per_job else source)
    with pytest.raises(error, match=says):
        await jobs.work.run("w")


@pytest.mark.parametrize(("source", "error", "says"), WRONG)
async def test_a_job_fails_in_a_worker_if_its_context_cannot_be_made(
    source: Any, error: type[Exception], says: str
) -> None:
    """The record holds the error, and the worker continues."""
    jobs = any_jobs(context=per_job(source), driver=MemoryDriver())
    receipt = await jobs.work.enqueue("w")
    assert (await drain(jobs)).failed == 1
    found = await jobs.inspect.get_job(receipt.id)
    assert says in found.last_error.message


async def test_the_next_call_tries_again_to_make_a_shared_context() -> None:
    tries: list[int] = []

    def second_time_lucky() -> Session:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("not yet")
        return made

    jobs = AppJobs(context=second_time_lucky)
    with pytest.raises(ConnectionError):
        await jobs.work.run("w")
    assert await jobs.work.run("w") == id(made)


async def test_a_runner_does_not_start_if_the_shared_context_cannot_be_made() -> None:
    with pytest.raises(ConnectionError, match="no database"):
        await Runner(AppJobs(context=raises, driver=MemoryDriver())).run_once()


async def test_a_context_manager_of_the_wrong_type_is_exited_at_once() -> None:
    log: list[str] = []

    @asynccontextmanager
    async def wrong() -> AsyncGenerator[str]:
        log.append("enter")
        try:
            yield "a text"
        finally:
            log.append("leave")

    jobs = any_jobs(context=wrong)
    for _ in range(2):
        with pytest.raises(DefinitionError, match="got str"):
            await jobs.work.run("w")
    assert log == ["enter", "leave"] * 2


async def test_the_driver_is_closed_even_if_closing_the_context_fails() -> None:
    @asynccontextmanager
    async def fails_to_close() -> AsyncGenerator[Session]:
        yield Session()
        raise ConnectionError("gone")

    driver = MemoryDriver()
    jobs = AppJobs(context=fails_to_close, driver=driver)
    await jobs.work.enqueue("w")
    await drain(jobs)
    waiting = asyncio.create_task(driver.step(waiting_step("nothing")))
    await asyncio.sleep(0)
    with pytest.raises(ConnectionError):
        await jobs.aclose()
    with pytest.raises(StoreUnavailable, match="closed during a wait"):
        await soon(waiting)


async def test_a_runtime_whose_context_cannot_be_made_closes_its_driver() -> None:
    """`async with` opens the driver first, and must not leave its threads and files open if it then fails."""

    def broken() -> Session:
        raise ConnectionError("no database")

    driver = MemoryDriver()
    waiting = asyncio.create_task(driver.step(waiting_step("nothing")))
    await asyncio.sleep(0)
    with pytest.raises(ConnectionError):
        async with AppJobs(context=broken, driver=driver):
            raise AssertionError("the registry was entered")
    with pytest.raises(StoreUnavailable, match="closed during a wait"):
        await soon(waiting)
