"""Several servers that make one store: a cluster, and a master that Sentinels watch over. All on loopback ports."""

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
"""Under this name the Sentinels know their master."""

_SLOTS = 16384
_BUS = 10_000
"""A node of a cluster listens on its port, and on another so much above it."""


class Node(Server):
    """A server on a loopback port."""

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        super().__init__("--port", str(self.port), "--bind", "127.0.0.1", *options)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self.port}"

    def freeze(self) -> None:
        """Have it answer nothing and close nothing, as behind a cut cable."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.signal(signal.SIGCONT)


class Cluster:
    """Three nodes with a third of the slots each, and a fourth that may stand by for one of them."""

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
        until_it_is_so(lambda: all(self._is_whole(node) for node in self.nodes))
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.stop()

    def inspect(self, prefix: str) -> None:
        """Fail where what is there under a prefix is not as it must be."""
        inspect(self.owner(f"{{{prefix}}}").url, prefix, is_ours=False)

    def owner(self, key: str) -> Node:
        """The node that holds the key now."""
        slot = self._slot(key)
        ports = {start: (end, master[1]) for start, end, master, *_ in self._living.call("CLUSTER", "SLOTS")}
        port = next(port for start, (end, port) in ports.items() if start <= slot <= end)
        return next(node for node in self.nodes if node.port == port)

    def move(self, key: str, target: Node) -> None:
        """Give the slot of a key to another node, with what is in it."""
        source, slot = self.owner(key), self._slot(key)
        target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", _id(source))
        source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", _id(target))
        while keys := source.call("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.call("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        for node in (target, source, *self.nodes[:3]):
            node.call("CLUSTER", "SETSLOT", slot, "NODE", _id(target))

    def stand_by(self, key: str) -> Node:
        """Make the fourth node a replica of the one that holds the key."""
        standby = self.nodes[3]
        standby.call("CLUSTER", "REPLICATE", _id(self.owner(key)))
        until_it_is_so(lambda: is_in_step(standby))
        return standby

    def _slot(self, key: str) -> int:
        return int(self._living.call("CLUSTER", "KEYSLOT", key))

    @property
    def _living(self) -> Node:
        return next(node for node in self.nodes if node.runs)

    def _is_whole(self, node: Node) -> bool:
        told = node.call("CLUSTER", "INFO")
        return b"cluster_state:ok" in told and b"cluster_known_nodes:4" in told and b"cluster_size:3" in told


class Sentinel(Node):
    """A Sentinel on a loopback port. The first that it learns of the master is its port."""

    READY = b"+monitor"

    def __init__(self, master: Node) -> None:
        super().__init__()
        self._master = master

    def words(self) -> list[str]:
        """Sentinels want a file that they can write to."""
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
    """A master and a replica, and three Sentinels that make the replica a master should the other fall."""

    def __init__(self) -> None:
        self.master = Node("--repl-diskless-sync-delay", "0")
        self.replica = Node("--replicaof", "127.0.0.1", str(self.master.port))
        self.sentinels = [Sentinel(self.master) for _ in range(3)]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where the Sentinels listen."""
        return [("127.0.0.1", sentinel.port) for sentinel in self.sentinels]

    def __enter__(self) -> Self:
        for server in (self.master, self.replica):
            server.start()
        until_it_is_so(lambda: is_in_step(self.replica))
        for sentinel in self.sentinels:
            sentinel.start()
        until_it_is_so(lambda: all(self._sees_all(sentinel) for sentinel in self.sentinels))
        return self

    def __exit__(self, *_: object) -> None:
        for server in (*self.sentinels, self.replica, self.master):
            server.stop()

    def _sees_all(self, sentinel: Sentinel) -> bool:
        told = sentinel.call("INFO", "sentinel")["master0"]
        return (told["slaves"], told["sentinels"], told["status"]) == (1, 3, "ok")


def is_in_step(replica: Node) -> bool:
    """Whether a replica has all that its master has."""
    return bool(replica.call("INFO", "replication").get("master_link_status") == "up")


async def added_in_the_end(work: Work) -> str:
    """Enqueue a job, sent again under its id for as long as the store cannot be reached."""
    record_id = "after-the-failover"
    call = work.jobs.act.options(id=record_id)

    async def is_added() -> bool:
        try:
            return (await call.enqueue(2)).id == record_id
        except StoreUnavailable as error:
            return error.ids != (record_id,)

    await until(is_added)
    return record_id


def until_it_is_so(condition: Callable[[], bool]) -> None:
    """Wait for servers, outside of an event loop."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "the servers did not get there"
        time.sleep(0.02)


def _id(node: Node) -> Any:
    return node.call("CLUSTER", "MYID")


def free_port() -> int:
    """A port that nobody listens on, with its bus port, below those that the system gives away."""
    while True:
        port = random.randrange(20_000, 22_000)  # noqa: S311 - no secret
        with contextlib.suppress(OSError):
            for one in (port, port + _BUS):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", one))
            return port
