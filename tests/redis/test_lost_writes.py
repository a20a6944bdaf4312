"""Servers that come back without their last writes, as from a snapshot or in a failover to a replica that is behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from flowli_core.driver import Released
from flowli_core.drivers.redis import RedisDriver
from flowli_core.stored import StoredSchedule
from flowli_core.testing import ManualClock
from tests.conformance.builders import DONE, LEASE, Worker, ack, lease_of, record, stored
from tests.redis.server import Server, connect
from tests.redis.topologies import Node, has_synced
from tests.support.running import until
from tests.support.store import find_schedule, put


@pytest.fixture
def server() -> Generator[Server]:
    """Start a server that only this test uses, and that saves its data when it is asked to."""
    with Server("--dbfilename", "dump.rdb") as own:
        yield own


@contextmanager
def losing_writes(server: Server) -> Generator[Callable[[], None]]:
    """Save the data, and yield a function that kills the server and starts it from what was saved."""
    admin: Any = connect(server.url)
    admin.save()
    admin.close()

    def lose() -> None:
        server.kill()
        server.start()

    yield lose


async def test_a_token_that_was_lost_with_the_last_writes_is_not_used_again(server: Server) -> None:
    """A worker from before the loss cannot settle, release or keep a job that another worker runs now."""
    driver = RedisDriver.from_url(server.url)
    await driver.open()
    await driver.enqueue([record(name) for name in "abc"])
    early = Worker(driver, "early")
    assert await early.settle(await early.take_one()) == "ok"
    assert await early.settle(await early.take_one()) == "ok"
    with losing_writes(server) as lose:
        a = await Worker(driver, "A").take_one()
        await asyncio.to_thread(lose)
    worker_b = Worker(driver, "B")
    b = await worker_b.take_one()
    assert (a.id, b.id) == ("c", "c")
    assert b.token > a.token
    assert (await Worker(driver, "A").step(ack(a, Released()))).acks == ("lost",)
    assert await Worker(driver, "C").take() == ()
    assert await worker_b.settle(b, DONE) == "ok"
    assert (await stored(driver, "c")).worker == "B"
    assert await driver.fsck() == ()
    await driver.close()


async def test_a_token_that_was_lost_while_the_clock_was_set_back_is_not_used_again(server: Server) -> None:
    """The store knows neither the token nor its time. A token that it issues now is still greater."""
    clock = ManualClock()
    driver = RedisDriver.from_url(server.url, clock=clock)
    await driver.open()
    await driver.enqueue([record("a"), record("b")])
    early = Worker(driver, "early")
    assert await early.settle(await early.take_one()) == "ok"
    with losing_writes(server) as lose:
        clock.advance("1s")
        a = await Worker(driver, "A").take_one()
        await asyncio.to_thread(lose)
    clock.back(timedelta(hours=1))
    worker_b = Worker(driver, "B")
    b = await worker_b.take_one()
    assert (a.id, b.id) == ("b", "b")
    assert b.token > a.token
    assert (await Worker(driver, "A").step(ack(a, Released()))).acks == ("lost",)
    assert await worker_b.settle(b, DONE) == "ok"
    assert await driver.fsck() == ()
    await driver.close()


async def test_a_token_that_was_issued_twice_proves_the_lease_of_its_last_worker_only(server: Server) -> None:
    """The store comes back twice from one snapshot with a clock that is behind, and issues the same number twice."""
    clock = ManualClock()
    driver = RedisDriver.from_url(server.url, clock=clock)
    await driver.open()
    await driver.enqueue([record("a")])
    await Worker(driver, "early").step()
    clock.back(timedelta(hours=1))
    with losing_writes(server) as lose:
        a = await Worker(driver, "A").take_one()
        await asyncio.to_thread(lose)
    worker_b = Worker(driver, "B")
    b = await worker_b.take_one()
    assert (b.id, b.token) == (a.id, a.token)
    worker_a = Worker(driver, "A")
    assert (await worker_a.step(ack(a, Released()))).acks == ("lost",)
    assert (await driver.heartbeat("A", [lease_of(a)], LEASE)).lost == {"a"}
    assert await Worker(driver, "C").take() == ()
    assert await worker_b.settle(b) == "ok"
    await driver.close()


async def test_a_revision_that_was_lost_with_the_last_writes_is_not_used_again(server: Server) -> None:
    """A change that was decided before the loss does not overwrite one that was stored after it."""
    driver = RedisDriver.from_url(server.url)
    await driver.open()
    given = StoredSchedule(key="digest", queue="q", spec=b"{}", next_tick=None)
    with losing_writes(server) as lose:
        assert await put(driver, given)
        before = await find_schedule(driver, "digest")
        assert before is not None
        await asyncio.to_thread(lose)
    assert await put(driver, given)
    assert not await put(driver, before)
    await driver.close()


async def test_a_replica_that_is_promoted_behind_its_master_uses_no_token_of_it_again() -> None:
    """The old master still gives a job to a worker that has not noticed. The new one gives it to another."""
    with Node() as old, Node() as new:
        early, late = RedisDriver.from_url(old.url), RedisDriver.from_url(new.url)
        await early.open()
        await early.enqueue([record("a"), record("b")])
        first = Worker(early, "first")
        assert await first.settle(await first.take_one()) == "ok"
        new.call("REPLICAOF", "127.0.0.1", old.port)
        await until(lambda: has_synced(new))
        new.call("REPLICAOF", "NO", "ONE")
        a = await Worker(early, "A").take_one()
        await late.open()
        b = await Worker(late, "B").take_one()
        assert (a.id, b.id) == ("b", "b")
        assert b.token != a.token
        assert (await Worker(late, "A").step(ack(a, Released()))).acks == ("lost",)
        assert (await late.heartbeat("A", [lease_of(a)], LEASE)).lost == {"b"}
        await early.close()
        await late.close()
