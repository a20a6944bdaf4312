"""Broken connections: no call is executed twice, none is lost, and no job waits for the end of a lease."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from flowli_core import Defaults, Runner, StoreUnavailable
from flowli_core.drivers.redis import RedisDriver
from flowli_core.drivers.redis._clients._limits import RETRIES
from flowli_core.drivers.redis._scripts import Script
from flowli_core.limits import Keep
from flowli_core.testing import drain
from tests.conformance.builders import Worker, ack, assert_consistent, ids, record
from tests.redis.proxy import FaultKind, Proxy
from tests.support.running import Deeds, Duties, Work, running, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from tests.redis.server import Server

ENQUEUE, STEP, HEARTBEAT = (Script(name).digest.encode() for name in ("enqueue", "step", "heartbeat"))
BREAKS: tuple[FaultKind, ...] = ("drop", "lose")


@asynccontextmanager
async def behind_a_proxy(server: Server, folder: Path) -> AsyncGenerator[tuple[RedisDriver, Proxy]]:
    """Open a driver whose connections can be broken."""
    async with Proxy(server.socket, folder) as proxy:
        driver = RedisDriver.from_url(proxy.url)
        await driver.open()
        await driver.enqueue([record("warm up", queue="another")])
        await Worker(driver).step()
        try:
            yield driver, proxy
            await driver.open()  # a runner may have closed it
            await assert_consistent(driver)
        finally:
            await driver.close()


def pop_of(queue: str) -> bytes:
    """Return the bytes of a wait for a queue; `open` sends the same command with another key."""
    key = f"{{flowli}}:1:wake:{queue}"
    return f"BZPOPMIN\r\n${len(key)}\r\n{key}\r\n".encode()


def bare(driver: RedisDriver) -> Duties:
    """A registry on a driver with nothing around it, so that its runner steps as it waits, and closes it in the end."""
    return Duties(context=Deeds, driver=driver)


@pytest.mark.parametrize("kind", BREAKS)
async def test_an_enqueue_whose_connection_breaks_adds_one_record(
    server: Server, tmp_path: Path, kind: FaultKind
) -> None:
    """The call is sent again, whether the request or the reply was lost, and the record is stored once."""
    async with behind_a_proxy(server, tmp_path) as (driver, proxy):
        proxy.fault(kind, ENQUEUE)
        (answer,) = await driver.enqueue([record("a", key="k")])
        assert answer.id == "a"
        assert proxy.seen[kind] == 1
        assert (await driver.overview()).counts.by_queue["q"].queued == 1


async def test_an_enqueue_that_seemed_to_fail_runs_once_when_it_is_repeated_under_its_id(
    server: Server, tmp_path: Path
) -> None:
    """It was stored, and has run. Its record was removed meanwhile, because only the last one is kept."""
    async with behind_a_proxy(server, tmp_path) as (driver, proxy):
        work = Work(driver)
        ran: list[int] = []

        async def act(number: int) -> None:
            ran.append(number)

        work.deeds.act = act
        jobs = Duties(context=work.deeds, driver=driver, defaults=Defaults(keep=Keep(completed=1)))
        proxy.fault("lose", ENQUEUE, times=RETRIES + 1)
        with pytest.raises(StoreUnavailable) as failed:
            await jobs.act.options(id="order-1").enqueue(1)
        assert failed.value.ids == ("order-1",)
        await drain(jobs)
        await jobs.act.enqueue(2)
        await drain(jobs)
        assert await jobs.act.get("order-1") is None
        assert (await jobs.act.options(id="order-1").enqueue(1)).disposition == "duplicate"
        await drain(jobs)
        assert ran == [1, 2]


@pytest.mark.parametrize("kind", BREAKS)
async def test_a_step_whose_connection_breaks_returns_its_batch(
    server: Server, tmp_path: Path, kind: FaultKind
) -> None:
    """The batch of a lost reply is returned again at once, with the same token."""
    async with behind_a_proxy(server, tmp_path) as (driver, proxy):
        worker = Worker(driver, "v")
        await driver.enqueue([record(name) for name in "abc"])
        proxy.fault(kind, STEP)
        batch = await worker.take(3)
        assert ids(batch) == ["a", "b", "c"]
        assert {one.token for one in batch} == {batch[0].token}
        assert proxy.seen[kind] == 1
        assert (await worker.step(*[ack(one) for one in batch])).acks == ("ok", "ok", "ok")


@pytest.mark.parametrize("kind", BREAKS)
async def test_an_ack_whose_connection_breaks_settles_once(server: Server, tmp_path: Path, kind: FaultKind) -> None:
    """The record is settled once, and the ack is answered ok."""
    async with behind_a_proxy(server, tmp_path) as (driver, proxy):
        worker = Worker(driver, "v")
        await driver.enqueue([record("a")])
        held = await worker.take_one()
        proxy.fault(kind, STEP)
        assert await worker.settle(held) == "ok"
        assert proxy.seen[kind] == 1
        assert (await driver.overview()).counts.completed == 1


async def test_a_late_copy_of_an_old_step_does_nothing(server: Server, tmp_path: Path) -> None:
    """A step that arrives after a newer one settles and reserves nothing."""
    async with behind_a_proxy(server, tmp_path) as (driver, _):
        worker = Worker(driver, "v")
        await driver.enqueue([record("a"), record("b")])
        held = await worker.take_one()
        late = worker.last
        await worker.settle(held)
        assert (await driver.step(late)).reserved == ()
        assert (await driver.overview()).counts.by_queue["q"].queued == 1


@pytest.mark.parametrize("is_bare", [False, True], ids=["wait", "wait_and_step"])
async def test_a_runner_replaces_a_dead_blocking_connection(server: Server, tmp_path: Path, *, is_bare: bool) -> None:
    """A half-open blocking connection is closed, and the runner goes on with new jobs."""
    async with behind_a_proxy(server, tmp_path) as (driver, proxy):
        work = Work(driver)
        proxy.fault("swallow", pop_of("default"))
        async with running(Runner(bare(driver) if is_bare else work.jobs, lease="1h")):
            await until(lambda: proxy.seen["swallow"] == 1)
            (record_id,) = await work.add(1)
            done = await work.until(record_id, "completed")
            assert (done.attempts_made, done.recoveries) == (1, 0)
            await assert_consistent(driver)


async def test_a_runner_gets_the_batch_of_a_lost_wake_up(server: Server, tmp_path: Path) -> None:
    """It does not wait for the end of the lease, which is an hour here."""
    async with behind_a_proxy(server, tmp_path) as (driver, proxy):
        work = Work(driver)
        proxy.fault("lose", pop_of("default"))
        async with running(Runner(bare(driver), lease="1h")):
            await until(lambda: proxy.seen["lose"] == 1)
            for record_id in await work.add(1, 2, 3):
                done = await work.until(record_id, "completed")
                assert (done.attempts_made, done.recoveries) == (1, 0)


async def test_a_dead_command_connection_is_replaced(server: Server, tmp_path: Path) -> None:
    """A step without a reply is sent again on another connection, and its batch is not lost."""
    async with behind_a_proxy(server, tmp_path) as (driver, proxy):
        work = Work(driver)
        (record_id,) = await work.add(1)
        proxy.fault("swallow", STEP)
        async with running(Runner(work.jobs)):
            record = await work.until(record_id, "completed")
        assert proxy.seen["swallow"] == 1
        assert (record.attempts_made, record.recoveries) == (1, 0)


async def test_heartbeats_go_on_when_their_connection_breaks(server: Server, tmp_path: Path) -> None:
    """A heartbeat whose connection is reset is sent again, and no lease is lost."""
    async with behind_a_proxy(server, tmp_path) as (driver, proxy):
        work = Work(driver)
        proxy.fault("drop", HEARTBEAT)

        async def until_two_heartbeats(_: int) -> None:
            await until(lambda: proxy.seen["drop"] == 1)

        work.deeds.act = until_two_heartbeats
        async with running(Runner(work.jobs, lease="1s")):
            (record_id,) = await work.add(1)
            record = await work.until(record_id, "completed")
        assert (record.attempts_made, record.recoveries) == (1, 0)
