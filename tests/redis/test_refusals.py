"""Calls that a server refuses for a while: typed errors, no partial writes, and work goes on afterwards."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import redis

from flowli_core import Runner, StoreUnavailable, job
from flowli_core.driver import Retried
from flowli_core.drivers.redis import RedisDriver
from tests.conformance.builders import DONE, LEASE, Worker, ack, assert_consistent, lease_of, record
from tests.redis.clients import OwningDriver, client_of
from tests.redis.proxy import Proxy
from tests.redis.server import Server, connect
from tests.support.running import Duties, Work, running, until
from tests.support.store import cancel_one, find

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from tests.redis.clients import Library


@asynccontextmanager
async def store(server: Server) -> AsyncGenerator[tuple[RedisDriver, Any]]:
    """Open a driver on a server of the test, and a client of the administrator."""
    driver, admin = RedisDriver.from_url(server.url), connect(server.url)
    await driver.open()
    yield driver, admin
    await assert_consistent(driver)
    await driver.close()
    admin.close()


async def test_a_full_server_refuses_only_new_records(server: Server) -> None:
    """Without memory enqueue stores nothing. Stored records are still reserved, renewed, settled and recovered."""
    async with store(server) as (driver, admin):
        worker = Worker(driver)
        await driver.enqueue([record(name) for name in "abcdw"])
        done, again, abandoned, _ = await worker.take(4)
        admin.config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailable, match="out of memory") as caught:
            await driver.enqueue([record("e", key="k"), record("f", queue="another")])
        assert caught.value.ids == ("e", "f")
        assert (await worker.take_one()).id == "w"
        assert (await driver.heartbeat("w", [lease_of(abandoned)], timedelta(milliseconds=1))).lost == frozenset()
        answer = await worker.step(ack(done), ack(again, Retried(LEASE, b"{}")))
        assert answer.acks == ("ok", "ok")
        recovered = {one.id for one in answer.recovered}
        while not recovered:
            recovered = {one.id for one in (await worker.step()).recovered}
        assert recovered == {abandoned.id}
        held = await worker.take_one()
        assert await cancel_one(driver, held.id) == "requested"
        assert (await driver.heartbeat("w", [lease_of(held)], LEASE)).cancelled == {held.id}
        assert (await Worker(driver, "idle").step()).reserved == ()
        admin.config_set("maxmemory", 0)
        assert await find(driver, "e") is None
        assert set((await driver.overview()).counts.by_queue) == {"q"}
        assert [one.disposition for one in await driver.enqueue([record("e", key="k")])] == ["accepted"]


async def test_a_full_server_replaces_no_record(server: Server) -> None:
    """The record that holds the key stays as it is, and the other records of the call are not stored."""
    async with store(server) as (driver, admin):
        await driver.enqueue([record("a", key="k", due=LEASE)])
        before = await find(driver, "a")
        replacing = dataclasses.replace(record("b", key="k", queue="p"), on_conflict="replace")
        admin.config_set("maxmemory", 1)
        for records in ([replacing], [replacing, record("c")], [record("c"), replacing]):
            with pytest.raises(StoreUnavailable, match="out of memory"):
                await driver.enqueue(records)
        admin.config_set("maxmemory", 0)
        assert await find(driver, "a") == before
        assert await find(driver, "c") is None
        assert await driver.fsck() == ()
        assert [one.disposition for one in await driver.enqueue([replacing])] == ["replaced"]


@job()
async def nightly() -> None:
    """Be declared with a schedule."""


class NightlyJobs(Duties):
    nightly = nightly
    schedules = (nightly.scheduled("nightly", cron="0 3 * * *"),)


async def test_a_runner_starts_and_works_on_a_full_server(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """It stores its schedule as soon as there is memory, and logs once that it cannot."""
    async with store(server) as (driver, admin):
        work = Work(driver)
        first, second = await work.add(1, 2)
        admin.config_set("maxmemory", 1)
        admin.script_flush()
        jobs = NightlyJobs(context=work.deeds, driver=RedisDriver.from_url(server.url))
        async with jobs, running(Runner(jobs)):
            for record_id in (first, second):
                await work.until(record_id, "completed")
            assert await jobs.inspect.get_schedule("nightly") is None
            admin.config_set("maxmemory", 0)

            async def is_stored() -> bool:
                return await jobs.inspect.get_schedule("nightly") is not None

            await until(is_stored)
    warnings = [line.getMessage() for line in caplog.records if line.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "out of memory" in warnings[0]


async def test_scripts_are_loaded_again_after_a_script_flush(server: Server) -> None:
    """SCRIPT FLUSH between any two calls has no effect."""
    async with store(server) as (driver, admin):
        worker = Worker(driver)
        for number in range(20):
            admin.script_flush()
            await driver.enqueue([record(f"r{number}")])
            admin.script_flush()
            held = await worker.take_one()
            admin.script_flush()
            assert await worker.settle(held) == "ok"
        admin.script_flush()
        assert (await driver.overview()).counts.completed == 20


@pytest.mark.parametrize(
    ("setting", "word"), [(("replicaof", "127.0.0.1", "1"), "READONLY"), (("min-replicas-to-write", "1"), "NOREPLICAS")]
)
async def test_a_server_that_refuses_writes_raises_store_unavailable(
    server: Server, setting: tuple[str, ...], word: str
) -> None:
    """On a replica, and a master without enough replicas, the same call succeeds once the server accepts writes."""
    async with store(server) as (driver, admin):
        worker = Worker(driver)
        await driver.enqueue([record("a")])
        held = await worker.take_one()
        if word == "READONLY":
            admin.replicaof("127.0.0.1", 1)
        else:
            admin.config_set(*setting)
        for call in (driver.enqueue([record("b")]), worker.step(ack(held)), cancel_one(driver, "a")):
            with pytest.raises(StoreUnavailable, match=word):
                await call
        if word == "READONLY":
            admin.replicaof("NO", "ONE")
        else:
            admin.config_set("min-replicas-to-write", 0)
        assert (await worker.step(ack(held, DONE))).acks == ("ok",)
        assert [one.disposition for one in await driver.enqueue([record("b")])] == ["accepted"]


async def started(driver: RedisDriver) -> Any:
    """Store a record, and reserve it."""
    await driver.enqueue([record("a")])
    return await Worker(driver).take_one()


async def test_a_server_busy_with_another_script_raises_store_unavailable(server: Server) -> None:
    """The same call succeeds once the endless script of another program was killed."""
    async with store(server) as (driver, admin):
        admin.config_set("lua-time-limit", 1)
        other = threading.Thread(target=_run_for_ever, args=(server.url,))
        other.start()
        await until(lambda: _is_busy(admin))
        with pytest.raises(StoreUnavailable, match="BUSY"):
            await driver.enqueue([record("a")])
        admin.script_kill()
        await asyncio.to_thread(other.join)
        assert [one.disposition for one in await driver.enqueue([record("a")])] == ["accepted"]


async def test_a_server_that_cannot_save_raises_store_unavailable(server: Server) -> None:
    """MISCONF, as when the disk is full: nothing is written, and the same call succeeds once it can save."""
    async with store(server) as (driver, admin):
        in_the_way = server.folder / "dump.rdb"
        in_the_way.mkdir()
        admin.config_set("save", "900 1")
        admin.bgsave()
        await until(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err")
        with pytest.raises(StoreUnavailable, match="MISCONF") as caught:
            await driver.enqueue([record("a")])
        assert caught.value.ids == ("a",)
        in_the_way.rmdir()
        admin.bgsave()
        await until(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "ok")
        assert [one.disposition for one in await driver.enqueue([record("a")])] == ["accepted"]


async def test_a_server_that_loads_its_data_raises_store_unavailable() -> None:
    """LOADING, after a crash: the records are there when it has loaded, and the same call succeeds."""
    # While it loads, Redis 6.2 answers once every 2 MiB.
    slowly = ("--key-load-delay", "40000", "--rdbcompression", "no")
    with Server(*slowly) as one:
        async with store(one) as (driver, admin):
            await driver.enqueue([record("a")])
            for number in range(100):
                admin.set(f"another:{number}", "x" * 2**19)
            admin.save()
            one.kill()
            restart = asyncio.create_task(asyncio.to_thread(one.start))
            await until(lambda: _fails_with(driver, "LOADING"))
            assert not restart.done()
            await restart
            answers = await driver.enqueue([record("a"), record("b")])
            assert [answer.disposition for answer in answers] == ["duplicate", "accepted"]
            admin.delete(*(f"another:{number}" for number in range(100)))


async def _fails_with(driver: RedisDriver, word: str) -> bool:
    try:
        await driver.enqueue([record("b")])
    except StoreUnavailable as error:
        assert error.ids == ("b",)  # noqa: PT017 - it raises at times
        return word in str(error)
    return False


@pytest.mark.parametrize("library", ["redis", "valkey", "coredis"])
@pytest.mark.parametrize(
    "refusal",
    [
        "OOM command not allowed when used memory > 'maxmemory'.",
        "OOM command not allowed when used memory > 'maxmemory'. script: 3d, on @user_script:1.",
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
        "NOREPLICAS Not enough good replicas to write.",
        "READONLY You can't write against a read only replica.",
        "LOADING Redis is loading the dataset in memory",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        "CLUSTERDOWN The cluster is down",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
        "ERR max number of clients reached",
        "ERR Error running script (call to f_3d): @user_script:1: -OOM command not allowed when used memory",
    ],
)
async def test_a_refusal_that_ends_by_itself_raises_store_unavailable(
    server: Server, tmp_path: Path, library: Library, refusal: str
) -> None:
    """With every library: the call may be repeated, and succeeds once the server accepts it."""
    replies: list[bytes] = []
    async with Proxy(server.socket, tmp_path, rewrite=lambda data: replies[0] if replies else data) as proxy:
        driver = OwningDriver(client_of(library, proxy.url), prefix="app")
        await driver.open()
        replies.append(f"-{refusal}\r\n".encode())
        with pytest.raises(StoreUnavailable) as caught:
            await driver.enqueue([record("a")])
        assert caught.value.ids == ("a",)
        replies.clear()
        assert [one.disposition for one in await driver.enqueue([record("a")])] == ["accepted"]
        await driver.close()


async def test_a_runner_goes_on_after_flushall(server: Server) -> None:
    """The old jobs are lost, and new jobs run."""
    async with store(server) as (driver, admin):
        work = Work(driver)
        async with running(Runner(work.jobs)):
            (first,) = await work.add(1)
            await work.until(first, "completed")
            admin.flushall()
            (second,) = await work.add(2)
            await work.until(second, "completed")
            assert await work.jobs.inspect.get_job(first) is None


def _run_for_ever(url: str) -> None:
    client = connect(url)
    with pytest.raises(redis.ResponseError):
        client.eval("while true do end", 0)
    client.close()


def _is_busy(admin: Any) -> bool:
    try:
        admin.ping()
    except redis.ResponseError:
        return True
    return False
