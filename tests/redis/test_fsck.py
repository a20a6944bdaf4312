"""fsck finds each kind of damage, names the damaged record, and reports nothing for a sound store."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core.driver import Completed, Released
from flowli_core.drivers.redis import RedisDriver
from flowli_core.drivers.redis._packing import shape_of
from flowli_core.stored import StoredSchedule
from tests.conformance.builders import BROKEN, LEASE, Worker, ack, finish, record
from tests.redis.server import connect, fresh_prefix, shared_url
from tests.support.store import cancel_one, put

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from flowli_core.drivers.redis import Finding


@pytest.fixture
def ruined() -> Iterator[str]:
    """Return a prefix that the test may damage. Its keys are removed at the end, before they are inspected."""
    prefix = fresh_prefix()
    yield prefix
    admin = connect(shared_url())
    admin.delete(*admin.keys(f"{{{prefix}}}*"))
    admin.close()


class Store:
    """A store with a record in each state, and a client to damage it with."""

    def __init__(self, driver: RedisDriver, prefix: str) -> None:
        self.driver = driver
        self.admin: Any = connect(shared_url())
        self._root = f"{{{prefix}}}:1:"

    def key(self, name: str) -> str:
        """Return the full name of a key."""
        return self._root + name

    async def fill(self) -> None:
        """Store a waiting record, an active one, a suspect, and one in each finished state."""
        await finish(self.driver, "done", Completed(b"1"))
        await finish(self.driver, "broken", BROKEN)
        await self.driver.enqueue([record("suspect", max_recoveries=0), record("active", key="k2")])
        worker = Worker(self.driver)
        held = {one.id: one for one in (*await worker.take(2, suspect=False), *await worker.take())}
        await worker.settle(held["suspect"], Released())
        waits = record("waits", key="k", due=timedelta(hours=1))
        await self.driver.enqueue([waits, record("gone", key="k3", due=LEASE)])
        await cancel_one(self.driver, "gone")
        await self.driver.enqueue([record("elsewhere", queue="p", due=LEASE)])
        tick = datetime(2026, 12, 24, tzinfo=UTC)
        for key, next_tick in (("daily", tick), ("ended", None)):
            await put(self.driver, StoredSchedule(key=key, queue="q", spec=b"{}", next_tick=next_tick))

    async def found(self) -> set[tuple[str, str]]:
        """Return the keys and ids of the findings."""
        findings: tuple[Finding, ...] = await self.driver.fsck()
        assert all(one.problem for one in findings)
        return {(one.key.removeprefix(self._root), one.id) for one in findings}


@pytest.fixture
async def store(ruined: str) -> AsyncIterator[Store]:
    driver = RedisDriver.from_url(shared_url(), prefix=ruined)
    await driver.open()
    made = Store(driver, ruined)
    await made.fill()
    yield made
    made.admin.close()
    await driver.close()


async def test_a_sound_store_has_no_findings(store: Store) -> None:
    assert await store.found() == set()


async def test_an_empty_store_has_no_findings(driver: RedisDriver) -> None:
    assert await driver.fsck() == ()


SHAPE = shape_of(record())[0].decode()
COUNTS, COUNT, ACTIVE, HOLDER = ("counts", ""), ("counts", "failed q"), ("counts", "active q"), ("holder", "waits")
DAMAGES: list[tuple[str, Callable[[Any, Callable[[str], str]], object], set[tuple[str, str]] | None]] = [
    ("in no index", lambda r, k: r.zrem(k("due:q"), "waits"), {("record", "waits")}),
    ("in two indexes", lambda r, k: r.zadd(k("failed"), {"waits": 1}), {("record", "waits"), COUNTS, COUNT}),
    (
        "lease gone",
        lambda r, k: r.zrem(k("lease"), "active"),
        {("record", "active"), COUNTS, ACTIVE, ("token", "")},
    ),
    ("token gone", lambda r, k: r.hdel(k("token"), "active"), {("token", "active"), ("token", "")}),
    ("token left", lambda r, k: r.hset(k("token"), "waits", "1 1 1 x- w"), {("token", "waits"), ("token", "")}),
    ("token unreadable", lambda r, k: r.hset(k("token"), "active", "junk"), {("token", "active")}),
    ("token never issued", lambda r, k: r.hset(k("serial"), "token", "1"), {("token", "active")}),
    ("count too high", lambda r, k: r.hincrby(k("counts"), "active q", 1), {COUNTS, ACTIVE}),
    ("count not a number", lambda r, k: r.hset(k("counts"), "active q", "x"), {COUNTS, ACTIVE}),
    (
        "count of another queue",
        lambda r, k: _move_count(r, k("counts")),
        {("counts", "failed q"), ("counts", "failed p")},
    ),
    ("expiry gone", lambda r, k: r.zrem(k("expiry"), "done"), {("expiry", "done")}),
    ("expiry wrong", lambda r, k: r.zadd(k("expiry"), {"broken": 5}), {("expiry", "broken")}),
    ("expiry too early", lambda r, k: r.zadd(k("expiry"), {"waits": 5}), {("expiry", "waits")}),
    ("outcome gone", lambda r, k: r.hdel(k("outcome"), "done"), {("outcome", "done")}),
    ("outcome unreadable", lambda r, k: r.hset(k("outcome"), "done", "junk"), {("outcome", "done")}),
    ("key not held", lambda r, k: r.hdel(k("holder"), "k"), {HOLDER}),
    ("key of another", lambda r, k: r.hset(k("holder"), "k", "active"), {HOLDER, ("holder", "active")}),
    ("key still held", lambda r, k: r.hset(k("holder"), "k3", "gone"), {("holder", "gone")}),
    ("key of an unknown record", lambda r, k: r.hset(k("holder"), "k4", "nobody"), {("holder", "nobody")}),
    ("suspect by mistake", lambda r, k: _move(r, k("due:q"), k("suspect:q"), "waits"), {("suspect:q", "waits")}),
    ("hidden suspect", lambda r, k: _move(r, k("suspect:q"), k("due:q"), "suspect"), {("due:q", "suspect")}),
    ("too often recovered", lambda r, k: r.hset(k("recoveries"), "waits", 9), {("recoveries", "waits")}),
    ("cancelling", lambda r, k: r.sadd(k("cancelling"), "waits"), {("cancelling", "waits")}),
    ("cancelling an unknown record", lambda r, k: r.sadd(k("cancelling"), "nobody"), {("cancelling", "nobody")}),
    ("orphan in an index", lambda r, k: r.zadd(k("due:q"), {"nobody": 1}), {("due:q", "nobody")}),
    ("orphan in a column", lambda r, k: r.hset(k("attempts"), "nobody", "1"), {("attempts", "nobody")}),
    ("progress of no record", lambda r, k: r.hset(k("progress"), "nobody", "1"), {("progress", "nobody")}),
    ("log of no record", lambda r, k: r.hset(k("log"), "nobody", "1"), {("log", "nobody")}),
    (
        "record unreadable",
        lambda r, k: r.hset(k("record"), "waits", "junk"),
        {("record", "waits"), HOLDER, ("due:q", "waits"), ("uses", SHAPE)},
    ),
    ("shape of no record", lambda r, k: r.hset(k("shape"), "x" * 22, "junk"), {("uses", "x" * 22)}),
    ("uses of no shape", lambda r, k: r.hset(k("uses"), "x" * 22, 1), {("uses", "x" * 22)}),
    ("uses too high", lambda r, k: r.hincrby(k("uses"), SHAPE, 1), {("uses", SHAPE)}),
    ("uses not a number", lambda r, k: r.hset(k("uses"), SHAPE, "x"), {("uses", SHAPE)}),
    ("queue without records", lambda r, k: r.sadd(k("queues"), "empty"), {("queues", "empty")}),
    ("shapes gone", lambda r, k: r.hdel(k("shape"), *r.hkeys(k("shape"))), None),
    ("queue unknown", lambda r, k: r.srem(k("queues"), "q"), None),
    ("a schedule unlisted", lambda r, k: r.zrem(k("schedules"), "daily"), {("schedules", "daily")}),
    ("a schedule that does not exist", lambda r, k: r.zadd(k("schedules"), {"nobody": 0}), {("schedules", "nobody")}),
    ("a schedule unreadable", lambda r, k: r.hset(k("schedule"), "daily", "junk"), {("schedule", "daily")}),
    (
        "a schedule revision never issued",
        lambda r, k: r.hset(k("serial"), "revision", "1"),
        {("schedule", "daily"), ("schedule", "ended")},
    ),
    ("tick gone", lambda r, k: r.zrem(k("tick"), "daily"), {("tick", "daily")}),
    ("tick wrong", lambda r, k: r.zadd(k("tick"), {"daily": 5}), {("tick", "daily")}),
    ("tick left", lambda r, k: r.zadd(k("tick"), {"ended": 5}), {("tick", "ended")}),
    ("tick of an unknown schedule", lambda r, k: r.zadd(k("tick"), {"nobody": 5}), {("tick", "nobody")}),
    ("a key of another type", lambda r, k: (r.delete(k("expiry")), r.set(k("expiry"), "x")), None),
]


def _move(admin: Any, source: str, target: str, record_id: str) -> None:
    admin.zadd(target, {record_id: admin.zscore(source, record_id)})
    admin.zrem(source, record_id)


def _move_count(admin: Any, key: str) -> None:
    admin.hincrby(key, "failed q", -1)
    admin.hincrby(key, "failed p", 1)


@pytest.mark.parametrize(("damage", "expected"), [pytest.param(do, found, id=name) for name, do, found in DAMAGES])
async def test_damage_is_found(
    store: Store, damage: Callable[[Any, Callable[[str], str]], object], expected: set[tuple[str, str]] | None
) -> None:
    """The findings name exactly the damaged keys and records, or, with `None`, any."""
    damage(store.admin, store.key)
    found = await store.found()
    assert found == (found if expected is None else expected)
    assert found


async def test_the_findings_are_limited(store: Store) -> None:
    """The audit ends when it has found as many faults as asked for."""
    store.admin.hset(store.key("attempts"), mapping={f"nobody{number}": "1" for number in range(500)})
    assert len(await store.driver.fsck(limit=7)) == 7
    assert len(await store.driver.fsck()) == 500


async def test_an_audit_beside_busy_workers_has_no_findings(store: Store) -> None:
    """Records that move during the audit are not reported."""
    worker, numbers = Worker(store.driver, "busy"), itertools.count()

    async def work() -> None:
        while not audits.done():
            await store.driver.enqueue([record(f"r{next(numbers)}", key=f"key{next(numbers)}") for _ in range(20)])
            held = await worker.take(20)
            await worker.step(*[ack(one) for one in held[:10]], *[ack(one, Released(LEASE)) for one in held[10:]])

    async def look() -> set[tuple[str, str]]:
        return {found for _ in range(5) for found in await store.found()}

    audits = asyncio.ensure_future(look())
    await work()
    assert await audits == set()
    assert next(numbers) > 100
