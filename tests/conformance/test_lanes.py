"""Lanes: at most so many of their records are active, and who moves on when a place becomes free."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.driver import Cancelled, Failed, Outcome, Released, Retried
from flowli_core.durations import ZERO
from flowli_core.lanes import Lane
from flowli_core.limits import EXPIRE_PER_STEP
from tests.conformance.builders import (
    DONE,
    HOUR,
    LEASE,
    Worker,
    ack,
    everything,
    ids,
    lease_of,
    record,
    soon,
    stored,
    waiting_step,
)
from tests.support.store import cancel_one, requeue_one

if TYPE_CHECKING:
    from flowli_core.driver import Driver
    from flowli_core.new_records import NewRecord
    from flowli_core.testing import ManualClock

SECOND = timedelta(seconds=1)
MS = timedelta(milliseconds=1)


def one(value: str = "x", *, concurrency: int | None = 1) -> Lane:
    """Make a lane in which one record is active at a time."""
    return Lane("crawl", value, concurrency)


def some(names: str, value: str = "x", *, concurrency: int | None = 1, queue: str = "q") -> list[NewRecord]:
    """Make a record of a lane for each letter."""
    return [record(name, queue=queue, lane=one(value, concurrency=concurrency)) for name in names]


async def test_no_more_records_of_a_lane_are_active_than_allowed(driver: Driver, worker: Worker) -> None:
    """The others are nothing to do, until a place is free."""
    await driver.enqueue(some("abcd", concurrency=2))
    answer = await worker.step(want=10)
    assert (ids(answer.reserved), answer.next_due) == (["a", "b"], LEASE)
    first, second = answer.reserved
    assert await worker.take(10) == ()
    assert ids((await worker.step(ack(first), want=10)).reserved) == ["c"]
    assert ids((await worker.step(ack(second), want=10)).reserved) == ["d"]


async def test_the_places_of_a_lane_are_those_of_all_workers_and_queues(driver: Driver) -> None:
    """A record in one queue takes the place that one in another queue would need."""
    await driver.enqueue([*some("ab"), *some("cd", queue="other")])
    here, there = Worker(driver, "here"), Worker(driver, "there", queues=("other",))
    held = await here.take_one()
    assert (await there.take(5), await Worker(driver, "third").take(5)) == ((), ())
    await here.settle(held)
    (moved,) = await there.take(5)
    assert moved.id == "c"
    assert await here.take(5) == ()
    assert ids((await there.step(ack(moved), want=5)).reserved) == ["d"]


async def test_each_value_of_a_limit_has_its_own_places(driver: Driver, worker: Worker) -> None:
    """So has each limit, and records without a lane need none."""
    await driver.enqueue([*some("ab", "x"), *some("cd", "y"), *some("ef", "")])
    await driver.enqueue([record("g", lane=Lane("mail", "x", 1)), record("h", lane=Lane("mail", "x", 1)), record("i")])
    assert sorted(ids(await worker.take(20))) == ["a", "c", "e", "g", "i"]


async def test_a_lane_without_concurrency_only_takes_turns(driver: Driver, worker: Worker) -> None:
    """All of its records may be active."""
    await driver.enqueue(some("abc", concurrency=None))
    assert ids(await worker.take(20)) == ["a", "b", "c"]


@pytest.mark.parametrize("outcome", [DONE, Failed(b"{}"), Cancelled(), Retried(HOUR, b"{}"), Released(HOUR)])
async def test_a_record_that_is_settled_frees_its_place(driver: Driver, worker: Worker, outcome: Outcome) -> None:
    """The next record of the lane is due in that transition, and is reserved by the same step."""
    await driver.enqueue(some("ab"))
    held = await worker.take_one()
    answer = await worker.step(ack(held, outcome), want=5)
    assert (answer.acks, ids(answer.reserved)) == (("ok",), ["b"])


async def test_a_record_that_is_recovered_frees_its_place(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """It waits in its lane again, before records that are due later."""
    await driver.enqueue(some("a"))
    clock.advance(MS)
    await driver.enqueue(some("b"))
    await Worker(driver, "victim").take_one()
    clock.advance(LEASE)
    answer = await worker.step(want=5)
    assert ([found.id for found in answer.recovered], ids(answer.reserved)) == (["a"], ["a"])
    assert await worker.take(5) == ()


async def test_a_recovery_that_fails_the_record_frees_its_place(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """The next record moves on."""
    await driver.enqueue([record("a", lane=one(), max_recoveries=0), *some("b")])
    await Worker(driver, "victim").take_one()
    clock.advance(LEASE)
    answer = await worker.step(want=5)
    assert ([found.state for found in answer.recovered], ids(answer.reserved)) == (["failed"], ["b"])


async def test_a_recovery_that_is_taken_back_counts_no_place(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """The record waits again, so the place is free for the next one."""
    await driver.enqueue([record("a", lane=one(), max_recoveries=1), record("z")])
    victim = Worker(driver, "victim")
    held = await victim.take_one()
    clock.advance(LEASE)
    await worker.step()
    assert (await driver.heartbeat("victim", [lease_of(held)], LEASE)).lost == {"a"}
    assert (await stored(driver, "a")).recoveries == 0
    assert sorted(ids(await worker.take(5))) == ["a", "z"]
    assert await worker.take(5) == ()


async def test_an_active_record_that_is_to_be_cancelled_keeps_its_place(driver: Driver, worker: Worker) -> None:
    """It is still running. The place is free when it ends, also if it is released."""
    await driver.enqueue(some("ab"))
    held = await worker.take_one()
    assert await cancel_one(driver, "a") == "requested"
    assert await worker.take(5) == ()
    assert ids((await worker.step(ack(held, Released()), want=5)).reserved) == ["b"]
    assert (await stored(driver, "a")).state == "cancelled"


@pytest.mark.parametrize("queue", ["q", "other"])
async def test_a_free_place_wakes_a_waiting_step(driver: Driver, worker: Worker, queue: str) -> None:
    """It waits in any queue that has records of the lane."""
    await driver.enqueue([*some("a"), *some("b", queue=queue)])
    held = await worker.take_one()
    assert await Worker(driver, "other", queues=(queue,)).take(5) == ()
    waiting = asyncio.create_task(driver.step(waiting_step(queue)))
    await asyncio.sleep(0)
    await worker.settle(held)
    assert ids((await soon(waiting)).reserved) == ["b"]


async def test_a_waiting_record_that_is_cancelled_leaves_its_lane(driver: Driver, worker: Worker) -> None:
    """The next one is the first of the lane."""
    await driver.enqueue(some("abc"))
    assert await cancel_one(driver, "a") == "cancelled"
    assert await cancel_one(driver, "c") == "cancelled"
    held = await worker.take_one()
    assert held.id == "b"
    assert (await worker.step(ack(held), want=5)).reserved == ()


async def test_a_requeued_record_waits_in_its_lane(driver: Driver, worker: Worker) -> None:
    """A finished and a scheduled record are due now, and need a place."""
    await driver.enqueue([*some("a"), record("s", lane=one(), due=HOUR)])
    await worker.settle(await worker.take_one())
    assert await requeue_one(driver, "a") == "requeued"
    assert await requeue_one(driver, "s") == "requeued"
    (held,) = await worker.take(5)
    assert held.id == "a"
    assert ids((await worker.step(ack(held), want=5)).reserved) == ["s"]


async def test_records_of_a_lane_wait_in_the_order_of_their_due_times(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """A released record keeps its position, and a retry comes at its new due time."""
    await driver.enqueue([record("late", lane=one(), due=3 * SECOND), *some("b"), *some("a")])
    taken = list[str]()
    for outcome in (Released(), Retried(SECOND, b"{}"), DONE, DONE, DONE):
        (held,) = await worker.take(5)
        taken.append(held.id)
        await worker.settle(held, outcome)
        clock.advance(SECOND)
    assert taken == ["a", "a", "b", "a", "late"]


async def test_a_scheduled_record_of_a_lane_is_due_at_its_time(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """The step says when that is; a record that is due before is not held up."""
    await driver.enqueue([record("b", lane=one(), due=HOUR), record("a", lane=one(), due=SECOND)])
    answer = await worker.step(want=5)
    assert (answer.reserved, answer.next_due) == ((), SECOND)
    await driver.enqueue(some("c"))
    (held,) = await worker.take(5)
    assert held.id == "c"
    clock.advance(SECOND)
    (held,) = (await worker.step(ack(held), want=5)).reserved
    assert held.id == "a"
    assert (await worker.step(ack(held), want=5)).next_due == HOUR - SECOND


async def test_a_step_that_is_sent_again_has_its_records_of_lanes(driver: Driver, worker: Worker) -> None:
    """They take no second place."""
    await driver.enqueue(some("abc", concurrency=2))
    taken = await worker.take(5)
    assert (await worker.again()).reserved == taken
    assert await worker.take(5) == ()
    answer = await worker.step(*[ack(held) for held in taken], want=5)
    assert ids(answer.reserved) == ["c"]
    assert (await worker.again()).reserved == answer.reserved


async def test_a_paused_queue_reserves_nothing_from_its_lanes(driver: Driver, worker: Worker) -> None:
    """Its lanes are nothing to do, until it is resumed. Their other queues go on."""
    await driver.enqueue([*some("a"), *some("b", queue="other")])
    await driver.pause_queue("q", paused=True)
    answer = await worker.step(want=5)
    assert (answer.reserved, answer.next_due) == ((), None)
    there = Worker(driver, "there", queues=("other",))
    (held,) = await there.take(5)
    await driver.pause_queue("q", paused=False)
    assert await worker.take(5) == ()
    await there.settle(held)
    assert ids(await worker.take(5)) == ["a"]


async def test_a_waiting_step_is_woken_for_a_lane_of_a_queue_that_is_resumed(driver: Driver) -> None:
    """It reserves the first record of the lane."""
    await driver.pause_queue("q", paused=True)
    await driver.enqueue(some("a"))
    waiting = asyncio.create_task(driver.step(waiting_step()))
    await asyncio.sleep(0.01)
    await driver.pause_queue("q", paused=False)
    assert ids((await soon(waiting)).reserved) == ["a"]


async def test_the_first_queue_goes_first_with_its_lanes(driver: Driver) -> None:
    """A lane that waits for a place does not keep a worker from its next queue."""
    await driver.enqueue([*some("ab", queue="high"), record("c", queue="low")])
    worker = Worker(driver, queues=("high", "low"))
    assert ids(await worker.take(1)) == ["a"]
    assert ids(await worker.take(5)) == ["c"]


async def test_an_expired_record_is_cancelled_when_its_lane_has_its_turn(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """It uses no place. While the lane waits for a place, its records do not expire."""
    await driver.enqueue([record("0", lane=one())])
    clock.advance(MS)
    await driver.enqueue([record("a", lane=one(), expires=SECOND), record("b", lane=one())])
    held = await worker.take_one()
    clock.advance(SECOND)
    answer = await worker.step(want=5)
    assert (answer.expired, answer.reserved) == ((), ())
    answer = await worker.step(ack(held), want=5)
    assert ([found.id for found in answer.expired], ids(answer.reserved)) == (["a"], ["b"])
    assert (await stored(driver, "a")).expired


async def test_the_expired_records_of_a_step_are_limited_in_lanes(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """The next step goes on with the rest."""
    await driver.enqueue([record(lane=one(), expires=SECOND) for _ in range(EXPIRE_PER_STEP + 1)])
    clock.advance(SECOND)
    answer = await worker.step(want=1)
    assert (len(answer.expired), answer.next_due) == (EXPIRE_PER_STEP, ZERO)
    answer = await worker.step(want=1)
    assert (len(answer.expired), answer.next_due) == (1, None)


# Changed limits


async def test_a_greater_concurrency_holds_from_the_next_free_place_on(driver: Driver, worker: Worker) -> None:
    """It is that of the last record that was enqueued with the limit."""
    await driver.enqueue(some("abcd"))
    held = await worker.take_one()
    await driver.enqueue(some("z", "other", concurrency=3))
    answer = await worker.step(ack(held), want=5)
    assert sorted(ids(answer.reserved)) == ["b", "c", "d", "z"]


async def test_a_record_of_the_lane_itself_changes_it_at_once(driver: Driver, worker: Worker) -> None:
    """A lane without a place has one again."""
    await driver.enqueue(some("ab"))
    await worker.take_one()
    assert await worker.take(5) == ()
    await driver.enqueue(some("c", concurrency=3))
    assert ids(await worker.take(5)) == ["b", "c"]


async def test_a_smaller_concurrency_holds_when_the_lane_has_its_turn(driver: Driver, worker: Worker) -> None:
    """The active records go on, and as many must end first."""
    await driver.enqueue(some("abcd", concurrency=3))
    taken = await worker.take(2)
    await driver.enqueue(some("z", "other", concurrency=1))
    assert ids(await worker.take(5)) == ["z"]
    assert (await worker.step(ack(taken[0]), want=5)).reserved == ()
    assert ids((await worker.step(ack(taken[1]), want=5)).reserved) == ["c"]


async def test_a_limit_may_have_a_concurrency_later(driver: Driver, worker: Worker) -> None:
    """The records that were active before count as well."""
    await driver.enqueue(some("ab", concurrency=None))
    first, second = await worker.take(5)
    await driver.enqueue(some("cd", concurrency=2))
    assert await worker.take(5) == ()
    assert ids((await worker.step(ack(first), want=5)).reserved) == ["c"]
    assert ids((await worker.step(ack(second), want=5)).reserved) == ["d"]


# Suspects


async def lose_one(driver: Driver, clock: ManualClock, **options: int) -> None:
    """Reserve the next record with a worker that dies, and recover it with another."""
    await Worker(driver, f"victim {options}").take_one()
    clock.advance(LEASE)
    await Worker(driver, f"heir {options}").step()


async def test_a_suspect_of_a_lane_runs_alone(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """The lane has its turn among the suspects, and its next record follows."""
    await driver.enqueue([record("a", lane=one(), max_recoveries=1)])
    await lose_one(driver, clock)
    clock.advance(MS)
    await driver.enqueue([*some("b"), record("z")])
    assert (await worker.step(suspect=False)).suspect_due
    assert ids(await worker.take(5, suspect=False)) == ["z"]
    (held,) = await worker.take(5)
    assert (held.id, held.suspect) == ("a", True)
    assert await worker.take(5) == ()
    assert ids((await worker.step(ack(held), want=5)).reserved) == ["b"]


async def test_a_record_without_recoveries_is_a_suspect_of_its_lane(driver: Driver, worker: Worker) -> None:
    """It holds a place like any other."""
    await driver.enqueue([record(name, lane=one(), max_recoveries=0) for name in "ab"])
    (held,) = await worker.take(5)
    assert await worker.take(5) == ()
    assert ids((await worker.step(ack(held), want=5)).reserved) == ["b"]


async def test_the_lanes_of_suspects_run_one_after_the_other(driver: Driver, worker: Worker) -> None:
    """Each is reserved alone."""
    for value in "xyz":
        await driver.enqueue([record(value, lane=one(value), max_recoveries=0)])
    taken = [ids(await worker.take(5)) for _ in range(4)]
    assert taken == [["x"], ["y"], ["z"], []]


async def test_a_suspect_of_a_lane_does_not_join_a_batch_in_a_later_round(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """In the first round both lanes lose an expired record, so the batch is empty when the second one begins."""
    for value in "xy":
        await driver.enqueue([record(f"late {value}", lane=one(value), expires=MS)])
        clock.advance(MS)
    for value, max_recoveries in (("x", 3), ("y", 0)):
        await driver.enqueue([record(value, lane=one(value), max_recoveries=max_recoveries)])
        clock.advance(MS)
    answer = await worker.step(want=5)
    assert [found.id for found in answer.expired] == ["late x", "late y"]
    assert (ids(answer.reserved), answer.suspect_due) == (["x"], True)


async def test_a_waiting_step_reserves_no_suspect_of_a_lane(driver: Driver, worker: Worker) -> None:
    """It is not woken for one."""
    await driver.enqueue([record("a", lane=one("x"), max_recoveries=0), *some("b", "y")])
    assert ids((await soon(driver.step(waiting_step(want=5)))).reserved) == ["b"]
    assert ids(await worker.take(5)) == ["a"]


# Reads


async def test_records_of_lanes_are_listed_and_counted_by_their_due_times(driver: Driver, clock: ManualClock) -> None:
    """They are queued or scheduled like any other, whatever their lane waits for."""
    await driver.enqueue([*some("abc"), record("s", lane=one(), due=HOUR)])
    await Worker(driver).take_one()
    assert [found.id for found in await everything(driver, "queued")] == ["c", "b"]
    assert [found.id for found in await everything(driver, "scheduled")] == ["s"]
    found = await stored(driver, "b")
    assert found.lane == Lane("crawl", "x")
    overview = await driver.overview()
    counts = overview.counts
    assert (counts.queued, counts.scheduled, counts.active) == (2, 1, 1)
    assert overview.oldest == {"q": clock.now()}
    assert (await stored(driver, "a")).lane == Lane("crawl", "x")


async def test_a_record_without_a_lane_is_read_without_one(driver: Driver) -> None:
    """Its lane is None."""
    await driver.enqueue([record("a")])
    assert (await stored(driver, "a")).lane is None


@pytest.mark.parametrize("value", ["", "a b", "\n", "\x00", "é😀", "{}", "a:b", 'quote"', "x" * 256, "\\"])
async def test_a_lane_may_have_any_value(driver: Driver, worker: Worker, value: str) -> None:
    """The value is read as it was stored."""
    await driver.enqueue([record(name, lane=one(value)) for name in "ab"])
    (held,) = await worker.take(5)
    assert (await stored(driver, "b")).lane == Lane("crawl", value)
    assert [found.value for found in (await driver.overview()).lanes] == [value]
    assert ids((await worker.step(ack(held), want=5)).reserved) == ["b"]
