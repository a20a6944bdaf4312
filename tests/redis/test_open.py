"""Opening a driver: what cannot work is said at once, with the cure, and without the password."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import coredis
import pytest
import redis
import valkey
import valkey.asyncio
from redis.asyncio import Redis, RedisCluster

from flowli_core import DefinitionError, DriverError, Runner, StoreUnavailable
from flowli_core.drivers.redis import RedisDriver
from tests.redis.clients import OwningDriver, client_of
from tests.redis.proxy import Proxy
from tests.redis.server import Server, connect, documented_rights
from tests.support.running import Work, running

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from tests.redis.clients import Library

SECRET = "password"  # noqa: S105 - of a server that lives for one test


async def opened(url: str, **options: Any) -> RedisDriver:
    """Open a driver and close it again."""
    driver = RedisDriver.from_url(url, **options)
    await driver.open()
    await driver.close()
    return driver


@asynccontextmanager
async def as_user(server: Server, *rights: str, password: str = SECRET) -> AsyncGenerator[RedisDriver]:
    """A driver that logs in as a user with these rights."""
    configure(server, "ACL", "SETUSER", "app", *rights)
    client = Redis(unix_socket_path=str(server.socket), username="app", password=password)
    driver = RedisDriver(client, prefix="app")
    yield driver
    await driver.close()
    await client.aclose()


def configure(server: Server, *words: str) -> None:
    """Have the server's administrator send a command."""
    admin = connect(server.url)
    admin.execute_command(*words)
    admin.close()


@pytest.mark.parametrize(
    "url",
    [f"http://user:{SECRET}@localhost", f"redis://user:{SECRET}@localhost:99999", f"user:{SECRET}", ""],
)
def test_what_is_no_url_of_a_server_is_refused(url: str) -> None:
    """The message says what a URL looks like, and does not repeat it."""
    with pytest.raises(DefinitionError, match=r"redis://|port") as caught:
        RedisDriver.from_url(url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("client", "word"),
    [
        (redis.Redis(), "asynchronous"),
        (valkey.Valkey(), "asynchronous"),
        (object(), "asynchronous client of redis, valkey, coredis"),
        ("redis://localhost", "from_url"),
        (Redis(decode_responses=True), "decode_responses"),
        (valkey.asyncio.Valkey(decode_responses=True), "decode_responses"),
        (coredis.Redis(decode_responses=True), "decode_responses"),
        (RedisCluster(host="localhost", decode_responses=True), "decode_responses"),
        (coredis.RedisCluster("localhost", 6379), "of one server"),
    ],
)
def test_clients_that_cannot_serve_are_refused(client: Any, word: str) -> None:
    """A client that blocks, that makes text of payloads, or that is none, is refused where it is given."""
    with pytest.raises(DefinitionError, match=word):
        RedisDriver(client)


async def test_a_server_without_a_command_is_refused(tmp_path: Path) -> None:
    """Not by its name: whatever it calls itself, the message names what it lacks and what would do."""
    for command in ("HSETNX", "BZPOPMIN"):
        with Server("--rename-command", command, "") as lacking:
            with pytest.raises(DriverError, match=f"(?i){command}.*Flowli needs Redis 6.2") as caught:
                await opened(lacking.url)
            assert not isinstance(caught.value, StoreUnavailable)


async def test_a_server_that_is_too_old_is_refused(server: Server, tmp_path: Path) -> None:
    """The version is what the server says of itself."""
    version = server.call("INFO", "server")["redis_version"].encode()
    told, old = b"redis_version:" + version, b"redis_version:5" + version[1:]
    async with Proxy(server.socket, tmp_path, rewrite=lambda data: data.replace(told, old)) as proxy:
        with pytest.raises(DriverError, match=r"has version 5\.\d.*Redis 6\.2 or later"):
            await opened(proxy.url)


def test_the_driver_needs_no_library_but_the_one_whose_client_it_is_given() -> None:
    """Importing it imports none of them, and a URL of one that is not there names what to install."""
    program = """
import sys
from flowli_core.drivers.redis import RedisDriver
print(sorted({"redis", "valkey", "coredis"} & set(sys.modules)))
sys.modules["valkey"] = None
try:
    RedisDriver.from_url("valkey://localhost")
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "[]",
        "DefinitionError the package valkey is not installed: pip install flowli[valkey]",
    ]


@pytest.mark.parametrize("prefix", ["", "a{b}", "a b", "*"])
def test_prefixes_that_a_cluster_or_a_pattern_would_misread_are_refused(prefix: str) -> None:
    """All keys of a prefix share one hash tag, so it may not hold one."""
    with pytest.raises(DefinitionError, match="prefix"):
        RedisDriver(Redis(), prefix=prefix)


async def test_a_server_that_is_not_there_is_said_to_be_out_of_reach(tmp_path: Path) -> None:
    """It may come: the same call may be repeated."""
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await opened(f"unix://{tmp_path / 'none'}")


async def test_a_wrong_password_is_said_and_not_repeated(server: Server) -> None:
    """The cure is to look at the credentials."""
    async with as_user(server, "on", f">{SECRET}", "+@all", "~*", password="another") as driver:  # noqa: S106 - wrong
        with pytest.raises(DriverError, match="password") as caught:
            await driver.open()
    assert "another" not in str(caught.value)
    assert not isinstance(caught.value, StoreUnavailable)


@pytest.mark.parametrize("library", ["redis", "valkey", "coredis"])
async def test_a_missing_password_is_said_and_not_repeated(library: Library) -> None:
    """Nor is it taken for a server out of reach, which a worker would wait for without an end."""
    with Server("--requirepass", SECRET) as closed:
        driver = OwningDriver(client_of(library, closed.url), prefix="app")
        with pytest.raises(DriverError, match="password") as caught:
            await driver.open()
        await driver.close()
    assert not isinstance(caught.value, StoreUnavailable)


@pytest.mark.parametrize("patience", ["99ms", "61s", "0s", 5])
def test_a_patience_out_of_bounds_is_refused(patience: Any) -> None:
    """Both ways of making a driver check it."""
    with pytest.raises(DefinitionError, match="patience"):
        RedisDriver(Redis(), patience=patience)
    with pytest.raises(DefinitionError, match="patience"):
        RedisDriver.from_url("redis://localhost", patience=patience)


@pytest.mark.parametrize("library", ["redis", "valkey", "coredis", None])
async def test_a_server_that_hangs_costs_as_much_patience_as_was_given(server: Server, library: Library | None) -> None:
    """The error says how long that was; of the client's own connections as of the driver's."""
    driver = (
        RedisDriver.from_url(server.url, patience="150ms")
        if library is None
        else OwningDriver(client_of(library, server.url), prefix="app", patience="150ms")
    )
    await driver.open()
    server.signal(signal.SIGSTOP)
    try:
        async with asyncio.timeout(30):
            with pytest.raises(StoreUnavailable, match=r"0\.15 s"):
                await driver.counts()
    finally:
        server.signal(signal.SIGCONT)
    await driver.counts()
    await driver.close()


async def test_an_evicting_server_is_refused_unless_that_is_accepted(server: Server) -> None:
    """A server that throws keys away loses jobs; the message names the setting."""
    configure(server, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    with pytest.raises(DriverError, match="maxmemory-policy is allkeys-lru"):
        await opened(server.url)
    await opened(server.url, allow_eviction=True)


@pytest.mark.parametrize(
    "command", ["evalsha", "script|load", "zadd", "hset", "hincrby", "bzpopmin", "del", "time", "zscore"]
)
async def test_a_missing_right_is_named(server: Server, command: str) -> None:
    """A user who may not call one of the commands learns which."""
    rights = [right for right in documented_rights() if right != f"+{command}"]
    async with as_user(server, *rights) as driver:
        with pytest.raises(DriverError, match=command.split("|", maxsplit=1)[0]) as caught:
            await driver.open()
    assert not isinstance(caught.value, StoreUnavailable)


async def test_the_documented_rights_are_enough(server: Server) -> None:
    """Jobs are enqueued, delayed, run, listed, cancelled, requeued and purged by a user who may do nothing else."""
    async with as_user(server, *documented_rights()) as driver:
        await driver.open()
        work = Work(driver)
        async with running(Runner(work.jobs)):
            now = await work.jobs.act.options(key="k").enqueue(1)
            later = await work.jobs.act.delay("10ms", 2)
            for receipt in (now, later):
                await work.until(receipt.id, "completed")
            far = await work.jobs.act.delay("1h", 3)
            await work.jobs.control.cancel(far.id)
            await work.jobs.control.requeue(far.id)
            await work.until(far.id, "completed")
        page = await work.jobs.inspect.get_jobs_by_state("completed")
        assert {one.id for one in page.items} == {now.id, later.id, far.id}
        await driver.purge("completed", older_than=timedelta(0), limit=10)
        assert (await driver.counts()).active == 0


async def test_without_the_right_to_info_it_opens_with_a_warning(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be looked at is said to be unknown."""
    rights = [right for right in documented_rights() if right != "+info"]
    async with as_user(server, *rights) as driver:
        with caplog.at_level(logging.WARNING, "flowli"):
            await driver.open()
    assert "INFO" in caplog.text
