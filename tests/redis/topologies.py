"""Stores of several servers, all on loopback ports: a cluster, and a master with Sentinels."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import time
from typing import TYPE_CHECKING, Any, Self

from flowli_core import StoreUnavailable
from tests.redis.server import Server, inspect
from tests.support.running import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.running import Work

MASTER = "jobs"
"""The name of the master for the Sentinels."""

_SLOTS = 16384
_BUS = 10_000
"""A node of a cluster listens on its port, and on one that is higher by this number."""


class Node(Server):
    """A server on a loopback port."""

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        super().__init__("--port", str(self.port), "--bind", "127.0.0.1", *options)

    @property
    def url(self) -> str:
        """Its address."""
        return f"redis://127.0.0.1:{self.port}"

    def freeze(self) -> None:
        """Stop it without closing connections, as behind a cut cable."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it continue."""
        self.signal(signal.SIGCONT)


class Cluster:
    """Three nodes with a third of the slots each, and a fourth that can become the replica of one."""

    def __init__(self) -> None:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0")
        self.nodes = [Node(*options) for _ in range(4)]

    def __enter__(self) -> Self:
        for node in self.nodes:
            node.start()
        for number, node in enumerate(self.nodes):
            node.call("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < 3:
                slots = range(_SLOTS * number // 3, _SLOTS * (number + 1) // 3)
                node.call("CLUSTER", "ADDSLOTS", *slots)
            node.call("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port)
        wait_for(lambda: all(self._sees_all(node) for node in self.nodes))
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.stop()

    def inspect(self, prefix: str) -> None:
        """Fail if the keys of a prefix are not as they should be."""
        inspect(self.owner(f"{{{prefix}}}").url, prefix, is_ours=False)

    def owner(self, key: str) -> Node:
        """Return the node that stores the key now."""
        slot = self._slot(key)
        ports = {start: (end, master[1]) for start, end, master, *_ in self._living.call("CLUSTER", "SLOTS")}
        port = next(port for start, (end, port) in ports.items() if start <= slot <= end)
        return next(node for node in self.nodes if node.port == port)

    def move(self, key: str, target: Node) -> None:
        """Move the slot of a key, with all its keys, to another node."""
        source, slot = self.owner(key), self._slot(key)
        self.start_move(key, target)
        while keys := source.call("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.call("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        for node in (target, source, *self.nodes[:3]):
            node.call("CLUSTER", "SETSLOT", slot, "NODE", _id(target))

    def start_move(self, key: str, target: Node, *moved: str) -> None:
        """Begin to move the slot of a key to another node, with only these of its keys."""
        source, slot = self.owner(key), self._slot(key)
        target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", _id(source))
        source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", _id(target))
        if moved:
            source.call("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *moved)

    def add_replica(self, key: str) -> Node:
        """Make the fourth node a replica of the one that stores the key."""
        replica = self.nodes[3]
        replica.call("CLUSTER", "REPLICATE", _id(self.owner(key)))
        wait_for(lambda: has_synced(replica))
        return replica

    def _slot(self, key: str) -> int:
        return int(self._living.call("CLUSTER", "KEYSLOT", key))

    @property
    def _living(self) -> Node:
        return next(node for node in self.nodes if node.runs)

    def _sees_all(self, node: Node) -> bool:
        info = node.call("CLUSTER", "INFO")
        return b"cluster_state:ok" in info and b"cluster_known_nodes:4" in info and b"cluster_size:3" in info


class Sentinel(Node):
    """A Sentinel on a loopback port."""

    READY = b"+monitor"

    def __init__(self, master: Node) -> None:
        super().__init__()
        self._master = master

    def words(self) -> list[str]:
        """Write its configuration, which it must be able to change, and return its arguments."""
        lines = (
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self.folder}",
            f"sentinel monitor {MASTER} 127.0.0.1 {self._master.port} 2",
            f"sentinel down-after-milliseconds {MASTER} 1000",
            f"sentinel failover-timeout {MASTER} 4000",
        )
        file = self.folder / "sentinel.conf"
        file.write_text("\n".join(lines))
        return [str(file), "--sentinel"]


class Watched:
    """A master, a replica, and three Sentinels that promote the replica if the master fails."""

    def __init__(self) -> None:
        self.master = Node("--repl-diskless-sync-delay", "0")
        self.replica = Node("--replicaof", "127.0.0.1", str(self.master.port))
        self.sentinels = [Sentinel(self.master) for _ in range(3)]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The addresses of the Sentinels."""
        return [("127.0.0.1", sentinel.port) for sentinel in self.sentinels]

    def __enter__(self) -> Self:
        for server in (self.master, self.replica):
            server.start()
        wait_for(lambda: has_synced(self.replica))
        for sentinel in self.sentinels:
            sentinel.start()
        wait_for(lambda: all(self._sees_all(sentinel) for sentinel in self.sentinels))
        return self

    def __exit__(self, *_: object) -> None:
        for server in (*self.sentinels, self.replica, self.master):
            server.stop()

    def _sees_all(self, sentinel: Sentinel) -> bool:
        info = sentinel.call("INFO", "sentinel")["master0"]
        return (info["slaves"], info["sentinels"], info["status"]) == (1, 3, "ok")


def has_synced(replica: Node) -> bool:
    """Return True if a replica has all data of its master."""
    return bool(replica.call("INFO", "replication").get("master_link_status") == "up")


async def enqueue_until_accepted(work: Work) -> str:
    """Enqueue a job, again under the same id while the store is unreachable, and return its id."""
    record_id = "after-the-failover"
    call = work.jobs.act.options(id=record_id)

    async def is_added() -> bool:
        try:
            return (await call.enqueue(2)).id == record_id
        except StoreUnavailable as error:
            return error.ids != (record_id,)

    await until(is_added)
    return record_id


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait for a condition outside of an event loop."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "the condition was not met in time"
        time.sleep(0.02)


def _id(node: Node) -> Any:
    return node.call("CLUSTER", "MYID")


def free_port() -> int:
    """Return a port that is free, as is its bus port, below the range that the system assigns."""
    while True:
        port = random.randrange(20_000, 22_000)  # noqa: S311 - no secret
        with contextlib.suppress(OSError):
            for one in (port, port + _BUS):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", one))
            return port
