"""Opening a driver: errors name the cure, and never show a password."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
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
from tests.redis.server import Server, connect, documented_rights, permissions_for_fsck
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
    """Make a driver that logs in as a user with these permissions."""
    configure(server, "ACL", "SETUSER", "app", *rights)
    client = Redis(unix_socket_path=str(server.socket), username="app", password=password)
    driver = RedisDriver(client, prefix="app")
    yield driver
    await driver.close()
    await client.aclose()


def configure(server: Server, *words: str) -> None:
    """Send a command as administrator."""
    admin = connect(server.url)
    admin.execute_command(*words)
    admin.close()


@pytest.mark.parametrize(
    "url",
    [f"http://user:{SECRET}@localhost", f"redis://user:{SECRET}@localhost:99999", f"user:{SECRET}", ""],
)
def test_an_invalid_url_is_refused(url: str) -> None:
    """The message says how a URL must look, without repeating the URL."""
    with pytest.raises(DefinitionError, match=r"redis://|port") as caught:
        RedisDriver.from_url(url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("client", "word"),
    [
        (redis.Redis(), "asynchronous"),
        (valkey.Valkey(), "asynchronous"),
        (object(), "asynchronous client of redis, valkey, coredis"),
        ("redis://:hunter2@host", r"must be a client, got a str; a URL is given to RedisDriver.from_url\(...\)$"),
        (Redis(decode_responses=True), "decode_responses"),
        (valkey.asyncio.Valkey(decode_responses=True), "decode_responses"),
        (coredis.Redis(decode_responses=True), "decode_responses"),
        (RedisCluster(host="localhost", decode_responses=True), "decode_responses"),
        (coredis.RedisCluster("localhost", 6379), "of one server"),
    ],
)
def test_an_unsuitable_client_is_refused(client: Any, word: str) -> None:
    """A blocking client, one that decodes responses, or another object is refused by the constructor."""
    with pytest.raises(DefinitionError, match=word):
        RedisDriver(client)


async def test_a_server_without_a_command_is_refused(tmp_path: Path) -> None:
    """The message names the missing command and the servers that are supported, whatever the server calls itself."""
    for command in ("HINCRBY", "BZPOPMIN"):
        with Server("--rename-command", command, "") as lacking:
            with pytest.raises(DriverError, match=f"(?i){command}.*Flowli needs Redis 6.2") as caught:
                await opened(lacking.url)
            assert not isinstance(caught.value, StoreUnavailable)


async def test_a_server_that_is_too_old_is_refused(server: Server, tmp_path: Path) -> None:
    """The message names the version that the server reports."""
    version = server.call("INFO", "server")["redis_version"].encode()
    actual, old = b"redis_version:" + version, b"redis_version:5" + version[1:]
    async with Proxy(server.socket, tmp_path, rewrite=lambda data: data.replace(actual, old)) as proxy:
        with pytest.raises(DriverError, match=r"has version 5\.\d.*Redis 6\.2 or later"):
            await opened(proxy.url)


def test_only_the_library_of_the_given_client_is_imported() -> None:
    """Importing the driver imports no library, and the error for a missing one says what to install."""
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
def test_an_ambiguous_prefix_is_refused(prefix: str) -> None:
    """The prefix is used as a hash tag and in patterns, so their special characters are refused."""
    with pytest.raises(DefinitionError, match="prefix"):
        RedisDriver(Redis(), prefix=prefix)


async def test_an_unreachable_server_raises_store_unavailable(tmp_path: Path) -> None:
    """The server may start later, so the same call may be repeated."""
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await opened(f"unix://{tmp_path / 'none'}")


async def test_a_silent_server_is_named_without_its_password() -> None:
    """So a log line of a service with several servers says which of them hangs."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(StoreUnavailable) as caught:
            await opened(f"redis://app:{SECRET}@127.0.0.1:{port}/3", patience="100ms")
    assert str(caught.value) == f"Redis at redis://127.0.0.1:{port}/3 did not answer within 0.1 s"


async def test_a_wrong_password_is_reported_and_not_shown(server: Server) -> None:
    """The error names the credentials, and is not StoreUnavailable."""
    async with as_user(server, "on", f">{SECRET}", "+@all", "~*", password="another") as driver:  # noqa: S106 - wrong
        with pytest.raises(DriverError, match="password") as caught:
            await driver.open()
    assert "another" not in str(caught.value)
    assert not isinstance(caught.value, StoreUnavailable)


@pytest.mark.parametrize("library", ["redis", "valkey", "coredis"])
async def test_a_missing_password_is_reported(library: Library) -> None:
    """The error is not StoreUnavailable, for which a worker would retry for ever."""
    with Server("--requirepass", SECRET) as closed:
        driver = OwningDriver(client_of(library, closed.url), prefix="app")
        with pytest.raises(DriverError, match="needs a password") as caught:
            await driver.open()
        await driver.close()
    assert not isinstance(caught.value, StoreUnavailable)


@pytest.mark.parametrize("patience", ["99ms", "61s", "0s", 5])
def test_a_patience_out_of_bounds_is_refused(patience: Any) -> None:
    """The constructor and `from_url` check it."""
    with pytest.raises(DefinitionError, match="patience"):
        RedisDriver(Redis(), patience=patience)
    with pytest.raises(DefinitionError, match="patience"):
        RedisDriver.from_url("redis://localhost", patience=patience)


@pytest.mark.parametrize("library", ["redis", "valkey", "coredis", None])
async def test_a_hanging_server_is_abandoned_after_the_patience(server: Server, library: Library | None) -> None:
    """The error names the server and the time limit, for the user's client as for one of the driver."""
    driver = (
        RedisDriver.from_url(server.url, patience="150ms")
        if library is None
        else OwningDriver(client_of(library, server.url), prefix="app", patience="150ms")
    )
    await driver.open()
    server.signal(signal.SIGSTOP)
    try:
        async with asyncio.timeout(30):
            with pytest.raises(StoreUnavailable, match=rf"{server.socket}.* did not answer within 0\.15 s"):
                await driver.overview()
    finally:
        server.signal(signal.SIGCONT)
    await driver.overview()
    await driver.close()


async def test_a_server_that_may_evict_is_refused_unless_allowed(server: Server) -> None:
    """The message names the setting of the server."""
    configure(server, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    with pytest.raises(DriverError, match="maxmemory-policy is allkeys-lru"):
        await opened(server.url)
    await opened(server.url, allow_eviction=True)


@pytest.mark.parametrize(
    "command", ["evalsha", "script|load", "zadd", "hset", "hincrby", "bzpopmin", "del", "time", "zscore"]
)
async def test_a_missing_permission_is_named(server: Server, command: str) -> None:
    """The error names the command that the user may not call."""
    rights = [right for right in documented_rights() if right != f"+{command}"]
    async with as_user(server, *rights) as driver:
        with pytest.raises(DriverError, match=command.split("|", maxsplit=1)[0]) as caught:
            await driver.open()
    assert not isinstance(caught.value, StoreUnavailable)


async def test_the_documented_permissions_suffice(server: Server) -> None:
    """A user without other permissions enqueues, delays, runs, lists, cancels, requeues and purges jobs."""
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
        page = await work.jobs.inspect.find("completed")
        assert {one.id for one in page.items} == {now.id, later.id, far.id}
        await driver.purge("completed", older_than=timedelta(0), limit=10)
        assert (await driver.overview()).counts.active == 0


@pytest.mark.parametrize(("more", "verdict"), [((), "warning"), (permissions_for_fsck(), "ok")])
async def test_doctor_finds_nothing_bad_with_the_documented_permissions(
    server: Server, more: tuple[str, ...], verdict: str
) -> None:
    """Without the permissions for `fsck`, which are documented apart, it says that `fsck` was not done."""
    async with as_user(server, *documented_rights(), *more) as driver:
        await driver.open()
        work = Work(driver)
        async with running(Runner(work.jobs)):
            (done,) = await work.add(1)
            await work.until(done, "completed")
        checks = {one.name: one for one in await driver.diagnose()}
    assert "bad" not in {one.verdict for one in checks.values()}
    assert checks["fsck"].verdict == verdict
    assert more or "permission" in checks["fsck"].cure


async def test_doctor_calls_a_server_that_stores_nothing_bad(server: Server) -> None:
    """Without the permission to ask, it can only say that snapshots may be all there is."""
    found: list[tuple[str, str]] = []
    driver = RedisDriver.from_url(server.url, prefix="kept")
    await driver.open()
    for save, appends in (("", "no"), ("60 1", "no"), ("", "yes")):
        for option, value in (("save", save), ("appendonly", appends)):
            server.call("CONFIG", "SET", option, value)
        check = next(one for one in await driver.diagnose() if one.name == "persistence")
        found.append((check.verdict, check.value))
    await driver.close()
    assert found == [
        ("bad", "neither an append-only file nor snapshots"),
        ("warning", "no append-only file, only snapshots if configured"),
        ("ok", "append-only file"),
    ]


async def test_a_quick_diagnosis_reads_no_records_and_writes_nothing(server: Server) -> None:
    driver = RedisDriver.from_url(server.url, prefix="quick")
    await driver.open()
    written = server.call("INFO", "persistence")["rdb_changes_since_last_save"]
    names = {one.name for one in await driver.diagnose(quick=True)}
    await driver.close()
    assert {"persistence", "memory", "clock"} <= names
    assert not {"fsck", "ACL"} & names
    assert server.call("INFO", "persistence")["rdb_changes_since_last_save"] == written


async def test_doctor_says_that_other_applications_need_another_prefix(server: Server) -> None:
    for prefix, note in (("flowli", True), ("shop", False)):
        driver = RedisDriver.from_url(server.url, prefix=prefix)
        await driver.open()
        shown = next(one.value for one in await driver.diagnose() if one.name == "prefix")
        await driver.close()
        assert shown.startswith(prefix)
        assert ("needs another" in shown) == note


async def test_without_the_info_permission_it_opens_with_a_warning(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning says that version and eviction policy were not checked."""
    rights = [right for right in documented_rights() if right != "+info"]
    async with as_user(server, *rights) as driver:
        with caplog.at_level(logging.WARNING, "flowli"):
            await driver.open()
    assert "INFO" in caplog.text
