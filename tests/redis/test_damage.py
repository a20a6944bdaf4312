"""Stores that somebody has meddled with: what is sound goes on, and nothing is made worse."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tests.conformance.builders import LEASE, Worker, ids, record

if TYPE_CHECKING:
    from flowli_core.drivers.redis import RedisDriver


async def test_what_belongs_to_no_record_is_passed_over_once(driver: RedisDriver, prefix: str, foreign: Any) -> None:
    """An id in the index whose record is gone hides nothing behind it, and nobody is told to come for it again."""
    worker = Worker(driver)
    await driver.enqueue([record("a"), record("later", due=timedelta(hours=1))])
    foreign.zadd(f"{{{prefix}}}:1:due:q", {"nobody": 1})
    answer = await worker.step(want=5)
    assert ids(answer.reserved) == ["a"]
    assert answer.next_due == LEASE


async def test_a_key_is_freed_by_the_record_that_holds_it_alone(driver: RedisDriver, prefix: str, foreign: Any) -> None:
    """Where another has it by now, the end of the first does not take it away."""
    worker = Worker(driver)
    await driver.enqueue([record("a", key="k"), record("b")])
    held = {one.id: one for one in await worker.take(2)}
    holder = f"{{{prefix}}}:1:holder"
    foreign.hset(holder, "k", "b")
    assert await worker.settle(held["a"]) == "ok"
    assert foreign.hget(holder, "k") == b"b"
    foreign.hdel(holder, "k")
    assert await worker.settle(held["b"]) == "ok"
