"""Servers that come back without their last writes, as from a snapshot or in a failover to a replica that is behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest

from flowli_core.driver import Released
from flowli_core.drivers.redis import RedisDriver
from flowli_core.stored import StoredSchedule
from tests.conformance.builders import DONE, Worker, ack, record, stored
from tests.redis.server import Server, connect
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
