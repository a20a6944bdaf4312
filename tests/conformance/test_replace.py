"""Records that replace the one that holds their key: while it waits, and while it is active."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.driver import Cancelled, Failed, Outcome, Released, Retried
from flowli_core.history import HistoryQuery
from flowli_core.lanes import Lane
from flowli_core.new_records import Enqueued
from flowli_core.reports import Report
from flowli_core.stored import StoredSchedule, Watch
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
from tests.support.store import cancel_one, find, requeue_one

if TYPE_CHECKING:
    from flowli_core.driver import Driver, Reserved
    from flowli_core.new_records import NewRecord
    from flowli_core.testing import ManualClock

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


def newer(record_id: str, *, due: timedelta = timedelta(0), queue: str = "q", max_recoveries: int = 3) -> NewRecord:
    """Make a record that replaces the holder of the key "k"."""
    return record(record_id, key="k", on_conflict="replace", due=due, queue=queue, max_recoveries=max_recoveries)


async def enqueue(driver: Driver, new: NewRecord) -> Enqueued:
    """Enqueue one record."""
    (answer,) = await driver.enqueue([new])
    return answer


async def test_a_waiting_record_is_replaced(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """It becomes the new one, with its id and the time at which it was created."""
    created = clock.now()
    old = record("a", key="k", name="old", input=b"1", meta=b"m", policy=b'{"old":1}', max_recoveries=1)
    await driver.enqueue([replace(old, expires=HOUR)])
    clock.advance("2s")
    new = record("b", key="k", name="new", input=b"22", policy=b'{"new":1}', on_conflict="replace", due=MINUTE)
    answer = await enqueue(driver, new)
    due = clock.now() + MINUTE
    assert answer == Enqueued(id="a", disposition="replaced", state="scheduled", scheduled_for=due)
    found = await stored(driver, "a")
    assert (found.name, found.input, found.meta, found.policy) == ("new", b"22", None, b'{"new":1}')
    assert (found.max_recoveries, found.created_at, found.updated_at) == (3, created, clock.now())
    assert (found.scheduled_for, found.expires_at, found.key) == (due, None, "k")
    assert await find(driver, "b") is None
    assert await worker.take() == ()
    clock.advance(MINUTE)
    (held,) = await worker.take(5)
    assert (held.id, held.name, held.input) == ("a", "new", b"22")


async def test_a_scheduled_record_is_replaced_by_one_that_is_due(driver: Driver, worker: Worker) -> None:
    """The new record is due at once, and wakes a waiting step."""
    await driver.enqueue([record("a", key="k", due=HOUR)])
    assert await worker.take() == ()
    assert (await enqueue(driver, newer("b"))).state == "queued"
    assert ids((await soon(driver.step(waiting_step()))).reserved) == ["a"]


async def test_without_a_holder_the_record_is_accepted(driver: Driver, worker: Worker) -> None:
    """This also holds if another record with its key has finished."""
    assert (await enqueue(driver, newer("a"))).disposition == "accepted"
    await worker.settle(await worker.take_one())
    assert (await enqueue(driver, newer("b"))).disposition == "accepted"
    assert ids(await worker.take(5)) == ["b"]


async def test_a_record_with_the_same_id_is_a_duplicate(driver: Driver) -> None:
    """The id is looked at before the key."""
    await driver.enqueue([newer("a", due=HOUR)])
    answer = await enqueue(driver, newer("a"))
    assert (answer.id, answer.disposition, answer.state) == ("a", "duplicate", "scheduled")


async def test_the_replaced_record_may_be_kept_again(driver: Driver) -> None:
    """The record that has replaced another holds the key like any other."""
    await driver.enqueue([newer("a"), newer("b")])
    answer = await enqueue(driver, record("c", key="k"))
    assert (answer.id, answer.disposition) == ("a", "existing")


async def test_a_record_that_waits_for_a_retry_is_replaced(driver: Driver, worker: Worker) -> None:
    """Its attempts, its progress and its log are gone, and a late outcome of the old one is lost."""
    await driver.enqueue([record("a", key="k")])
    held = await worker.take_one()
    report = Report(held.id, held.token, b'{"done":1}', (b'{"text":"x"}',))
    await worker.step(ack(held, Retried(HOUR, b'{"failures":1}')), reports=(report,))
    assert (await stored(driver, "a")).attempts == b'{"failures":1}'
    answer = await enqueue(driver, newer("b"))
    assert (answer.id, answer.disposition, answer.attempts) == ("a", "replaced", None)
    found = await stored(driver, "a")
    assert (found.attempts, found.failed_at, found.started_at, found.worker) == (None, None, None, None)
    assert (found.progress, found.log) == (None, ())
    assert await worker.settle(held) == "lost"
    again = await worker.take_one()
    assert (again.attempts, again.id) == (None, "a")
    assert again.token > held.token


async def test_a_suspect_is_replaced_by_a_record_that_is_none(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """The new record has not been recovered yet, so it may run beside others. A late heartbeat changes nothing."""
    await driver.enqueue([record("a", key="k", max_recoveries=1)])
    victim = Worker(driver, "victim")
    held = await victim.take_one()
    clock.advance(LEASE)
    await worker.step()
    assert (await stored(driver, "a")).recoveries == 1
    await driver.enqueue([newer("b", max_recoveries=1), record("z")])
    assert (await driver.heartbeat("victim", [lease_of(held)], LEASE)).lost == {"a"}
    assert (await stored(driver, "a")).recoveries == 0
    assert ids(await worker.take(5)) == ["a", "z"]


async def test_a_record_may_be_replaced_by_a_suspect(driver: Driver, worker: Worker) -> None:
    """A record without recoveries is a suspect at once, and runs alone."""
    await driver.enqueue([record("a", key="k"), record("z"), newer("b", max_recoveries=0)])
    assert ids(await worker.take(5)) == ["a"]
    assert ids(await worker.take(5)) == ["z"]


async def test_a_record_moves_to_the_queue_of_the_new_one(driver: Driver, worker: Worker) -> None:
    """It is no longer in its old queue."""
    await driver.enqueue([record("a", key="k"), newer("b", queue="other")])
    assert (await worker.step(want=5)).reserved == ()
    assert (await driver.overview()).counts.by_queue.keys() == {"other"}
    assert ids(await Worker(driver, "there", queues=("other",)).take(5)) == ["a"]


async def test_a_record_moves_to_the_lane_of_the_new_one(driver: Driver, worker: Worker) -> None:
    """It also moves from a lane to another, and to none."""
    first, second = Lane("crawl", "a", 1), Lane("crawl", "b", 1)
    for lane in (first, second, None):
        await driver.enqueue([replace(newer("r"), id=f"r {lane}", lane=lane)])
        overview = await driver.overview()
        assert [one.value for one in overview.lanes] == ([] if lane is None else [lane.value])
        found = await stored(driver, f"r {first}")
        assert found.lane == (None if lane is None else Lane("crawl", lane.value))
    assert len(await worker.take(5)) == 1


async def test_the_records_of_one_call_replace_each_other(driver: Driver, worker: Worker) -> None:
    """Each record sees those before it."""
    answers = await driver.enqueue([newer("a"), newer("b"), record("c", key="k"), newer("d", due=HOUR)])
    assert [(answer.id, answer.disposition) for answer in answers] == [
        ("a", "accepted"),
        ("a", "replaced"),
        ("a", "existing"),
        ("a", "replaced"),
    ]
    assert (await stored(driver, "a")).state == "scheduled"


async def test_a_replaced_record_expires_as_the_new_one(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """The expiry of the old one is gone."""
    await driver.enqueue([record("a", key="k", expires=SECOND)])
    await driver.enqueue([replace(newer("b"), expires=MINUTE)])
    assert (await stored(driver, "a")).expires_at == clock.now() + MINUTE
    clock.advance(MINUTE)
    answer = await worker.step(want=5)
    assert ([one.id for one in answer.expired], answer.reserved) == (["a"], ())


async def test_a_watcher_learns_of_a_replacement(driver: Driver) -> None:
    """A record that is replaced has changed."""
    await driver.enqueue([record("a", key="k")])
    await driver.watch(Watch(watcher="x", add=("a",)))
    await driver.enqueue([newer("b")])
    assert await driver.watch(Watch(watcher="x")) == ["a"]


async def test_a_schedule_replaces_the_record_of_its_last_tick(driver: Driver) -> None:
    """The records of `put_schedule` are stored as those of `enqueue`."""
    await driver.enqueue([record("a", key="k", due=HOUR)])
    schedule = StoredSchedule(key="s", queue="q", spec=b"{}", next_tick=None)
    assert await driver.put_schedule("s", schedule, revision=0, records=[newer("b"), newer("c")])
    assert (await stored(driver, "a")).state == "queued"
    assert await find(driver, "b") is None


# max_wait


async def test_max_wait_limits_the_due_time(driver: Driver, clock: ManualClock) -> None:
    """Each replacement moves the record back, until it is due `max_wait` after it was created."""
    created = clock.now()

    async def push_back() -> timedelta:
        await driver.enqueue([replace(newer(f"n {clock.now()}", due=5 * SECOND), max_wait=12 * SECOND)])
        (found,) = await everything(driver, "scheduled")
        return found.scheduled_for - created

    assert await push_back() == 5 * SECOND
    clock.advance("4s")
    assert await push_back() == 9 * SECOND
    clock.advance("4s")
    assert await push_back() == 12 * SECOND
    clock.advance("3s")
    assert await push_back() == 12 * SECOND


async def test_a_new_record_is_due_within_its_max_wait(driver: Driver, clock: ManualClock) -> None:
    """This also holds for a record that replaces none, and for one that is due at a moment."""
    await driver.enqueue([record("a", due=HOUR, max_wait=MINUTE)])
    await driver.enqueue([record("b", due=clock.now() + HOUR, max_wait=MINUTE)])
    for name in "ab":
        assert (await stored(driver, name)).scheduled_for == clock.now() + MINUTE


async def test_a_record_past_its_max_wait_is_due_now(driver: Driver, clock: ManualClock) -> None:
    """It is not due in the past."""
    await driver.enqueue([newer("a")])
    clock.advance(HOUR)
    answer = await enqueue(driver, replace(newer("b", due=MINUTE), max_wait=SECOND))
    assert (answer.state, answer.scheduled_for) == ("queued", clock.now())


# Behind an active record


OUTCOMES = (DONE, Failed(b"{}"), Cancelled())


async def held(driver: Driver, worker: Worker, new: NewRecord | None = None) -> Reserved:
    """Store and reserve the record "a", and store one that waits behind it. Return what was reserved."""
    await driver.enqueue([record("a", key="k")])
    taken = await worker.take_one()
    answer = await enqueue(driver, new or newer("b"))
    assert answer.disposition == "accepted"
    return taken


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_a_record_waits_for_the_active_one(driver: Driver, worker: Worker, outcome: Outcome) -> None:
    """It is stored as queued, but is nothing to do until the other one has finished."""
    taken = await held(driver, worker)
    assert (await stored(driver, "b")).state == "queued"
    answer = await worker.step(want=5)
    assert (answer.reserved, answer.next_due) == ((), LEASE)
    assert (await driver.overview()).oldest == {}
    answer = await worker.step(ack(taken, outcome), want=5)
    assert (answer.acks, ids(answer.reserved)) == (("ok",), ["b"])


async def test_the_end_of_the_active_record_wakes_a_waiting_step(driver: Driver, worker: Worker) -> None:
    """The record behind it has become due in that transition."""
    taken = await held(driver, worker)
    await worker.settle(taken)
    assert ids((await soon(driver.step(waiting_step()))).reserved) == ["b"]


async def test_a_record_behind_another_is_due_at_its_own_time(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """If that is later than the end of the other one, it is scheduled until then."""
    taken = await held(driver, worker, newer("b", due=MINUTE))
    assert (await stored(driver, "b")).state == "scheduled"
    answer = await worker.step(ack(taken), want=5)
    assert (answer.reserved, answer.next_due) == ((), MINUTE)
    clock.advance(MINUTE)
    assert ids(await worker.take(5)) == ["b"]


@pytest.mark.parametrize("outcome", [Retried(SECOND, b"{}"), Released(SECOND), Released()])
async def test_a_record_stays_behind_one_that_runs_again(
    driver: Driver, worker: Worker, clock: ManualClock, outcome: Outcome
) -> None:
    """The other one has not finished."""
    taken = await held(driver, worker)
    await worker.settle(taken, outcome)
    clock.advance(SECOND)
    (again,) = await worker.take(5)
    assert again.id == "a"
    await worker.settle(again)
    assert ids(await worker.take(5)) == ["b"]


async def test_a_record_stays_behind_one_that_is_recovered(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """It is due when the recovered one has finished."""
    await held(driver, Worker(driver, "victim"))
    clock.advance(LEASE)
    (again,) = await worker.take(5)
    assert (again.id, again.recoveries) == ("a", 1)
    await worker.settle(again)
    assert ids(await worker.take(5)) == ["b"]


async def test_a_recovery_that_finishes_the_active_record_frees_the_one_behind(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """It fails after too many recoveries, or is cancelled as requested."""
    await driver.enqueue([record("a", key="k", max_recoveries=0)])
    await Worker(driver, "victim").take_one()
    await driver.enqueue([newer("b")])
    clock.advance(LEASE)
    answer = await worker.step(want=5)
    assert ([one.state for one in answer.recovered], ids(answer.reserved)) == (["failed"], ["b"])
    await driver.enqueue([newer("c")])
    assert await cancel_one(driver, "b") == "requested"
    clock.advance(LEASE)
    answer = await Worker(driver, "heir").step(want=5)
    assert ([one.state for one in answer.recovered], ids(answer.reserved)) == (["cancelled"], ["c"])


async def test_a_retry_that_is_cancelled_frees_the_record_behind(driver: Driver, worker: Worker) -> None:
    """The record that waits for its retry is cancelled by an operator."""
    taken = await held(driver, worker)
    await worker.settle(taken, Retried(HOUR, b"{}"))
    assert await cancel_one(driver, "a") == "cancelled"
    assert ids(await worker.take(5)) == ["b"]


async def test_a_retry_with_a_record_behind_it_may_be_requeued(driver: Driver, worker: Worker) -> None:
    """It has not finished, so it needs no key."""
    taken = await held(driver, worker)
    await worker.settle(taken, Retried(HOUR, b"{}"))
    assert await requeue_one(driver, "a") == "requeued"
    assert ids(await worker.take(5)) == ["a"]


async def test_a_record_behind_another_holds_the_key(driver: Driver, worker: Worker) -> None:
    """It keeps others out, also when the other one has finished."""
    taken = await held(driver, worker)
    assert (await enqueue(driver, record("c", key="k"))).id == "b"
    await worker.settle(taken)
    assert (await enqueue(driver, record("c", key="k"))).id == "b"
    assert await requeue_one(driver, "a") == "key_taken"


async def test_a_record_behind_another_is_replaced_in_place(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """It stays behind the active one."""
    taken = await held(driver, worker)
    clock.advance(SECOND)
    answer = await enqueue(driver, record("c", key="k", on_conflict="replace", input=b"3", queue="other"))
    assert (answer.id, answer.disposition) == ("b", "replaced")
    there = Worker(driver, "there", queues=("other", "q"))
    assert await there.take(5) == ()
    await worker.settle(taken)
    (next_one,) = await there.take(5)
    assert (next_one.id, next_one.input, next_one.queue) == ("b", b"3", "other")


async def test_a_record_behind_a_retry_is_replaced_in_place(driver: Driver, worker: Worker) -> None:
    """The one that waits for its retry is not replaced, because the other one holds the key."""
    taken = await held(driver, worker)
    await worker.settle(taken, Retried(HOUR, b"{}"))
    answer = await enqueue(driver, newer("c"))
    assert (answer.id, answer.disposition) == ("b", "replaced")
    assert await worker.take(5) == ()
    assert (await stored(driver, "a")).attempts == b"{}"


async def test_a_record_behind_another_that_is_cancelled_gives_the_key_back(driver: Driver, worker: Worker) -> None:
    """The active one holds it again, so the next one waits for it as well."""
    taken = await held(driver, worker)
    assert await cancel_one(driver, "b") == "cancelled"
    assert (await enqueue(driver, record("c", key="k"))).id == "a"
    assert await requeue_one(driver, "b") == "key_taken"
    assert (await enqueue(driver, newer("d"))).disposition == "accepted"
    assert await worker.take(5) == ()
    await worker.settle(taken)
    assert ids(await worker.take(5)) == ["d"]


async def test_the_key_that_was_given_back_is_free_at_the_end(driver: Driver, worker: Worker) -> None:
    """The active record frees it as any other."""
    taken = await held(driver, worker)
    await cancel_one(driver, "b")
    await worker.settle(taken)
    assert (await enqueue(driver, record("c", key="k"))).disposition == "accepted"


async def test_a_due_record_behind_another_cannot_be_requeued(driver: Driver, worker: Worker) -> None:
    """It is queued already; a scheduled one becomes due, and stays behind."""
    taken = await held(driver, worker)
    assert await requeue_one(driver, "b") == "unfinished"
    await driver.enqueue([newer("c", due=HOUR)])
    assert await requeue_one(driver, "b") == "requeued"
    assert (await stored(driver, "b")).state == "queued"
    assert await worker.take(5) == ()
    await worker.settle(taken)
    assert ids(await worker.take(5)) == ["b"]


async def test_records_follow_each_other_one_by_one(driver: Driver, worker: Worker) -> None:
    """At most one of them is active, and at most one waits behind it."""
    await driver.enqueue([newer("a")])
    for name, following in zip("bcd", "cde", strict=True):
        taken = await worker.take_one()
        await driver.enqueue([newer(name)])
        assert (await enqueue(driver, newer(following + "2"))).id == name
        assert await worker.take(5) == ()
        await worker.settle(taken)
    assert ids(await worker.take(5)) == ["d"]


async def test_a_suspect_behind_another_runs_alone(driver: Driver, worker: Worker) -> None:
    """It is among the suspects of its queue once the other one has finished."""
    taken = await held(driver, worker, newer("b", max_recoveries=0))
    await driver.enqueue([record("z")])
    await worker.settle(taken)
    assert ids(await worker.take(5)) == ["b"]
    assert ids(await worker.take(5)) == ["z"]


async def test_a_record_behind_another_in_a_lane_needs_a_place(driver: Driver, worker: Worker) -> None:
    """It joins its lane when the other one has finished."""
    lane = Lane("crawl", "a", 1)
    taken = await held(driver, worker, replace(newer("b"), lane=lane))
    await driver.enqueue([record("x", lane=lane)])
    (other,) = await worker.take(5)
    assert other.id == "x"
    await worker.settle(taken)
    assert await worker.take(5) == ()
    await worker.settle(other)
    assert ids(await worker.take(5)) == ["b"]


async def test_a_record_that_is_replaced_is_not_counted_as_enqueued_again(driver: Driver, worker: Worker) -> None:
    """The history counts one job."""
    await driver.enqueue([newer("a"), newer("b"), newer("c")])
    _, entries = await driver.history(HistoryQuery(resolution="minute"))
    assert sum(entry.enqueued for entry in entries) == 1
