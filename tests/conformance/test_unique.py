"""Keys that a completed record keeps for some time: `unique_for`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.driver import Cancelled, Failed, Outcome
from flowli_core.durations import ZERO
from flowli_core.limits import Keep
from flowli_core.new_records import Enqueued
from tests.conformance.builders import DONE, HOUR, Worker, ids, record, stored
from tests.support.store import find, requeue_one

if TYPE_CHECKING:
    from flowli_core.driver import Driver
    from flowli_core.testing import ManualClock

MINUTE = timedelta(minutes=1)


async def run(driver: Driver, worker: Worker, outcome: Outcome = DONE, record_id: str = "a") -> None:
    """Store a record whose key is unique for an hour, run it and settle it."""
    await driver.enqueue([record(record_id, key="k", unique_for=HOUR)])
    assert await worker.settle(await worker.take_one(), outcome) == "ok"


async def enqueue(driver: Driver, record_id: str, *, replaces: bool = False) -> Enqueued:
    """Enqueue another record with the key."""
    new = record(record_id, key="k", on_conflict="replace" if replaces else "keep", unique_for=HOUR)
    (answer,) = await driver.enqueue([new])
    return answer


async def test_a_completed_record_keeps_its_key(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """The key is free `unique_for` after the record was created, on the millisecond."""
    due = clock.now()
    await run(driver, worker)
    clock.advance(HOUR - timedelta(milliseconds=1))
    assert await enqueue(driver, "b") == Enqueued(id="a", disposition="existing", state="completed", scheduled_for=due)
    clock.advance("1ms")
    assert (await enqueue(driver, "b")).disposition == "accepted"
    assert ids(await worker.take(5)) == ["b"]


async def test_the_time_counts_from_the_creation(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A record that completes later than that frees its key at once."""
    await driver.enqueue([record("a", key="k", unique_for=MINUTE)])
    clock.advance(MINUTE)
    assert (await enqueue(driver, "b")).id == "a"
    await worker.settle(await worker.take_one())
    assert (await enqueue(driver, "b")).disposition == "accepted"


async def test_a_record_that_is_not_unique_keeps_no_key_after_the_clock_was_set_back(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """It was created later than the time at which it completes."""
    await driver.enqueue([record("a", key="k")])
    held = await worker.take_one()
    clock.back(MINUTE)
    await worker.settle(held)
    assert (await enqueue(driver, "b")).disposition == "accepted"


@pytest.mark.parametrize("outcome", [Failed(b"{}"), Cancelled()])
async def test_another_record_that_finished_keeps_no_key(driver: Driver, worker: Worker, outcome: Outcome) -> None:
    """It failed or was cancelled, so its work is not done."""
    await run(driver, worker, outcome)
    assert (await enqueue(driver, "b")).disposition == "accepted"


async def test_a_record_without_unique_for_keeps_no_key(driver: Driver, worker: Worker) -> None:
    """The option is that of the record that holds the key, not that of the new one."""
    await driver.enqueue([record("a", key="k")])
    await worker.settle(await worker.take_one())
    assert (await enqueue(driver, "b")).disposition == "accepted"


async def test_a_removed_record_keeps_its_key(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """It was purged or trimmed; the answer says that it has completed."""
    await run(driver, worker)
    await worker.step(keep=Keep(completed=0))
    assert await find(driver, "a") is None
    clock.advance(MINUTE)
    assert await enqueue(driver, "b") == Enqueued(
        id="a", disposition="existing", state="completed", scheduled_for=clock.now()
    )
    clock.advance(HOUR)
    assert (await enqueue(driver, "b")).disposition == "accepted"


async def test_a_purged_record_keeps_its_key(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """An operator who purges it does not make its work run again."""
    await run(driver, worker)
    clock.advance("1ms")
    assert await driver.purge("completed", older_than=ZERO, limit=5) == 1
    assert (await enqueue(driver, "b")).disposition == "existing"


async def test_a_completed_record_is_not_replaced(driver: Driver, worker: Worker) -> None:
    """Its work is done, so the new record is not stored."""
    await run(driver, worker)
    answer = await enqueue(driver, "b", replaces=True)
    assert (answer.id, answer.disposition, answer.state) == ("a", "existing", "completed")
    assert await worker.take(5) == ()


async def test_an_unfinished_record_is_replaced_all_the_same(driver: Driver, worker: Worker) -> None:
    """The key is then unique for the time of the new record, from the creation of the old one."""
    await driver.enqueue([record("a", key="k")])
    assert (await enqueue(driver, "b", replaces=True)).disposition == "replaced"
    await worker.settle(await worker.take_one())
    assert (await enqueue(driver, "c")).disposition == "existing"


async def test_an_active_record_with_a_record_behind_it_keeps_no_key(driver: Driver, worker: Worker) -> None:
    """The other record holds the key already, and keeps it when it completes."""
    await driver.enqueue([record("a", key="k", unique_for=HOUR)])
    held = await worker.take_one()
    assert (await enqueue(driver, "b", replaces=True)).disposition == "accepted"
    await worker.settle(held)
    assert (await enqueue(driver, "c")).id == "b"
    await worker.settle(await worker.take_one())
    answer = await enqueue(driver, "c")
    assert (answer.id, answer.disposition, answer.state) == ("b", "existing", "completed")


async def test_the_key_of_an_active_record_is_free_when_the_record_behind_it_fails(
    driver: Driver, worker: Worker
) -> None:
    """The active one did not hold the key any more when it completed."""
    await driver.enqueue([record("a", key="k", unique_for=HOUR)])
    held = await worker.take_one()
    await enqueue(driver, "b", replaces=True)
    await worker.settle(held)
    await worker.settle(await worker.take_one(), Failed(b"{}"))
    assert (await enqueue(driver, "c")).disposition == "accepted"


async def test_the_time_of_a_replacement_counts_from_the_creation_of_the_old_record(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """A record that is replaced again and again does not keep its key longer."""
    await driver.enqueue([record("a", key="k")])
    clock.advance("30m")
    assert (await enqueue(driver, "b", replaces=True)).disposition == "replaced"
    await worker.settle(await worker.take_one())
    clock.advance("29m")
    assert (await enqueue(driver, "c")).disposition == "existing"
    clock.advance("1m")
    assert (await enqueue(driver, "c")).disposition == "accepted"


async def test_a_requeued_record_holds_its_key_as_an_unfinished_one(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """It holds the key beyond its time, and no longer if it then fails."""
    await run(driver, worker)
    assert await requeue_one(driver, "a") == "requeued"
    clock.advance(2 * HOUR)
    answer = await enqueue(driver, "b")
    assert (answer.id, answer.disposition, answer.state) == ("a", "existing", "queued")
    await worker.settle(await worker.take_one(), Failed(b"{}"))
    assert (await enqueue(driver, "b")).disposition == "accepted"


async def test_a_requeued_record_that_fails_in_time_frees_its_key(driver: Driver, worker: Worker) -> None:
    """It no longer counts as completed."""
    await run(driver, worker)
    await requeue_one(driver, "a")
    await worker.settle(await worker.take_one(), Failed(b"{}"))
    assert (await enqueue(driver, "b")).disposition == "accepted"


async def test_another_record_cannot_be_requeued_meanwhile(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A record that failed before needs the key that the completed one keeps."""
    await run(driver, worker, Failed(b"{}"), "failed")
    await run(driver, worker)
    assert await requeue_one(driver, "failed") == "key_taken"
    clock.advance(HOUR)
    assert await requeue_one(driver, "failed") == "requeued"
    assert await requeue_one(driver, "a") == "key_taken"


async def test_a_record_can_be_requeued_when_its_key_is_taken_by_none(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """The time of its key is over, and then it holds the key again."""
    await run(driver, worker)
    clock.advance(HOUR - MINUTE)
    assert (await stored(driver, "a")).state == "completed"
    clock.advance(MINUTE)
    assert await requeue_one(driver, "a") == "requeued"
    assert (await enqueue(driver, "b")).id == "a"


async def test_the_number_of_kept_keys_is_limited(
    driver: Driver, worker: Worker, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys that are free first are forgotten, so the store does not grow with the number of jobs."""
    for module in ("memory._index", "sqlite._settle", "redis._scripts"):
        monkeypatch.setattr(f"flowli_core.drivers.{module}.MOST_TAKEN_IDS", 3)
    for name in "abcde":
        await driver.enqueue([record(name, key=name, unique_for=HOUR)])
        await worker.settle(await worker.take_one())
        clock.advance("1ms")
    await worker.step()
    answers = await driver.enqueue([record(f"new {name}", key=name) for name in "abcde"])
    assert [answer.disposition for answer in answers] == ["accepted"] * 2 + ["existing"] * 3


@pytest.mark.parametrize("replaces", [False, True])
async def test_a_removed_record_keeps_its_key_although_its_id_is_used_again(
    driver: Driver, worker: Worker, *, replaces: bool
) -> None:
    """The record that has its id now does not hold the key, and is not replaced."""
    await run(driver, worker)
    await worker.step(keep=Keep(completed=0))
    await driver.enqueue([record("a", key="other", input=b"1")])
    answer = await enqueue(driver, "b", replaces=replaces)
    assert (answer.id, answer.disposition, answer.state) == ("a", "existing", "completed")
    assert [(held.id, held.input) for held in await worker.take(5)] == [("a", b"1")]


@pytest.mark.parametrize("trims", [False, True])
async def test_a_key_is_free_in_time_although_the_id_of_its_record_is_used_again(
    driver: Driver, worker: Worker, clock: ManualClock, *, trims: bool
) -> None:
    """The record that has the id now does not keep the key of the removed one."""
    await run(driver, worker)
    await worker.step(keep=Keep(completed=0))
    await driver.enqueue([record("a", key="other", input=b"1")])
    clock.advance(HOUR)
    if trims:
        await worker.step()
    assert (await enqueue(driver, "b", replaces=True)).disposition == "accepted"
    assert [(held.id, held.input) for held in await worker.take(5)] == [("a", b"1"), ("b", b"{}")]
