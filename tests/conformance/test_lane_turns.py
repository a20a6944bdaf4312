"""The turns of lanes: with each other, and with the records that are in no lane."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from flowli_core.durations import ZERO
from flowli_core.lanes import MOST_LISTED_LANES, Lane, StoredLane
from tests.conformance.builders import HOUR, Worker, ack, ids, record
from tests.support.store import cancel_one

if TYPE_CHECKING:
    from flowli_core.driver import Driver
    from flowli_core.new_records import NewRecord
    from flowli_core.testing import ManualClock

MS = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)


def of_lane(value: str, number: int, *, concurrency: int | None = None, queue: str = "q") -> list[NewRecord]:
    """Make this many records of a lane, named after it."""
    lane = Lane("tenant", value, concurrency)
    return [record(f"{value}{index}", queue=queue, lane=lane) for index in range(number)]


def values(taken: list[str]) -> str:
    """Return the lane of each record."""
    return "".join([name[0] for name in taken])


async def test_lanes_take_turns_within_a_step(driver: Driver, worker: Worker) -> None:
    """A lane with many records does not come before the others again."""
    await driver.enqueue([*of_lane("a", 50), *of_lane("b", 3), *of_lane("c", 2)])
    assert values(ids(await worker.take(10))) == "abcabcabaa"


async def test_lanes_take_turns_over_steps(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """The turn of a lane that was served begins then."""
    await driver.enqueue([*of_lane("a", 50), *of_lane("b", 3)])
    clock.advance(MS)
    taken = list[str]()
    for _ in range(8):
        taken += ids(await worker.take(1))
        clock.advance(MS)
    assert values(taken) == "abababaa"


async def test_a_lane_that_comes_late_waits_for_one_round(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A hundred records that came before do not delay it."""
    await driver.enqueue(of_lane("a", 100))
    clock.advance(MS)
    await worker.take(5)
    await driver.enqueue(of_lane("b", 2))
    clock.advance(MS)
    assert "b" in values(ids(await worker.take(2)))


async def test_a_lane_keeps_its_turn_when_records_are_added(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """Its turn began before that of the other lane."""
    await driver.enqueue(of_lane("b", 1))
    clock.advance(MS)
    await driver.enqueue(of_lane("a", 1))
    clock.advance(MS)
    await driver.enqueue([record("b9", lane=Lane("tenant", "b"))])
    assert ids(await worker.take(2)) == ["b0", "a0"]


async def test_lanes_take_turns_with_records_in_no_lane(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A lane is due when its turn begins, a record at its due time."""
    await driver.enqueue([*of_lane("a", 5), record("r0")])
    clock.advance(MS)
    await driver.enqueue([record("r1"), record("r2")])
    clock.advance(MS)
    assert ids(await worker.take(2)) == ["a0", "r0"]
    assert ids(await worker.take(2)) == ["r1", "r2"]
    await driver.enqueue([record("r3")])
    assert ids(await worker.take(3)) == ["a1", "r3", "a2"]


async def test_a_turn_begins_when_a_place_is_free(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A lane that waited for a place comes behind what was due before that."""
    await driver.enqueue(of_lane("a", 2, concurrency=1))
    (held,) = await worker.take(1)
    clock.advance(MS)
    await driver.enqueue([record("r0")])
    clock.advance(MS)
    await worker.settle(held)
    clock.advance(MS)
    await driver.enqueue([record("r1")])
    assert ids(await worker.take(5)) == ["r0", "a1", "r1"]


async def test_a_turn_begins_when_the_first_record_is_due(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A lane whose next record is due later has its turn then."""
    await driver.enqueue([record("a0", lane=Lane("tenant", "a"), due=SECOND), record("r0", due=2 * SECOND)])
    await driver.enqueue([record("a1", lane=Lane("tenant", "a"), due=3 * SECOND), record("r1", due=3 * SECOND)])
    clock.advance(5 * SECOND)
    assert ids(await worker.take(3)) == ["a0", "r0", "r1"]
    assert ids(await worker.take(3)) == ["a1"]


async def test_an_expired_record_ends_the_turn_of_its_lane(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """The others are next."""
    await driver.enqueue([record("a0", lane=Lane("tenant", "a"), expires=MS)])
    await driver.enqueue([*of_lane("b", 2), record("a1", lane=Lane("tenant", "a"))])
    clock.advance(MS)
    answer = await worker.step(want=2)
    assert ([one.id for one in answer.expired], answer.reserved[0].id) == (["a0"], "b0")


async def test_a_step_that_leaves_due_lanes_says_so(driver: Driver, worker: Worker) -> None:
    """There is something to do at once."""
    await driver.enqueue(of_lane("a", 3))
    assert (await worker.step(want=2)).next_due == ZERO
    assert ids(await worker.take(5)) == ["a2"]


async def test_turns_go_on_when_the_clock_was_set_back(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """Lanes that were due stay due, and go on taking turns."""
    clock.advance(HOUR)
    await driver.enqueue([*of_lane("a", 9), *of_lane("b", 9), record("s", due=HOUR)])
    await worker.take(1)
    clock.back(HOUR)
    await worker.step()
    taken = list[str]()
    for _ in range(4):
        clock.advance(MS)
        taken += ids(await worker.take(1))
    assert values(taken) == "abab"


# The overview


async def test_an_overview_lists_the_deepest_lanes(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """Each with what it waits for, and when it has its next turn."""
    now = clock.now()
    await driver.enqueue([*of_lane("a", 3, concurrency=1), *of_lane("b", 4, concurrency=1)])
    await driver.enqueue([record("c0", queue="other", lane=Lane("tenant", "c", 1), due=HOUR)])
    await Worker(driver, "x").take(1)
    clock.advance(SECOND)
    overview = await driver.overview()
    assert overview.lane_count == 3
    assert overview.lanes == (
        StoredLane(queue="q", limit="tenant", value="b", waiting=4, active=0, concurrency=1, next_turn=now),
        StoredLane(queue="q", limit="tenant", value="a", waiting=2, active=1, concurrency=1, blocked="concurrency"),
        StoredLane(queue="other", limit="tenant", value="c", waiting=1, active=0, concurrency=1, next_turn=now + HOUR),
    )


async def test_an_overview_lists_a_lane_for_each_queue(driver: Driver) -> None:
    """Its active records are those of all queues."""
    await driver.enqueue(of_lane("a", 3))
    await driver.enqueue([record(f"other {number}", queue="other", lane=Lane("tenant", "a")) for number in range(4)])
    await Worker(driver).take(1)
    overview = await driver.overview()
    assert [(one.queue, one.waiting, one.active) for one in overview.lanes] == [("other", 4, 1), ("q", 2, 1)]
    assert overview.lane_count == 2


async def test_an_overview_lists_few_lanes_and_counts_all(driver: Driver) -> None:
    """Those that it leaves out have fewer records."""
    lanes = [Lane("tenant", f"v{number}") for number in range(MOST_LISTED_LANES + 5)]
    await driver.enqueue([record(lane=lane) for lane in lanes])
    await driver.enqueue([record(lane=lane) for lane in lanes[5:]])
    overview = await driver.overview()
    assert overview.lane_count == MOST_LISTED_LANES + 5
    assert {one.value for one in overview.lanes} == {lane.value for lane in lanes[5:]}


async def test_the_oldest_due_record_may_be_in_a_lane(driver: Driver, clock: ManualClock) -> None:
    """Its lane may have had a turn since."""
    now = clock.now()
    await driver.enqueue(of_lane("a", 3))
    clock.advance(SECOND)
    await driver.enqueue([record("r")])
    await Worker(driver).take(1)
    assert (await driver.overview()).oldest == {"q": now}


async def test_a_lane_without_records_is_gone(driver: Driver, worker: Worker) -> None:
    """The records were settled, cancelled, or moved to another state in any other way."""
    await driver.enqueue([*of_lane("a", 3, concurrency=1), *of_lane("b", 1)])
    await worker.step(*[ack(held) for held in await worker.take(2)])
    assert await cancel_one(driver, "a1") == "cancelled"
    await worker.step(*[ack(held) for held in await worker.take(1)])
    overview = await driver.overview()
    assert (overview.lanes, overview.lane_count) == ((), 0)
    assert (await worker.step(want=5)).next_due is None


async def test_an_expired_record_uses_the_turn_of_its_lane_in_a_round(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """A round has as many turns as the step still wants records. So here another begins, with the same lane."""
    await driver.enqueue([record("late", lane=Lane("tenant", "a", 9), expires=MS)])
    clock.advance(MS)
    await driver.enqueue([record("a", lane=Lane("tenant", "a", 9)), record("z")])
    answer = await worker.step(want=1)
    assert ([found.id for found in answer.expired], ids(answer.reserved)) == (["late"], ["a"])
    assert ids(await worker.take(5)) == ["z"]


async def test_an_expired_record_in_no_lane_ends_no_round(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """The lane that follows it in its round has another turn in the next one, before a lane that is behind both."""
    await driver.enqueue([record("late", expires=MS)])
    clock.advance(MS)
    await driver.enqueue([*of_lane("a", 2), *of_lane("b", 1)])
    answer = await worker.step(want=2)
    assert ([found.id for found in answer.expired], ids(answer.reserved)) == (["late"], ["a0", "a1"])


async def test_a_suspect_that_is_passed_over_ends_no_round(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """The record that is due now is in the round, and so comes before the next turn of the lane, which begins now."""
    await driver.enqueue([*of_lane("a", 2), record("s", max_recoveries=0)])
    clock.advance(MS)
    await driver.enqueue([record("u")])
    assert ids(await worker.take(2)) == ["a0", "u"]


async def test_a_suspect_is_not_in_a_round_before_a_record_that_comes_first(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """A round has as many turns as the step still wants records. Those that had expired use them, and make room."""
    late = [record("l0", lane=Lane("tenant", "l"), expires=MS), record("l1", expires=MS)]
    await driver.enqueue(late)
    clock.advance(MS)
    await driver.enqueue([record("r")])
    clock.advance(MS)
    await driver.enqueue([record("s", max_recoveries=0)])
    answer = await worker.step(want=2, suspect=True)
    assert ([found.id for found in answer.expired], ids(answer.reserved)) == (["l0", "l1"], ["r"])
