"""The order in which records are reserved: by due time, then by id, from the first queue that has any."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from flowli_core.driver import Released, Retried
from flowli_core.durations import ZERO
from flowli_core.limits import MAX_BATCH_BYTES
from tests.conformance.builders import Worker, ids, record, stored

if TYPE_CHECKING:
    from flowli_core.driver import Driver
    from flowli_core.testing import ManualClock


async def test_records_are_reserved_by_due_time(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """The order of their ids does not matter."""
    await driver.enqueue([record("z")])
    clock.advance("1ms")
    await driver.enqueue([record("a")])
    clock.advance("1ms")
    await driver.enqueue([record("m")])
    assert ids(await worker.take(10)) == ["z", "a", "m"]


async def test_records_due_at_the_same_time_are_reserved_by_id(driver: Driver, worker: Worker) -> None:
    """The order of the enqueues does not matter."""
    await driver.enqueue([record("c"), record("a")])
    await driver.enqueue([record("d"), record("b")])
    assert ids(await worker.take(10)) == ["a", "b", "c", "d"]


async def test_no_more_records_are_reserved_than_wanted(driver: Driver, worker: Worker) -> None:
    """A step takes the first `want` records and leaves the others."""
    await driver.enqueue([record(name) for name in "abcde"])
    assert ids(await worker.take(2)) == ["a", "b"]
    assert ids(await worker.take(2)) == ["c", "d"]
    assert ids(await worker.take(2)) == ["e"]
    assert await worker.take(2) == ()


async def test_the_first_queue_goes_first(driver: Driver) -> None:
    """Its records come before older ones of the second queue, which fill up the batch."""
    await driver.enqueue([record("old", queue="low")])
    await driver.enqueue([record("x", queue="high"), record("y", queue="high")])
    worker = Worker(driver, queues=("high", "low"))
    assert ids(await worker.take(1)) == ["x"]
    assert ids(await worker.take(5)) == ["y", "old"]


async def test_other_queues_are_left_alone(driver: Driver, worker: Worker) -> None:
    """A step reserves nothing from a queue that it does not name."""
    await driver.enqueue([record(queue="elsewhere")])
    answer = await worker.step(want=5)
    assert (answer.reserved, answer.next_due) == ((), None)


async def test_a_queue_named_twice_gives_each_record_once(driver: Driver) -> None:
    """Naming a queue twice is harmless."""
    await driver.enqueue([record("a"), record("b")])
    assert ids(await Worker(driver, queues=("q", "q")).take(5)) == ["a", "b"]


async def test_a_delayed_record_waits_for_its_time(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """The delay counts from the store's now, and ends on the millisecond."""
    (answer,) = await driver.enqueue([record("a", due=timedelta(milliseconds=1500))])
    assert (answer.state, answer.scheduled_for) == ("scheduled", clock.now() + timedelta(milliseconds=1500))
    clock.advance("1499ms")
    assert await worker.take() == ()
    assert (await stored(driver, "a")).state == "scheduled"
    clock.advance("1ms")
    assert (await stored(driver, "a")).state == "queued"
    assert ids(await worker.take()) == ["a"]


async def test_a_record_may_be_due_at_a_moment(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """The given moment is the due time."""
    moment = clock.now() + timedelta(days=40, milliseconds=7)
    (answer,) = await driver.enqueue([record(due=moment)])
    assert answer.scheduled_for == moment
    clock.advance("40d")
    assert await worker.take() == ()
    clock.advance("7ms")
    assert len(await worker.take()) == 1


async def test_a_moment_in_the_past_means_now(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A record cannot overtake others with a moment in the past."""
    await driver.enqueue([record("a")])
    (answer,) = await driver.enqueue([record("b", due=clock.now() - timedelta(days=1))])
    assert (answer.state, answer.scheduled_for) == ("queued", clock.now())
    assert ids(await worker.take(2)) == ["a", "b"]


async def test_delays_and_moments_share_one_order(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """The record with the earlier due time comes first, however that was given."""
    now = clock.now()
    await driver.enqueue(
        [
            record("a", due=timedelta(seconds=3)),
            record("b", due=now + timedelta(seconds=1)),
            record("c", due=timedelta(seconds=2)),
            record("d", due=now + timedelta(seconds=2)),
        ]
    )
    clock.advance("5s")
    await driver.enqueue([record("0")])
    assert ids(await worker.take(10)) == ["b", "c", "d", "a", "0"]


async def test_a_retry_is_ordered_by_its_new_due_time(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """It comes behind records that were due before."""
    await driver.enqueue([record("a")])
    await worker.settle(await worker.take_one(), Retried(timedelta(seconds=10), b"{}"))
    clock.advance("9s")
    await driver.enqueue([record("b")])
    clock.advance("1s")
    await driver.enqueue([record("0")])
    assert ids(await worker.take(3)) == ["b", "0", "a"]


async def test_a_release_keeps_the_due_time(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """The record comes before those that were enqueued later."""
    await driver.enqueue([record("z")])
    due = (await stored(driver, "z")).scheduled_for
    held = await worker.take_one()
    clock.advance("1s")
    await driver.enqueue([record("a")])
    await worker.settle(held, Released())
    assert (await stored(driver, "z")).scheduled_for == due
    assert ids(await worker.take(2)) == ["z", "a"]


async def test_a_release_with_a_delay_is_scheduled(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """The record is due after the delay."""
    await driver.enqueue([record("a")])
    await worker.settle(await worker.take_one(), Released(timedelta(seconds=10)))
    found = await stored(driver, "a")
    assert (found.state, found.scheduled_for) == ("scheduled", clock.now() + timedelta(seconds=10))


async def test_a_batch_is_bounded_by_bytes(driver: Driver, worker: Worker) -> None:
    """A batch ends before its inputs exceed the limit; the rest is due at once."""
    third = b"x" * (MAX_BATCH_BYTES // 3)
    await driver.enqueue([record(name, input=third) for name in "abcd"])
    answer = await worker.step(want=10)
    assert (ids(answer.reserved), answer.next_due) == (["a", "b", "c"], ZERO)
    assert ids(await worker.take(10)) == ["d"]


async def test_a_batch_holds_at_least_one_record(driver: Driver, worker: Worker) -> None:
    """A record over the limit is reserved alone."""
    await driver.enqueue([record("a", input=b"x" * (MAX_BATCH_BYTES + 1)), record("b")])
    assert ids(await worker.take(10)) == ["a"]
    assert ids(await worker.take(10)) == ["b"]


async def test_a_batch_may_be_exactly_as_large_as_the_limit(driver: Driver, worker: Worker) -> None:
    """Reaching the limit does not exceed it."""
    half = b"x" * (MAX_BATCH_BYTES // 2)
    await driver.enqueue([record("a", input=half), record("b", input=half), record("c", input=b"1")])
    assert ids(await worker.take(10)) == ["a", "b"]
