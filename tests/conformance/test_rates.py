"""The rates of lanes: at most so many starts in any period, exactly."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from flowli_core.driver import Released, Retried
from flowli_core.durations import ZERO
from flowli_core.lanes import Lane, Rate
from tests.conformance.builders import HOUR, LEASE, Worker, ack, ids, record, soon, waiting_step

if TYPE_CHECKING:
    from flowli_core.driver import Driver
    from flowli_core.new_records import NewRecord
    from flowli_core.testing import ManualClock

MS = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)


def at_rate(
    names: str,
    count: int = 1,
    period: timedelta = SECOND,
    *,
    value: str = "x",
    concurrency: int | None = None,
    queue: str = "q",
    due: timedelta = ZERO,
) -> list[NewRecord]:
    """Make a record of a lane with a rate for each letter."""
    lane = Lane("api", value, concurrency, Rate(count, period))
    return [record(name, queue=queue, lane=lane, due=due) for name in names]


async def test_a_rate_allows_as_many_starts_at_once_as_it_counts(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """The next one is allowed on the millisecond, and the step says when that is."""
    await driver.enqueue(at_rate("abcdef", 3))
    answer = await worker.step(want=10, lease=HOUR)
    assert (ids(answer.reserved), answer.next_due) == (["a", "b", "c"], SECOND)
    clock.advance(SECOND - MS)
    assert (await worker.step(want=10)).next_due == MS
    clock.advance(MS)
    assert ids(await worker.take(10)) == ["d", "e", "f"]


async def test_the_period_slides(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """Each start is over a period after it, on its own."""
    await driver.enqueue(at_rate("abcdef", 2))
    taken = list[tuple[str, int]]()
    start = clock.now()
    for wanted in (1, 0, 1, 5, 5, 5, 5, 5, 5):
        taken += [(one.id, (clock.now() - start) // MS) for one in await worker.take(wanted)]
        clock.advance("300ms")
    assert taken == [("a", 0), ("b", 600), ("c", 1200), ("d", 1800), ("e", 2400)]


async def test_settling_a_record_gives_no_start_back(driver: Driver, worker: Worker) -> None:
    """A rate counts starts, whatever became of them."""
    await driver.enqueue(at_rate("ab"))
    (held,) = await worker.take(5)
    answer = await worker.step(ack(held), want=5)
    assert (answer.reserved, answer.next_due) == ((), SECOND)


async def test_retries_and_releases_are_starts(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A record that starts again counts again."""
    await driver.enqueue(at_rate("a"))
    for outcome in (Released(), Retried(MS, b"{}")):
        await worker.settle(await worker.take_one(), outcome)
        clock.advance("999ms")
        assert await worker.take(5) == ()
        clock.advance(MS)
    assert ids(await worker.take(5)) == ["a"]


async def test_a_recovered_record_starts_when_its_rate_allows_it(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """The recovery itself is no start."""
    await driver.enqueue(at_rate("a", period=HOUR))
    await Worker(driver, "victim").take_one()
    clock.advance(LEASE)
    answer = await worker.step(want=5)
    assert (len(answer.recovered), answer.reserved, answer.next_due) == (1, (), HOUR - LEASE)
    clock.advance(HOUR - LEASE)
    assert ids(await worker.take(5)) == ["a"]


async def test_a_rate_counts_the_starts_in_all_queues(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A lane that waits for its rate does so in each queue."""
    await driver.enqueue([*at_rate("a"), *at_rate("b", queue="other")])
    there = Worker(driver, "there", queues=("other",))
    (held,) = await worker.take(5)
    await worker.settle(held)
    answer = await there.step(want=5)
    assert (answer.reserved, answer.next_due) == ((), SECOND)
    clock.advance(SECOND)
    assert ids(await there.take(5)) == ["b"]


async def test_each_value_has_its_own_rate(driver: Driver, worker: Worker) -> None:
    """The starts of a lane do not hold up another."""
    await driver.enqueue([*at_rate("ab", value="x"), *at_rate("cd", value="y"), record("r")])
    assert sorted(ids(await worker.take(10))) == ["a", "c", "r"]


async def test_a_lane_needs_a_place_and_its_rate(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """It waits for whatever comes last."""
    await driver.enqueue(at_rate("abc", 2, concurrency=1))
    (held,) = await worker.take(5)
    (held,) = (await worker.step(ack(held), want=5)).reserved
    answer = await worker.step(ack(held), want=5)
    assert (answer.reserved, answer.next_due) == ((), SECOND)
    clock.advance(SECOND)
    assert ids(await worker.take(5)) == ["c"]


async def test_a_lane_that_waits_for_its_rate_wakes_nobody(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """The overview says what it waits for, and until when."""
    now = clock.now()
    await driver.enqueue(at_rate("abc"))
    await worker.take(5, lease=HOUR)
    (lane,) = (await driver.overview()).lanes
    assert (lane.waiting, lane.active, lane.blocked, lane.next_turn) == (2, 1, "rate", now + SECOND)
    assert (lane.concurrency, lane.rate) == (None, Rate(1, SECOND))
    clock.advance(SECOND)
    (lane,) = (await driver.overview()).lanes
    assert (lane.blocked, lane.next_turn) == (None, now + SECOND)


async def test_a_rate_wakes_a_waiting_step_in_time(live_driver: Driver) -> None:
    """The step waits until the rate allows a start, and then reserves the record."""
    await live_driver.enqueue(at_rate("ab", period=timedelta(milliseconds=60)))
    assert len(await Worker(live_driver).take(5)) == 1
    taken = list[str]()
    while not taken:
        taken = ids((await soon(live_driver.step(waiting_step()))).reserved)
    assert taken == ["b"]


async def test_an_expired_record_is_no_start(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """It is cancelled when the lane has its turn, and the next record starts."""
    lane = Lane("api", "x", None, Rate(1, HOUR))
    await driver.enqueue([record("a", lane=lane, expires=SECOND), record("b", lane=lane)])
    clock.advance(SECOND)
    answer = await worker.step(want=5)
    assert ([one.id for one in answer.expired], ids(answer.reserved)) == (["a"], ["b"])


async def test_a_step_that_is_sent_again_counts_its_starts_once(driver: Driver, worker: Worker) -> None:
    """A second start would be over the rate."""
    await driver.enqueue(at_rate("abcd", 3))
    assert len(await worker.take(1)) == 1
    assert len((await worker.again()).reserved) == 1
    assert ids(await worker.take(5)) == ["b", "c"]


async def test_suspects_use_the_rate_of_their_lane(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """Each runs alone, and when the rate allows it."""
    lane = Lane("api", "x", None, Rate(1, SECOND))
    await driver.enqueue([record(name, lane=lane, max_recoveries=0) for name in "ab"])
    assert ids(await worker.take(5)) == ["a"]
    answer = await worker.step(want=5)
    assert (answer.reserved, answer.next_due, answer.suspect_due) == ((), SECOND, False)
    clock.advance(SECOND)
    assert ids(await worker.take(5)) == ["b"]


async def test_a_lane_goes_on_a_period_after_the_clock_was_set_back(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """Starts that are later than now count as now."""
    await driver.enqueue(at_rate("abc", 2, due=HOUR))
    clock.advance(HOUR)
    assert ids(await worker.take(1)) == ["a"]
    clock.advance("1ms")
    assert ids(await worker.take(1)) == ["b"]
    clock.back(HOUR)
    answer = await worker.step(want=5)
    assert (answer.reserved, answer.next_due) == ((), SECOND)
    clock.advance(SECOND)
    assert ids(await worker.take(5)) == ["c"]


async def test_a_changed_rate_holds_when_the_lane_has_its_next_turn(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """Those of a longer period and of a smaller count hold from then on."""
    await driver.enqueue(at_rate("abcdef", 2))
    assert ids(await worker.take(1)) == ["a"]
    await driver.enqueue(at_rate("z", 1, value="other"))
    assert ids(await worker.take(5)) == ["z"]
    clock.advance(SECOND)
    assert ids(await worker.take(5)) == ["b"]


async def test_a_record_of_the_lane_itself_changes_its_rate_at_once(driver: Driver, worker: Worker) -> None:
    """The lane no longer waits."""
    await driver.enqueue(at_rate("ab", 1, HOUR))
    assert len(await worker.take(5)) == 1
    await driver.enqueue(at_rate("c", 3, HOUR))
    assert ids(await worker.take(5)) == ["b", "c"]
    await driver.enqueue([record("d", lane=Lane("api", "x"))])
    assert ids(await worker.take(5)) == ["d"]


async def test_the_starts_of_a_lane_without_records_still_count(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """They are remembered for a period after the last one."""
    await driver.enqueue(at_rate("a"))
    await worker.settle(await worker.take_one())
    clock.advance("600ms")
    await driver.enqueue(at_rate("b"))
    answer = await worker.step(want=5)
    assert (answer.reserved, answer.next_due) == ((), timedelta(milliseconds=400))


async def test_many_starts_are_counted_exactly(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """No period of the rate holds more starts than it allows, and none is left unused."""
    count, period = 7, timedelta(milliseconds=100)
    lane = Lane("api", "x", None, Rate(count, period))
    await driver.enqueue([record(lane=lane) for _ in range(60)])
    starts = list[int]()
    now = 0
    for pause in (0, 13, 40, 47, 1, 99, 100, 30, 70, 20, 80, 150, 50, 50):
        clock.advance(pause * MS)
        now += pause
        allowed = count - len([start for start in starts if start > now - 100])
        taken = await worker.take(min(5, allowed + 1))
        assert len(taken) == min(5, allowed)
        starts += [now] * len(taken)
    assert len(starts) > 30
