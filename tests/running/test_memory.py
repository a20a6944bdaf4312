"""Memory of attempts: once the outcome was reported, nothing is left for the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from typing import TYPE_CHECKING

import pytest

from flowli_core import Hooks, JobEvent, Retry, fixed
from flowli_core._running.threads import Threads
from tests.support.running import Work, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class File:
    """A local variable of a handler."""


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """Turn the garbage collector off, which frees cycles of references only when many objects exist."""
    logging.disable()  # pytest keeps the errors that are logged
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    logging.disable(logging.NOTSET)


def track() -> tuple[list[weakref.ref[File]], Callable[[], File]]:
    """Return the files made by a function, and the function."""
    files: list[weakref.ref[File]] = []

    def make() -> File:
        file = File()
        files.append(weakref.ref(file))
        return file

    return files, make


@pytest.mark.parametrize("name", ["act", "toil"])
@pytest.mark.parametrize("retry", [Retry(), Retry(max_attempts=2, backoff=fixed("0s"))])
async def test_a_failed_attempt_frees_what_its_handler_held(name: str, retry: Retry) -> None:
    work, (files, make) = Work(), track()
    events: list[str] = []

    async def act(_: int) -> None:
        file = make()
        raise ConnectionError(file)

    def toil(_: int) -> None:
        file = make()
        raise ConnectionError(file)

    work.deeds.act, work.deeds.toil = act, toil
    await getattr(work.jobs, name).options(retry=retry).enqueue(1)
    await work.run(hooks=Hooks(on_job_failed=lambda event: events.append(event.name)))
    assert events == [name]
    assert len(files) == retry.max_attempts
    await until(lambda: all(file() is None for file in files))


async def test_an_attempt_that_timed_out_frees_what_its_handler_held() -> None:
    work, (files, make) = Work(), track()

    async def act(_: int) -> None:
        file = make()
        await asyncio.Event().wait()
        del file

    work.deeds.act = act
    await work.jobs.act.options(timeout="10ms").enqueue(1)
    assert (await work.run()).failed == 1
    await until(lambda: files[0]() is None)


async def test_a_failed_hook_frees_what_it_held() -> None:
    work, (files, make) = Work(), track()

    def plain(_: JobEvent) -> None:
        file = make()
        raise ConnectionError(file)

    async def asynchronous(_: JobEvent) -> None:
        file = make()
        raise ConnectionError(file)

    await work.add(1)
    await work.run(hooks=Hooks(on_job_started=plain, on_job_completed=asynchronous))
    await until(lambda: all(file() is None for file in files))
    assert len(files) == 2


async def test_an_idle_thread_holds_no_argument() -> None:
    threads, (files, make) = Threads(1, name="idle"), track()
    await threads.call(str, make())
    await until(lambda: files[0]() is None)
    threads.close()
