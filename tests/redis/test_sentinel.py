"""Failovers by Sentinels: runners follow to the new master."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio.sentinel
import valkey.asyncio.sentinel

from flowli_core import DefinitionError, Runner
from flowli_core.drivers.redis import RedisDriver
from tests.conformance.builders import assert_consistent
from tests.redis.server import inspect_all
from tests.redis.topologies import MASTER, Node, Watched, enqueue_until_accepted, has_synced
from tests.support.running import Rival, Work, running, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

KINDS: dict[str, Any] = {"redis": redis.asyncio.sentinel.Sentinel, "valkey": valkey.asyncio.sentinel.Sentinel}


@pytest.fixture
def watched() -> Iterator[Watched]:
    """Start a master, its replica, and three Sentinels."""
    with Watched() as made:
        yield made


@asynccontextmanager
async def driver_on(watched: Watched, library: str) -> AsyncGenerator[RedisDriver]:
    """Open a driver with the client that a user's Sentinel makes for the master."""
    sentinel = KINDS[library](watched.addresses, socket_timeout=1)
    client = sentinel.master_for(MASTER, socket_timeout=2)
    driver = RedisDriver(client)
    await driver.open()
    yield driver
    await assert_consistent(driver)
    host, port = await sentinel.discover_master(MASTER)
    await asyncio.to_thread(inspect_all, f"redis://{host}:{port}")
    await driver.close()
    await client.aclose()
    for one in sentinel.sentinels:
        await one.aclose()


@pytest.mark.faults
@pytest.mark.parametrize("library", KINDS)
async def test_a_planned_failover_loses_no_jobs(watched: Watched, library: str) -> None:
    """Waits and commands follow to the new master, and the old one gets no more writes."""
    async with driver_on(watched, library) as driver:
        work = Work(driver)
        async with running(Runner(work.jobs, lease="2s")):
            (before,) = await work.add(1)
            await work.until(before, "completed")
            assert Rival(driver).step_from_a_thread().reserved == ()
            watched.sentinels[0].call("SENTINEL FAILOVER", MASTER)
            await until(lambda: role(watched.replica) == "master")
            await until(lambda: role(watched.master) == "slave" and has_synced(watched.master))
            after = await enqueue_until_accepted(work)
            await work.until(after, "completed")
            assert await work.states([before, after]) == ["completed"] * 2


@pytest.mark.faults
@pytest.mark.parametrize("library", KINDS)
async def test_callers_that_wait_for_jobs_follow_to_the_new_master(watched: Watched, library: str) -> None:
    """None waits for ever, also for a job that ended while its caller was not connected."""
    async with driver_on(watched, library) as driver:
        work = Work(driver)
        ids = await work.add(*range(100))
        waiting = [asyncio.create_task(work.jobs.act.result(one)) for one in ids]
        await asyncio.sleep(0.5)
        assert watched.master.call("WAIT", 1, 5000) == 1
        watched.sentinels[0].call("SENTINEL FAILOVER", MASTER)
        await until(lambda: role(watched.replica) == "master")
        async with running(Runner(work.jobs, lease="2s")):
            await asyncio.wait_for(asyncio.gather(*waiting), 60)
            assert await work.states(ids) == ["completed"] * 100


async def test_a_killed_master_is_replaced_under_a_running_runner(watched: Watched) -> None:
    """The jobs go on at the new master, with the one in flight, without a restart of the runner."""
    async with driver_on(watched, "redis") as driver:
        work = Work(driver)
        begun, may_end = asyncio.Event(), asyncio.Event()

        async def act(number: int) -> object:
            if number == 1:
                begun.set()
                await may_end.wait()
            return number

        work.deeds.act = act
        async with running(Runner(work.jobs, lease="10s")):
            (held,) = await work.add(1)
            await begun.wait()
            assert Rival(driver).step_from_a_thread().reserved == ()
            assert watched.master.call("WAIT", 1, 5000) == 1
            watched.master.kill()
            await until(lambda: role(watched.replica) == "master")
            after = await enqueue_until_accepted(work)
            may_end.set()
            for one in (held, after):
                await work.until(one, "completed")
            assert (await work.job(held)).recoveries == 0


@pytest.mark.faults
async def test_a_runner_leaves_a_frozen_master(watched: Watched) -> None:
    """A frozen master closes no connections. Jobs go on at the new master, also after the old one is back."""
    async with driver_on(watched, "redis") as driver:
        work = Work(driver)
        async with running(Runner(work.jobs, lease="2s")):
            (before,) = await work.add(1)
            await work.until(before, "completed")
            watched.master.freeze()
            await until(lambda: role(watched.replica) == "master")
            after = await enqueue_until_accepted(work)
            await work.until(after, "completed")
            watched.master.thaw()
            await until(lambda: role(watched.master) == "slave" and has_synced(watched.master))
            (last,) = await work.add(3)
            await work.until(last, "completed")
            assert await work.states([before, after, last]) == ["completed"] * 3


async def test_the_client_of_a_replica_is_refused() -> None:
    """The constructor refuses it without a request: a replica lags behind and accepts no writes."""
    client = KINDS["redis"]([("127.0.0.1", 1)]).slave_for(MASTER)
    with pytest.raises(DefinitionError, match="master_for"):
        RedisDriver(client)


def role(node: Node) -> str:
    """Return "master" or "slave" as the server reports it."""
    try:
        return str(node.call("INFO", "replication")["role"])
    except redis.ConnectionError:  # a server that becomes another's replica drops its clients
        return "unknown"
