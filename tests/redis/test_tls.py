"""Connections over TLS, with each client library."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any

import coredis
import pytest
from redis.asyncio import Redis
from valkey.asyncio import Valkey

from flowli_core import Runner, StoreUnavailable
from flowli_core.drivers.redis import RedisDriver
from tests.redis.clients import OwningDriver
from tests.redis.server import Server
from tests.redis.topologies import free_port
from tests.support.running import Work, running

if TYPE_CHECKING:
    from collections.abc import Iterator
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


@pytest.fixture
def port(authority: Path) -> Iterator[int]:
    """Start a server with TLS, and return its port."""
    port = free_port()
    key = str(authority.with_name("key.pem"))
    files = ("--tls-cert-file", str(authority), "--tls-key-file", key, "--tls-ca-cert-file", str(authority))
    server = Server("--tls-port", str(port), *files, "--tls-auth-clients", "no")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(server)
        except AssertionError as error:
            server.stop()
            if "tls" in str(error).lower():
                pytest.skip("this redis-server was built without TLS")
            raise
        yield port


def client_of(library: str, port: int, authority: Path) -> Any:
    """Make a client that trusts the certificate."""
    trust: Any = {"ssl_ca_certs": str(authority)}
    if library == "redis":
        return Redis(host="localhost", port=port, ssl=True, **trust)
    if library == "valkey":
        return Valkey(host="localhost", port=port, ssl=True, **trust)
    return coredis.Redis(host="localhost", port=port, ssl=True, **trust)


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


async def test_a_url_can_name_the_trusted_certificate(port: int, authority: Path) -> None:
    """The parameter is that of redis-py."""
    driver = RedisDriver.from_url(f"rediss://localhost:{port}?ssl_ca_certs={authority}")
    await driver.open()
    await driver.close()
