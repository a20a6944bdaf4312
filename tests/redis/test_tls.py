"""Connections over TLS, with each client library."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import coredis
import pytest
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode as RedisNode
from redis.asyncio.sentinel import Sentinel as RedisSentinel
from valkey.asyncio import Valkey, ValkeyCluster
from valkey.asyncio.cluster import ClusterNode as ValkeyNode
from valkey.asyncio.sentinel import Sentinel as ValkeySentinel

from flowli_core import Runner, StoreUnavailable
from flowli_core.drivers.redis import RedisDriver
from tests.redis.clients import OwningDriver
from tests.redis.server import Server
from tests.support.running import Work, running

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

CERTIFICATE = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a self-signed certificate for this machine, with its key beside it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl here")
    folder = tmp_path_factory.mktemp("tls")
    files = ("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"))
    names = ("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    subprocess.run((openssl, *CERTIFICATE, *files, *names), check=True, capture_output=True)
    return folder / "cert.pem"


@pytest.fixture(scope="module")
def foreign(authority: Path) -> Path:
    """Make a certificate for another host, signed by the authority that the clients trust."""
    folder = authority.parent
    request, signed = str(folder / "foreign.csr"), folder / "foreign.pem"
    made = ("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other.example", "-out", request)
    names = folder / "names"
    names.write_text("subjectAltName=DNS:other.example")
    by = ("-CA", str(authority), "-CAkey", str(folder / "key.pem"), "-CAcreateserial", "-extfile", str(names))
    sign = ("x509", "-req", "-in", request, *by, "-days", "2", "-out", str(signed))
    for command in ((*made, "-keyout", str(folder / "foreign-key.pem")), sign):
        subprocess.run((str(shutil.which("openssl")), *command), check=True, capture_output=True)
    return signed


@pytest.fixture
def port(authority: Path) -> Iterator[int]:
    """Start a server with a certificate for this machine, and return its port."""
    with served(authority, authority.with_name("key.pem")) as port:
        yield port


@pytest.fixture
def foreign_port(foreign: Path) -> Iterator[int]:
    """Start a server with a certificate for another host, and return its port."""
    with served(foreign, foreign.with_name("foreign-key.pem")) as port:
        yield port


@contextlib.contextmanager
def served(certificate: Path, key: Path) -> Generator[int]:
    """Offer a server over TLS on a port of this machine: not every redis-server is built with TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with Server() as server, TlsFront(server, context) as front:
        yield front.port


class TlsFront:
    """A TLS endpoint in a thread, which forwards the decrypted bytes to a server."""

    def __init__(self, server: Server, context: ssl.SSLContext) -> None:
        self._server = server
        self._context = context
        self._ready, self._stop = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._loop: asyncio.AbstractEventLoop | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self) -> None:
        listening = await asyncio.start_server(self._forward, "localhost", 0, ssl=self._context, family=socket.AF_INET)
        self.port = listening.sockets[0].getsockname()[1]
        self._loop = asyncio.get_running_loop()
        self._ready.set()
        await self._stop.wait()
        listening.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_server = await asyncio.open_unix_connection(self._server.socket)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(_copy(reader, to_server[1]), _copy(to_server[0], writer))
        for one in (writer, to_server[1]):
            one.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(2**16):
        target.write(data)
        await target.drain()
    target.close()


def client_of(library: str, port: int, authority: Path | None, **checks: Any) -> Any:
    """Make a client that trusts the certificates of an authority."""
    options: Any = {"port": port, "ssl": True, "ssl_ca_certs": None if authority is None else str(authority), **checks}
    if library == "redis":
        return Redis(host="localhost", **options)
    if library == "valkey":
        return Valkey(host="localhost", **options)
    return coredis.Redis(host="localhost", **options)


@pytest.mark.parametrize("library", ["redis", "valkey", "coredis"])
async def test_all_connections_are_encrypted(port: int, authority: Path, library: str) -> None:
    """Those of the user's client, of waits, and of the thread that renews leases."""
    driver = OwningDriver(client_of(library, port, authority), prefix="app")
    assert f"rediss://localhost:{port}" in repr(driver)
    await driver.open()
    work = Work(driver)

    async def block(number: int) -> object:
        if number:
            time.sleep(1.5)  # noqa: ASYNC251 - so that only the thread can renew
        return number

    work.deeds.act = block
    async with running(Runner(work.jobs, lease="1s")):
        (first,) = await work.add(0)
        await work.until(first, "completed")
        (second,) = await work.add(1)
        done = await work.until(second, "completed")
    assert (done.recoveries, done.attempts_made) == (0, 1)
    assert work.driver.calls["heartbeat"] > 0
    await driver.close()


async def test_an_untrusted_certificate_raises_store_unavailable(port: int) -> None:
    """The message names the reason. The call may be repeated, as certificates are replaced at times."""
    with pytest.raises(StoreUnavailable, match="certificate verify failed"):
        await RedisDriver.from_url(f"rediss://localhost:{port}").open()


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
async def test_a_certificate_for_another_host_is_refused(foreign_port: int, authority: Path, scheme: str) -> None:
    """Also if a trusted authority signed it. An option of the URL can turn the check off, which is logged."""
    url = f"{scheme}://127.0.0.1:{foreign_port}?ssl_ca_certs={authority}"
    with pytest.raises(StoreUnavailable, match=r"certificate|127\.0\.0\.1"):
        await RedisDriver.from_url(url).open()
    for unchecked in ("ssl_check_hostname=false", "ssl_cert_reqs=none"):
        driver = RedisDriver.from_url(f"{url}&{unchecked}")
        await driver.open()
        await driver.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # coredis leaves refused ones open
@pytest.mark.parametrize("library", ["redis", "valkey", "coredis"])
async def test_the_connections_of_the_driver_check_as_much_as_the_users_client(
    foreign_port: int, authority: Path, library: str
) -> None:
    """Those for waits and for the thread that renews leases are refused like the client's own."""
    checked = client_of(library, foreign_port, authority, ssl_check_hostname=True)
    driver: Any = OwningDriver(checked, prefix="app")
    with pytest.raises(StoreUnavailable):
        await driver.open()
    for client in (driver._source.commands(), driver._source.waits()):
        with pytest.raises(StoreUnavailable):
            await client.execute("TIME")
        await client.close()
    await driver.close()
    del driver, client, checked
    gc.collect()


@pytest.mark.parametrize("library", ["redis", "valkey", "coredis"])
@pytest.mark.parametrize("weak", ["ssl_check_hostname", "ssl_cert_reqs"])
def test_a_client_that_accepts_a_foreign_certificate_is_warned_about(
    library: str, weak: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The libraries do not all check the host name by default."""
    checks: dict[str, Any] = {"ssl_check_hostname": True, "ssl_cert_reqs": "required"}
    with caplog.at_level(logging.WARNING, "flowli"):
        RedisDriver(client_of(library, 1, None, **checks))
        assert not caplog.records
        checks |= {"ssl_check_hostname": False} | ({"ssl_cert_reqs": "none"} if weak == "ssl_cert_reqs" else {})
        RedisDriver(client_of(library, 1, None, **checks))
    assert weak in caplog.text


CHECKED: dict[str, Any] = {"ssl": True, "ssl_cert_reqs": "required", "ssl_check_hostname": True}


@pytest.mark.parametrize("library", ["redis", "valkey"])
@pytest.mark.parametrize(
    ("sentinels", "warning"),
    [
        (CHECKED, None),
        (
            CHECKED | {"ssl_check_hostname": False},
            "Sentinels is not safe.*ssl_check_hostname=True in the sentinel_",
        ),
        (CHECKED | {"ssl_check_hostname": False, "ssl_cert_reqs": "none"}, "Sentinels is not safe.*ssl_cert_reqs="),
        ({}, "Sentinels, which say where Redis is, are asked without TLS; set ssl=True in the sentinel_kwargs"),
    ],
    ids=["checked", "no host name", "no certificate", "no TLS"],
)
def test_sentinels_that_others_can_pose_as_are_warned_about(
    library: str, sentinels: dict[str, Any], warning: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """The connections to the Sentinels have options of their own. Those to the master check enough in each case."""
    kinds: dict[str, Any] = {"redis": RedisSentinel, "valkey": ValkeySentinel}
    client = kinds[library]([("a", 1), ("b", 1)], sentinel_kwargs=sentinels, **CHECKED).master_for("m")
    with caplog.at_level(logging.WARNING, "flowli"):
        RedisDriver(client)
    assert len(caplog.records) == (0 if warning is None else 1)
    assert re.search(warning or "", caplog.text)


@pytest.mark.parametrize("library", ["redis", "valkey"])
def test_a_cluster_client_that_accepts_a_foreign_certificate_is_warned_about(
    library: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Our connections to its nodes check as much as the user's client, whatever the options of its first nodes were."""
    cluster, node = {"redis": (RedisCluster, RedisNode), "valkey": (ValkeyCluster, ValkeyNode)}[library]
    make: Any = cluster
    make_node: Any = node
    with caplog.at_level(logging.WARNING, "flowli"):
        nodes = [make_node("a", 1, **CHECKED | {"ssl_check_hostname": False})]
        driver: Any = RedisDriver(make(startup_nodes=nodes, **CHECKED))
        assert not caplog.records
        ours = driver._source.commands()._client
        for one in (ours, *ours.nodes_manager.startup_nodes.values()):
            assert one.connection_kwargs["ssl_check_hostname"] is True
        RedisDriver(make(host="a", port=1, **CHECKED | {"ssl_check_hostname": False}))
    assert "ssl_check_hostname=True" in caplog.text


async def test_a_url_can_name_the_trusted_certificate(port: int, authority: Path) -> None:
    """The parameter is that of redis-py."""
    driver = RedisDriver.from_url(f"rediss://localhost:{port}?ssl_ca_certs={authority}")
    await driver.open()
    await driver.close()
