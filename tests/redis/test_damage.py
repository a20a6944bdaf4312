"""Damaged stores: sound records still run, and the damage does not spread."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tests.conformance.builders import LEASE, Worker, ids, record

if TYPE_CHECKING:
    from flowli_core.drivers.redis import RedisDriver


async def test_an_orphan_in_an_index_is_removed(driver: RedisDriver, prefix: str, foreign: Any) -> None:
    """An id whose record is missing hides no records behind it, and does not count as due afterwards."""
    worker = Worker(driver)
    await driver.enqueue([record("a"), record("later", due=timedelta(hours=1))])
    foreign.zadd(f"{{{prefix}}}:1:due:q", {"nobody": 1})
    answer = await worker.step(want=5)
    assert ids(answer.reserved) == ["a"]
    assert answer.next_due == LEASE


async def test_only_its_holder_releases_an_idempotency_key(driver: RedisDriver, prefix: str, foreign: Any) -> None:
    """If another record holds the key by now, finishing the first does not release it."""
    worker = Worker(driver)
    await driver.enqueue([record("a", key="k"), record("b")])
    held = {one.id: one for one in await worker.take(2)}
    holder = f"{{{prefix}}}:1:holder"
    foreign.hset(holder, "k", "b")
    assert await worker.settle(held["a"]) == "ok"
    assert foreign.hget(holder, "k") == b"b"
    foreign.hdel(holder, "k")
    assert await worker.settle(held["b"]) == "ok"
