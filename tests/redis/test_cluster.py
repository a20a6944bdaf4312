"""Jobs on a cluster whose slots move and whose nodes fail."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

import pytest
from redis.asyncio import RedisCluster
from valkey.asyncio import ValkeyCluster

from flowli_core import DriverError, Runner, StoreUnavailable
from flowli_core.drivers.redis import RedisDriver
from flowli_core.drivers.redis._keys import COLUMNS, Keys
from tests.conformance.builders import assert_consistent, record
from tests.redis.server import documented_rights
from tests.redis.topologies import Cluster, Node, enqueue_until_accepted
from tests.support.running import Rival, Work, running, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

Library = Literal["redis", "valkey"]
LIBRARIES: tuple[Library, ...] = ("redis", "valkey")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Start a cluster for all tests of this module; each test uses a prefix of its own."""
    with Cluster() as made:
        yield made


@asynccontextmanager
async def on_a(cluster: Cluster, library: Library, prefix: str, **login: str) -> AsyncGenerator[RedisDriver]:
    """Open a driver with a user's client."""
    kind: Any = RedisCluster if library == "redis" else ValkeyCluster
    async with kind(host="127.0.0.1", port=cluster.nodes[1].port, **login) as client:
        driver = RedisDriver(client, prefix=prefix)
        await driver.open()
        yield driver
        await assert_consistent(driver)
        await asyncio.to_thread(cluster.inspect, prefix)
        await driver.close()


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """Return a prefix that no other test uses."""
    return f"p{abs(hash(request.node.nodeid))}"


@pytest.mark.parametrize("library", LIBRARIES)
async def test_wake_ups_and_calls_from_another_loop_find_the_node(
    cluster: Cluster, library: Library, prefix: str
) -> None:
    """Jobs run at once and delayed, and a step from a thread reaches the same node."""
    async with on_a(cluster, library, prefix) as driver:
        work = Work(driver)
        async with running(Runner(work.jobs)):
            now = await work.jobs.act.enqueue(1)
            later = await work.jobs.act.delay("60ms", 2)
            for receipt in (now, later):
                await work.until(receipt.id, "completed")
            assert Rival(driver).step_from_a_thread().reserved == ()
        page = await work.jobs.inspect.find("completed")
        assert {one.id for one in page.items} == {now.id, later.id}


@pytest.mark.parametrize("library", LIBRARIES)
async def test_jobs_run_after_their_slot_has_moved(cluster: Cluster, library: Library, prefix: str) -> None:
    """The old node redirects calls to the new node, which lacks the scripts; a running runner copes with both."""
    async with on_a(cluster, library, prefix) as driver:
        work = Work(driver)
        async with running(Runner(work.jobs)):
            (before,) = await work.add(1)
            await work.until(before, "completed")
            cluster.move(key(prefix), other_than(cluster, prefix))
            (after,) = await work.add(2)
            await work.until(after, "completed")
        assert await work.states([before, after]) == ["completed", "completed"]


async def test_a_call_is_refused_as_a_whole_while_its_slot_moves(cluster: Cluster, prefix: str) -> None:
    """It does not fail in the middle of a script, at a key that the call does not name and that has moved already."""
    async with on_a(cluster, "redis", prefix) as driver:
        await driver.enqueue([record("a")])
        source, target = cluster.owner(key(prefix)), other_than(cluster, prefix)
        missing = [name for name in map(Keys(prefix).named, COLUMNS) if not source.call("EXISTS", name)]
        for name in missing:
            source.call("SET", name, "so that all columns exist")
        cluster.start_move(key(prefix), target, f"{{{prefix}}}:1:due:q")
        with pytest.raises(StoreUnavailable):
            await driver.enqueue([record("b")])
        source.call("DEL", *missing)
        cluster.move(key(prefix), target)
        assert [one.disposition for one in await driver.enqueue([record("b")])] == ["accepted"]


@pytest.mark.parametrize("library", LIBRARIES)
async def test_the_documented_permissions_suffice(cluster: Cluster, library: Library) -> None:
    """They are those for a single server, and two that clients of a cluster need."""
    for node in cluster.nodes:
        node.call("ACL", "SETUSER", "app", *documented_rights(), "+cluster|slots", "+command")
    async with on_a(cluster, library, "app", username="app", password="password") as driver:  # noqa: S106 - a test's
        work = Work(driver)
        async with running(Runner(work.jobs)):
            for receipt in (await work.jobs.act.enqueue(1), await work.jobs.act.delay("20ms", 2)):
                await work.until(receipt.id, "completed")


async def test_a_slot_that_no_node_serves_raises_store_unavailable(cluster: Cluster, prefix: str) -> None:
    """The error names the record, and the same call succeeds once the slot is served."""
    async with on_a(cluster, "redis", prefix) as driver:
        await driver.enqueue([record("a")])
        owner = cluster.owner(key(prefix))
        slot = owner.call("CLUSTER", "KEYSLOT", key(prefix))
        number = owner.call("CLUSTER", "MYID")
        for node in cluster.nodes:
            node.call("CLUSTER", "DELSLOTS", slot)
        with pytest.raises(StoreUnavailable, match=r"CLUSTERDOWN|slots are not covered") as caught:
            await driver.enqueue([record("b")])
        assert caught.value.ids == ("b",)
        owner.call("CLUSTER", "ADDSLOTS", slot)
        for node in cluster.nodes:
            if node is not owner:
                node.call("CLUSTER", "SETSLOT", slot, "NODE", number)
        await until(lambda: b"cluster_state:ok" in owner.call("CLUSTER", "INFO"))
        assert [one.disposition for one in await driver.enqueue([record("b"), record("a")])] == [
            "accepted",
            "duplicate",
        ]


async def test_a_runner_goes_on_with_the_replica_of_a_killed_node(cluster: Cluster, prefix: str) -> None:
    """The node that stores the keys is killed: jobs run on its replica, without a restart of the runner."""
    async with on_a(cluster, "redis", prefix) as driver:
        work = Work(driver)
        async with running(Runner(work.jobs, lease="2s")):
            (before,) = await work.add(1)
            await work.until(before, "completed")
            replica, owner = cluster.add_replica(key(prefix)), cluster.owner(key(prefix))
            owner.kill()
            await until(lambda: is_master(replica))
            after = await enqueue_until_accepted(work)
            await work.until(after, "completed")
            assert await work.states([before]) == ["completed"]


async def test_a_cluster_client_of_a_single_server_is_refused() -> None:
    """The message says that the server is not part of a cluster."""
    with Node() as node:
        client = RedisCluster(host="127.0.0.1", port=node.port)
        with pytest.raises(DriverError, match="not part of a cluster") as caught:
            await RedisDriver(client).open()
        await client.aclose()
    assert not isinstance(caught.value, StoreUnavailable)


def key(prefix: str) -> str:
    """Return a key with the slot of the prefix."""
    return f"{{{prefix}}}"


def other_than(cluster: Cluster, prefix: str) -> Node:
    """Return a node that does not store the keys."""
    return next(node for node in cluster.nodes[:3] if node is not cluster.owner(key(prefix)))


def is_master(node: Node) -> bool:
    """Return True if a node is a master and the cluster is up."""
    return b"myself,master" in node.call("CLUSTER", "NODES") and b"cluster_state:ok" in node.call("CLUSTER", "INFO")
