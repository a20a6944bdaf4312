"""A master that Sentinels watch over: another takes its place, and the work goes on where it is."""

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
from tests.redis.topologies import MASTER, Node, Watched, added_in_the_end, is_in_step
from tests.support.running import Rival, Work, running, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

KINDS: dict[str, Any] = {"redis": redis.asyncio.sentinel.Sentinel, "valkey": valkey.asyncio.sentinel.Sentinel}


@pytest.fixture
def watched() -> Iterator[Watched]:
    """A master, a replica that has all it has, and three Sentinels that know both."""
    with Watched() as made:
        yield made


@asynccontextmanager
async def driver_on(watched: Watched, library: str) -> AsyncGenerator[RedisDriver]:
    """An open driver over what a user's Sentinel gives for the master."""
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
async def test_a_failover_that_is_asked_for_loses_nothing(watched: Watched, library: str) -> None:
    """An operator moves the master: waits and commands follow it, and the old master is not written to any more."""
    async with driver_on(watched, library) as driver:
        work = Work(driver)
        async with running(Runner(work.jobs, lease="2s")):
            (before,) = await work.add(1)
            await work.until(before, "completed")
            assert Rival(driver).step_from_a_thread().reserved == ()
            watched.sentinels[0].call("SENTINEL FAILOVER", MASTER)
            await until(lambda: role(watched.replica) == "master")
            await until(lambda: role(watched.master) == "slave" and is_in_step(watched.master))
            after = await added_in_the_end(work)
            await work.until(after, "completed")
            assert await work.states([before, after]) == ["completed"] * 2


async def test_a_killed_master_is_replaced_under_a_running_runner(watched: Watched) -> None:
    """What was replicated goes on at the new master, a job that was in flight included, without a restart."""
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
            after = await added_in_the_end(work)
            may_end.set()
            for one in (held, after):
                await work.until(one, "completed")
            assert (await work.job(held)).recoveries == 0


@pytest.mark.faults
async def test_a_master_that_is_cut_off_comes_back_as_a_replica(watched: Watched) -> None:
    """A frozen master answers nothing and closes nothing: it is given up, and what it wakes up with is not used."""
    async with driver_on(watched, "redis") as driver:
        work = Work(driver)
        async with running(Runner(work.jobs, lease="2s")):
            (before,) = await work.add(1)
            await work.until(before, "completed")
            watched.master.freeze()
            await until(lambda: role(watched.replica) == "master")
            after = await added_in_the_end(work)
            await work.until(after, "completed")
            watched.master.thaw()
            await until(lambda: role(watched.master) == "slave" and is_in_step(watched.master))
            (last,) = await work.add(3)
            await work.until(last, "completed")
            assert await work.states([before, after, last]) == ["completed"] * 3


async def test_the_client_of_a_replica_is_refused() -> None:
    """A replica is behind its master and takes no writes; no server is asked for that."""
    client = KINDS["redis"]([("127.0.0.1", 1)]).slave_for(MASTER)
    with pytest.raises(DefinitionError, match="master_for"):
        RedisDriver(client)


def role(node: Node) -> str:
    """What a server takes itself for."""
    try:
        return str(node.call("INFO", "replication")["role"])
    except redis.ConnectionError:  # a server that becomes another's replica drops its clients
        return "unknown"
