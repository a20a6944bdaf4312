"""Keys that stay unique after their records have completed, as Redis stores them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core.driver import Cancelled, Failed
from flowli_core.drivers.redis import RedisDriver
from flowli_core.durations import ZERO
from flowli_core.limits import Keep
from flowli_core.testing import ManualClock
from tests.conformance.builders import (
    BROKEN,
    HOUR,
    Worker,
    ack,
    assert_consistent,
    record,
)
from tests.redis.server import shared_url
from tests.redis.test_keys import enqueue, replacing, unique
from tests.support.store import find, requeue_one

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


MINUTE = timedelta(minutes=1)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def driver(prefix: str, clock: ManualClock) -> AsyncIterator[RedisDriver]:
    """Yield a driver whose time stands still. Afterwards fsck must find nothing."""
    made = RedisDriver.from_url(shared_url(), prefix=prefix, clock=clock)
    await made.open()
    yield made
    assert await made.fsck() == ()
    await assert_consistent(made)
    await made.close()


@pytest.fixture
def worker(driver: RedisDriver) -> Worker:
    return Worker(driver)


async def test_a_key_stays_unique_after_its_record_has_completed(
    driver: RedisDriver, clock: ManualClock, worker: Worker
) -> None:
    """Until an hour after the creation, also when the record is removed."""
    await driver.enqueue([unique("a", meta=b"m")])
    clock.advance(MINUTE)
    held = await worker.take_one()
    assert (held.meta, held.input) == (b"m", b"{}")
    await worker.settle(held)
    assert await enqueue(driver, unique("b"), replacing("c")) == [("a", "existing", "completed")] * 2
    assert await driver.fsck() == ()
    await driver.purge("completed", older_than=-MINUTE, limit=1)
    assert await find(driver, "a") is None
    (answer,) = await driver.enqueue([unique("b")])
    assert (answer.id, answer.disposition, answer.state, answer.scheduled_for) == (
        "a",
        "existing",
        "completed",
        clock.now(),
    )
    assert await driver.fsck() == ()
    clock.advance(HOUR - MINUTE - timedelta(milliseconds=1))
    assert await enqueue(driver, unique("b")) == [("a", "existing", "completed")]
    clock.advance(timedelta(milliseconds=1))
    assert await enqueue(driver, unique("b")) == [("b", "accepted", "queued")]


@pytest.mark.parametrize("outcome", [BROKEN, Cancelled()])
async def test_a_record_that_did_not_complete_releases_its_key(
    driver: RedisDriver, worker: Worker, outcome: Failed | Cancelled
) -> None:
    await driver.enqueue([unique("a")])
    await worker.settle(await worker.take_one(), outcome)
    assert await enqueue(driver, unique("b")) == [("b", "accepted", "queued")]


async def test_a_record_that_completes_late_releases_its_key(
    driver: RedisDriver, clock: ManualClock, worker: Worker
) -> None:
    await driver.enqueue([unique("a", due=HOUR)])
    clock.advance(HOUR)
    await worker.settle(await worker.take_one())
    assert await enqueue(driver, unique("b")) == [("b", "accepted", "queued")]


async def test_a_replaced_record_is_unique_from_its_creation(
    driver: RedisDriver, clock: ManualClock, worker: Worker
) -> None:
    await driver.enqueue([record("a", key="k")])
    clock.advance(MINUTE)
    await driver.enqueue([replacing("b", unique_for=HOUR)])
    await worker.settle(await worker.take_one())
    clock.advance(HOUR - MINUTE - timedelta(milliseconds=1))
    assert await enqueue(driver, record("c", key="k")) == [("a", "existing", "completed")]
    clock.advance(timedelta(milliseconds=1))
    assert await enqueue(driver, record("c", key="k")) == [("c", "accepted", "queued")]


async def test_a_requeued_record_holds_its_key_as_any_other(
    driver: RedisDriver, clock: ManualClock, worker: Worker
) -> None:
    """It holds the key for as long as it has not finished, and releases it if it fails then."""
    await driver.enqueue([unique("a")])
    await worker.settle(await worker.take_one())
    assert await requeue_one(driver, "a") == "requeued"
    assert await driver.fsck() == ()
    clock.advance(2 * HOUR)
    await worker.step()
    assert await enqueue(driver, record("b", key="k")) == [("a", "existing", "queued")]
    await worker.settle(await worker.take_one(), BROKEN)
    assert await enqueue(driver, record("b", key="k")) == [("b", "accepted", "queued")]


async def test_a_requeued_record_that_fails_releases_its_key(driver: RedisDriver, worker: Worker) -> None:
    """Although its key would still be unique if it had not been requeued."""
    await driver.enqueue([unique("a")])
    await worker.settle(await worker.take_one())
    assert await requeue_one(driver, "a") == "requeued"
    await worker.settle(await worker.take_one(), BROKEN)
    assert await driver.fsck() == ()
    assert await enqueue(driver, unique("b")) == [("b", "accepted", "queued")]


async def test_a_key_that_was_kept_and_is_held_again_is_taken_for_a_requeue(
    driver: RedisDriver, clock: ManualClock, worker: Worker
) -> None:
    """The next holder holds it, whatever was stored of the last one."""
    await driver.enqueue([record("f", key="k")])
    await worker.settle(await worker.take_one(), BROKEN)
    await driver.enqueue([unique("a", keep_completed=9 * HOUR)])
    await worker.settle(await worker.take_one())
    clock.advance(HOUR)
    assert await enqueue(driver, record("b", key="k")) == [("b", "accepted", "queued")]
    assert await requeue_one(driver, "f") == "key_taken"


async def test_a_kept_key_is_taken_for_a_requeue(driver: RedisDriver, clock: ManualClock, worker: Worker) -> None:
    """Until it is free again."""
    await driver.enqueue([record("f", key="k")])
    await worker.settle(await worker.take_one(), BROKEN)
    await driver.enqueue([unique("a", keep_completed=9 * HOUR)])
    await worker.settle(await worker.take_one())
    assert await requeue_one(driver, "f") == "key_taken"
    clock.advance(HOUR)
    assert await requeue_one(driver, "f") == "requeued"
    assert await enqueue(driver, record("b", key="k")) == [("f", "existing", "queued")]


async def test_kept_keys_are_forgotten(
    driver: RedisDriver, clock: ManualClock, worker: Worker, foreign: Any, prefix: str
) -> None:
    """Once they are free, a step removes them and their holders."""
    await driver.enqueue([unique("a"), replace(record("b", key="l"), unique_for=2 * HOUR)])
    await worker.step(*[ack(held) for held in await worker.take(2)], keep=Keep(completed=0))
    root = f"{{{prefix}}}:1:"
    assert foreign.hgetall(f"{root}holder") == {b"k": b"a", b"l": b"b"}
    clock.advance(HOUR)
    await worker.step()
    assert foreign.hgetall(f"{root}holder") == {b"l": b"b"}
    clock.advance(HOUR)
    await worker.step()
    assert foreign.exists(f"{root}holder", f"{root}unique", f"{root}behind", f"{root}record") == 0


async def test_a_key_without_options_costs_no_entry(
    driver: RedisDriver, worker: Worker, foreign: Any, prefix: str
) -> None:
    """Zero is no time to be unique."""
    await driver.enqueue([replace(record("a", key="k"), unique_for=ZERO)])
    await worker.settle(await worker.take_one())
    assert foreign.exists(f"{{{prefix}}}:1:holder", f"{{{prefix}}}:1:unique") == 0
