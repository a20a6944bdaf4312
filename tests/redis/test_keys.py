"""Replaced records, and records behind others, as Redis stores them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core.driver import Cancelled, Completed, Outcome, Released, Retried
from flowli_core.drivers.redis import RedisDriver
from flowli_core.lanes import Lane
from flowli_core.stored import StoredSchedule, Watch
from flowli_core.testing import ManualClock
from tests.conformance.builders import (
    BROKEN,
    HOUR,
    LEASE,
    Worker,
    ack,
    assert_consistent,
    ids,
    lose,
    record,
    stored,
)
from tests.redis.server import shared_url
from tests.support.store import cancel_one, find, find_schedule, put, requeue_one

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flowli_core.new_records import Enqueued, NewRecord

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


def replacing(record_id: str, **options: Any) -> NewRecord:
    """Make a record that replaces the holder of the key k."""
    extra = {name: options.pop(name) for name in ("max_wait", "unique_for") if name in options}
    return replace(record(record_id, key="k", **options), on_conflict="replace", **extra)


def unique(record_id: str, **options: Any) -> NewRecord:
    """Make a record whose key stays unique for an hour."""
    return replace(record(record_id, key="k", **options), unique_for=HOUR)


async def enqueue(driver: RedisDriver, *records: NewRecord) -> list[tuple[str, str, str]]:
    """Enqueue records, and return the id, disposition and state of each answer."""
    return [(one.id, one.disposition, one.state) for one in await driver.enqueue(records)]


async def test_a_waiting_record_becomes_the_new_one(driver: RedisDriver, clock: ManualClock, worker: Worker) -> None:
    """It keeps its id and its creation time, and nothing else."""
    created = clock.now()
    await driver.enqueue([record("a", key="k", input=b"1", meta=b"{}", name="old", expires=HOUR)])
    await worker.settle(await worker.take_one(), Retried(HOUR, b'{"failures":1}'))
    clock.advance(MINUTE)
    new = replacing("b", name="new", queue="p", input=b"2", due=MINUTE, policy=b'{"v":2}', max_recoveries=1)
    answers: list[Enqueued] = await driver.enqueue([new])
    assert [(one.id, one.disposition, one.state) for one in answers] == [("a", "replaced", "scheduled")]
    assert answers[0].scheduled_for == clock.now() + MINUTE
    found = await stored(driver, "a")
    assert (found.name, found.queue, found.input, found.meta, found.policy) == ("new", "p", b"2", None, b'{"v":2}')
    assert (found.attempts, found.expires_at, found.max_recoveries) == (None, None, 1)
    assert (found.created_at, found.scheduled_for) == (created, clock.now() + MINUTE)
    assert await find(driver, "b") is None
    assert list((await driver.overview()).counts.by_queue) == ["p"]
    clock.advance(MINUTE)
    assert await worker.take() == ()
    held = await Worker(driver, "v", queues=("p",)).take_one()
    assert (held.id, held.input, held.attempts) == ("a", b"2", None)


async def test_an_earlier_due_time_is_reserved_first(driver: RedisDriver, worker: Worker) -> None:
    """A scheduled record that is replaced by one that is due is due."""
    await driver.enqueue([record("a", key="k", due=HOUR)])
    assert await enqueue(driver, replacing("b")) == [("a", "replaced", "queued")]
    assert ids(await worker.take()) == ["a"]


async def test_a_suspect_that_is_replaced_is_none(driver: RedisDriver, clock: ManualClock, worker: Worker) -> None:
    """A replaced record has no recoveries."""
    await driver.enqueue([record("a", key="k", max_recoveries=1)])
    await lose(driver, clock)
    assert await enqueue(driver, replacing("b")) == [("a", "replaced", "queued")]
    (held,) = await worker.take(suspect=False)
    assert (held.recoveries, held.suspect) == (0, False)


async def test_a_debounced_record_waits_at_most_for_its_limit(driver: RedisDriver, clock: ManualClock) -> None:
    """Each call moves the due time, until `max_wait` after the creation."""
    start = clock.now()
    for _ in range(4):
        (answer,) = await driver.enqueue(
            [replacing(f"r{clock.now()}".replace(" ", ""), due=MINUTE, max_wait=2 * MINUTE)]
        )
        assert answer.scheduled_for == min(clock.now() + MINUTE, start + 2 * MINUTE)
        clock.advance(timedelta(seconds=40))
    (answer,) = await driver.enqueue([replacing("late", due=MINUTE, max_wait=MINUTE)])
    assert (answer.state, answer.scheduled_for) == ("queued", clock.now())


async def test_a_new_record_is_due_after_its_longest_wait(driver: RedisDriver, clock: ManualClock) -> None:
    """The limit counts without a conflict too, for durations and for moments."""
    answers = await driver.enqueue(
        [replace(record(due=due), max_wait=MINUTE) for due in (HOUR, clock.now() + HOUR, timedelta(seconds=5))]
    )
    assert [one.scheduled_for - clock.now() for one in answers] == [MINUTE, MINUTE, timedelta(seconds=5)]
    assert [(await stored(driver, one.id)).scheduled_for for one in answers] == [one.scheduled_for for one in answers]


async def test_an_expiry_counts_from_the_due_time_of_a_replaced_record(
    driver: RedisDriver, clock: ManualClock, worker: Worker
) -> None:
    """The expiry is that of the new record, from its due time as `max_wait` limits it."""
    await driver.enqueue([record("a", key="k", due=HOUR)])
    await driver.enqueue([replacing("b", due=HOUR, max_wait=MINUTE, expires=MINUTE, unique_for=HOUR, meta=b"m")])
    found = await stored(driver, "a")
    assert (found.expires_at, found.meta) == (clock.now() + 2 * MINUTE, b"m")
    clock.advance(2 * MINUTE)
    assert [one.id for one in (await worker.step(want=1)).expired] == ["a"]


async def test_each_record_of_a_call_sees_those_before_it(driver: RedisDriver, worker: Worker) -> None:
    """The last of several records with one key replaces the others."""
    assert await enqueue(
        driver, record("x"), replacing("a"), record("y"), replacing("b", input=b"2"), record("z", key="k")
    ) == [
        ("x", "accepted", "queued"),
        ("a", "accepted", "queued"),
        ("y", "accepted", "queued"),
        ("a", "replaced", "queued"),
        ("a", "existing", "queued"),
    ]
    held = await worker.take(5)
    assert [(one.id, one.input) for one in held] == [("a", b"2"), ("x", b"{}"), ("y", b"{}")]


async def test_a_shape_that_a_call_replaces_away_is_stored_again(driver: RedisDriver, worker: Worker) -> None:
    """The last record of a shape gives way, and the next of the call has the same shape."""
    await driver.enqueue([replacing("a", name="n", queue="p")])
    answers = await enqueue(
        driver, replacing("b"), record("c", name="n", queue="p"), record("d", name="n", queue="p", key="k")
    )
    assert [one[1] for one in answers] == ["replaced", "accepted", "existing"]
    assert ids(await Worker(driver, "v", queues=("p",)).take(2)) == ["c"]


async def test_a_duplicate_replaces_nothing(driver: RedisDriver) -> None:
    """A record whose id is stored is a duplicate, whatever its key."""
    await driver.enqueue([record("a", key="k"), record("b")])
    assert await enqueue(driver, replacing("b"), replacing("a")) == [
        ("b", "duplicate", "queued"),
        ("a", "duplicate", "queued"),
    ]


async def test_a_finished_record_is_not_replaced(driver: RedisDriver, worker: Worker) -> None:
    await driver.enqueue([record("a", key="k")])
    await worker.settle(await worker.take_one())
    assert await enqueue(driver, replacing("b")) == [("b", "accepted", "queued")]


async def test_watchers_see_that_a_record_is_replaced(driver: RedisDriver) -> None:
    await driver.enqueue([record("a", key="k")])
    await driver.watch(Watch(watcher="w", add=("a",)))
    await driver.enqueue([replacing("b")])
    assert await driver.watch(Watch(watcher="w", remove=("a",))) == ["a"]


async def active_and_behind(driver: RedisDriver, worker: Worker, **options: Any) -> Any:
    """Reserve a, and put b behind it."""
    await driver.enqueue([record("a", key="k")])
    held = await worker.take_one()
    state = "scheduled" if options.get("due") else "queued"
    assert await enqueue(driver, replacing("b", **options)) == [("b", "accepted", state)]
    return held


@pytest.mark.parametrize("outcome", [Completed(b"1"), BROKEN])
async def test_a_record_waits_behind_the_active_one(driver: RedisDriver, worker: Worker, outcome: Outcome) -> None:
    """It is counted and listed as waiting, and is reserved by the step in which the other one finishes."""
    held = await active_and_behind(driver, worker)
    await assert_consistent(driver)
    assert (await driver.overview()).counts.queued == 1
    assert (await worker.step(want=1)).reserved == ()
    assert await driver.fsck() == ()
    answer = await worker.step(ack(held, outcome), want=1)
    assert ids(answer.reserved) == ["b"]
    assert await worker.settle(answer.reserved[0]) == "ok"
    assert await enqueue(driver, record("c", key="k")) == [("c", "accepted", "queued")]


async def test_a_record_behind_another_wakes_nobody(
    driver: RedisDriver, worker: Worker, foreign: Any, prefix: str
) -> None:
    """Its queue has nothing to do until the other one finishes."""
    held = await active_and_behind(driver, worker, queue="p")
    assert foreign.exists(f"{{{prefix}}}:1:wake:p") == 0
    await worker.settle(held)
    assert foreign.exists(f"{{{prefix}}}:1:wake:p") == 1


async def test_a_record_waits_behind_one_that_is_retried(
    driver: RedisDriver, clock: ManualClock, worker: Worker
) -> None:
    """It waits until the last attempt of the other."""
    held = await active_and_behind(driver, worker)
    await worker.settle(held, Retried(MINUTE, b"{}"))
    assert await worker.take() == ()
    assert await driver.fsck() == ()
    clock.advance(MINUTE)
    (again,) = await worker.take(2)
    assert again.id == "a"
    assert ids((await worker.step(ack(again, BROKEN), want=2)).reserved) == ["b"]


async def test_a_record_behind_another_keeps_its_due_time(
    driver: RedisDriver, clock: ManualClock, worker: Worker
) -> None:
    held = await active_and_behind(driver, worker, due=HOUR)
    assert (await worker.step(ack(held), want=1)).next_due == HOUR
    assert await worker.take() == ()
    clock.advance(HOUR)
    assert ids(await worker.take()) == ["b"]


async def test_a_record_behind_another_is_replaced_in_place(driver: RedisDriver, worker: Worker) -> None:
    """It still waits for the active record."""
    held = await active_and_behind(driver, worker)
    assert await enqueue(driver, replacing("c", queue="p", input=b"3")) == [("b", "replaced", "queued")]
    other = Worker(driver, "v", queues=("q", "p"))
    assert await other.take() == ()
    assert await driver.fsck() == ()
    await worker.settle(held)
    (got,) = await other.take()
    assert (got.id, got.queue, got.input) == ("b", "p", b"3")


async def test_a_record_is_replaced_from_lane_to_lane(driver: RedisDriver, worker: Worker) -> None:
    """Waiting or behind another, it is in the lane of the last record, and nothing is left of the others."""
    lanes = [Lane("limit", value, concurrency=1) for value in ("x", "y")]
    await driver.enqueue([replace(record("busy"), lane=lanes[1])])
    busy = await worker.take_one()
    await driver.enqueue([replace(record("a", key="k"), lane=lanes[0])])
    assert await enqueue(driver, replace(replacing("b"), lane=lanes[1])) == [("a", "replaced", "queued")]
    assert await driver.fsck() == ()
    assert await worker.take() == ()
    assert await enqueue(driver, replacing("c")) == [("a", "replaced", "queued")]
    held = await worker.take_one()
    assert await enqueue(driver, replace(replacing("d"), lane=lanes[0])) == [("d", "accepted", "queued")]
    assert await enqueue(driver, replace(replacing("e"), lane=replace(lanes[1], concurrency=2))) == [
        ("d", "replaced", "queued")
    ]
    assert await driver.fsck() == ()
    assert await worker.take() == ()
    (got,) = (await worker.step(ack(held), want=2)).reserved
    assert got.id == "d"
    await worker.step(ack(got), ack(busy))
    assert (await driver.overview()).lane_count == 0


async def test_a_cancelled_record_returns_the_key_to_the_active_one(driver: RedisDriver, worker: Worker) -> None:
    held = await active_and_behind(driver, worker)
    assert await cancel_one(driver, "b") == "cancelled"
    assert await driver.fsck() == ()
    assert await enqueue(driver, record("c", key="k")) == [("a", "existing", "active")]
    assert await requeue_one(driver, "b") == "key_taken"
    assert await enqueue(driver, replacing("d")) == [("d", "accepted", "queued")]
    assert ids((await worker.step(ack(held), want=2)).reserved) == ["d"]


async def test_a_call_may_cancel_both(driver: RedisDriver, worker: Worker) -> None:
    """The record behind waits for an instant, and is then cancelled too."""
    held = await active_and_behind(driver, worker)
    await worker.settle(held, Released(HOUR))
    assert [await cancel_one(driver, one) for one in ("a", "b")] == ["cancelled", "cancelled"]
    assert await worker.take() == ()
    assert await enqueue(driver, record("c", key="k")) == [("c", "accepted", "queued")]


async def test_a_cancelled_active_record_lets_the_other_go_on(driver: RedisDriver, worker: Worker) -> None:
    held = await active_and_behind(driver, worker)
    assert await cancel_one(driver, "a") == "requested"
    assert ids((await worker.step(ack(held, Cancelled()), want=1)).reserved) == ["b"]


async def test_a_lost_record_lets_the_other_go_on(driver: RedisDriver, clock: ManualClock, worker: Worker) -> None:
    """A recovery fails the record, or returns it to its queue."""
    await driver.enqueue([record("a", key="k", max_recoveries=1)])
    await worker.take_one()
    await driver.enqueue([replacing("b")])
    clock.advance(LEASE)
    other = Worker(driver, "v")
    (again,) = await other.take(2)
    assert again.id == "a"
    clock.advance(LEASE)
    answer = await Worker(driver, "x").step(want=2)
    assert [one.state for one in answer.recovered] == ["failed"]
    assert ids(answer.reserved) == ["b"]


async def test_a_requeue_only_changes_when_a_record_behind_another_is_due(
    driver: RedisDriver, clock: ManualClock, worker: Worker
) -> None:
    held = await active_and_behind(driver, worker, due=HOUR)
    assert await requeue_one(driver, "b") == "requeued"
    found = await stored(driver, "b")
    assert (found.state, found.scheduled_for) == ("queued", clock.now())
    assert await requeue_one(driver, "b") == "unfinished"
    assert await worker.take() == ()
    assert await driver.fsck() == ()
    assert ids((await worker.step(ack(held), want=1)).reserved) == ["b"]


async def test_a_retried_record_that_another_waits_for_can_be_requeued(driver: RedisDriver, worker: Worker) -> None:
    """It does not hold its key any longer, but it has not finished."""
    held = await active_and_behind(driver, worker)
    await worker.settle(held, Retried(HOUR, b"{}"))
    assert await requeue_one(driver, "a") == "requeued"
    assert ids(await worker.take(2)) == ["a"]


async def test_a_ticks_record_may_replace_another(driver: RedisDriver) -> None:
    """The records of a schedule are stored as those of `enqueue`."""
    await driver.enqueue([record("a", key="k", due=HOUR)])
    schedule = StoredSchedule(key="s", queue="q", spec=b"{}", next_tick=None)
    assert await put(driver, schedule, [replacing("b", input=b"2"), record("c")])
    assert (await stored(driver, "a")).input == b"2"
    kept = await find_schedule(driver, "s")
    assert kept is not None
    assert kept.last_record_id == "c"


async def test_a_kept_key_is_free_after_its_time_although_the_id_of_its_record_is_used_again(
    driver: RedisDriver, worker: Worker, clock: ManualClock, prefix: str, foreign: Any
) -> None:
    """The record that has the id now has another key, which it keeps."""
    await driver.enqueue([unique("a")])
    await worker.settle(await worker.take_one())
    clock.advance(MINUTE)
    assert await driver.purge("completed", older_than=timedelta(0), limit=10) == 1
    await driver.enqueue([record("a", key="other", due=2 * HOUR)])
    clock.advance(HOUR)
    await worker.step()
    assert foreign.hgetall(f"{{{prefix}}}:1:holder") == {b"other": b"a"}
