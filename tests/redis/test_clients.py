"""Each client library with broken connections and a server that dies, in addition to the conformance suite."""

from __future__ import annotations

import gc
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, get_args

import pytest

from flowli_core import DriverError, Runner, StoreUnavailable
from flowli_core.drivers.redis import RedisDriver
from flowli_core.drivers.redis._scripts import Script
from tests.conformance.builders import Worker, assert_consistent, record
from tests.redis.clients import Library, OwningDriver, client_of
from tests.redis.proxy import FaultKind, Proxy
from tests.support.running import Rival, Work, running, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from flowli_core.driver import StepAnswer
    from tests.redis.server import Server

LIBRARIES: tuple[Library, ...] = get_args(Library)


@asynccontextmanager
async def driver_over(library: Library, url: str) -> AsyncGenerator[OwningDriver]:
    """Open a driver with a user's client."""
    driver = OwningDriver(client_of(library, url), prefix="app")
    await driver.open()
    yield driver
    await assert_consistent(driver)
    await driver.close()


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("kind", ["drop", "lose"])
async def test_a_call_whose_connection_breaks_is_executed_once(
    server: Server, tmp_path: Path, library: Library, kind: FaultKind
) -> None:
    """A call is executed once, whether its client retries it, or the caller does after StoreUnavailable."""
    async with Proxy(server.socket, tmp_path) as proxy, driver_over(library, proxy.url) as driver:
        await driver.enqueue([record("warm up", queue="another")])
        worker = Worker(driver)
        await worker.step()
        proxy.fault(kind, Script("enqueue").digest.encode())

        async def is_added() -> bool:
            try:
                return (await driver.enqueue([record("a")]))[0].id == "a"
            except StoreUnavailable:
                return False

        await until(is_added)
        assert proxy.seen[kind] == 1
        assert (await driver.overview()).counts.by_queue["q"].queued == 1


# coredis does not close anyio's streams of a connection that it could not open; they hold nothing but memory.
@pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning")
@pytest.mark.parametrize("library", LIBRARIES)
async def test_a_runner_outlives_its_server(server: Server, library: Library) -> None:
    """The server dies and comes back empty: new jobs run without a restart of the runner."""
    async with driver_over(library, server.url) as driver:
        work = Work(driver)
        async with running(Runner(work.jobs)):
            (before,) = await work.add(1)
            await work.until(before, "completed")
            server.kill()
            with pytest.raises(StoreUnavailable):
                await work.add(2)
            server.start()
            (after,) = await work.add(3)
            await work.until(after, "completed")
    gc.collect()


@pytest.mark.parametrize("library", LIBRARIES)
async def test_leases_are_renewed_while_the_event_loop_is_blocked(server: Server, library: Library) -> None:
    """The thread that renews leases has connections of its own, with each library."""
    async with driver_over(library, server.url) as driver:
        work, rival = Work(driver), Rival(driver)
        answers: list[StepAnswer] = []

        async def block(_: int) -> object:
            time.sleep(1.5)  # noqa: ASYNC251 - this is the fault
            answers.append(rival.step_from_a_thread())
            return None

        work.deeds.act = block
        async with running(Runner(work.jobs, lease="1s")):
            (record_id,) = await work.add(1)
            done = await work.until(record_id, "completed")
        assert [(answer.recovered, answer.reserved) for answer in answers] == [((), ())]
        assert done.recoveries == 0


@pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning")
async def test_a_coredis_client_that_is_not_entered_is_refused(server: Server) -> None:
    """The message says how to enter it."""
    with pytest.raises(DriverError, match="async with client"):
        await RedisDriver(client_of("coredis", server.url)).open()
    gc.collect()
