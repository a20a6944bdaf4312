"""Expiry: a record that has not begun in time is cancelled by the step that would reserve it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.driver import Expired, Outcome, Released, Retried
from flowli_core.durations import ZERO
from flowli_core.history import HistoryQuery
from flowli_core.limits import EXPIRE_PER_STEP
from flowli_core.stored import StoredSchedule, Watch
from tests.conformance.builders import (
    HOUR,
    LEASE,
    Worker,
    everything,
    fresh_id,
    ids,
    lose,
    record,
    soon,
    stored,
    waiting_step,
)
from tests.support.store import cancel_one, put, requeue_one

if TYPE_CHECKING:
    from flowli_core.driver import Driver
    from flowli_core.testing import ManualClock

MINUTE = timedelta(minutes=1)
MOMENT = timedelta(milliseconds=1)


async def test_a_record_that_has_not_begun_in_time_is_cancelled(
    driver: Driver, clock: ManualClock, worker: Worker
) -> None:
    """The next record is reserved in the same step."""
    await driver.enqueue([record("a", expires=MINUTE), record("b")])
    end = clock.now() + MINUTE
    assert (await stored(driver, "a")).expires_at == end
    clock.advance(MINUTE)
    answer = await worker.step(want=1)
    assert answer.expired == (Expired("a", "send_email", "q"),)
    assert ids(answer.reserved) == ["b"]
    found = await stored(driver, "a")
    assert (found.state, found.expired, found.expires_at, found.finished_at) == ("cancelled", True, end, end)
    assert (found.worker, found.started_at, found.result) == (None, None, None)
    other = await stored(driver, "b")
    assert (other.expired, other.expires_at) == (False, None)


async def test_a_record_is_reserved_until_it_expires(driver: Driver, clock: ManualClock, worker: Worker) -> None:
    """It can be reserved up to a millisecond before."""
    await driver.enqueue([record("a", expires=MINUTE)])
    clock.advance(MINUTE - MOMENT)
    answer = await worker.step(want=1)
    assert (ids(answer.reserved), answer.expired) == (["a"], ())
    assert (await stored(driver, "a")).expires_at is None


async def test_a_duration_counts_from_the_due_time(driver: Driver, clock: ManualClock, worker: Worker) -> None:
    """A delayed record does not expire before it is due."""
    await driver.enqueue([record("a", due=HOUR, expires=MINUTE), record("b", due=clock.now() + HOUR, expires=MINUTE)])
    assert (await stored(driver, "a")).expires_at == clock.now() + HOUR + MINUTE
    assert (await stored(driver, "b")).expires_at == clock.now() + HOUR + MINUTE
    clock.advance(HOUR + MINUTE - MOMENT)
    assert ids(await worker.take(1)) == ["a"]
    clock.advance(MOMENT)
    assert (await worker.step(want=1)).expired == (Expired("b", "send_email", "q"),)


@pytest.mark.parametrize("days", [0, 400_000], ids=["now", "in a thousand years"])
async def test_a_moment_is_taken_as_it_is(driver: Driver, clock: ManualClock, worker: Worker, days: int) -> None:
    """It may be before the due time, or far away."""
    end = clock.now() + timedelta(days=days)
    await driver.enqueue([record("a", due=MINUTE, expires=end, meta=b"meta"), record("b", due=MINUTE, expires=end)])
    assert (await stored(driver, "a")).expires_at == end
    assert [one.expires_at for one in await everything(driver, "scheduled", payloads=False)] == [end, end]
    clock.advance(MINUTE)
    answer = await worker.step(want=5)
    assert [one.id for one in answer.expired] == ([] if days else ["a", "b"])
    assert [one.meta for one in answer.reserved] == ([b"meta", None] if days else [])


async def test_expiry_is_far_away_at_most_in_the_last_year(driver: Driver, clock: ManualClock) -> None:
    """A due time and an expiry that are both far away are not too far together."""
    last = clock.now().replace(year=9999, month=12, day=31)
    await driver.enqueue([record("a", due=last, expires=timedelta(days=3653))])
    found = (await stored(driver, "a")).expires_at
    assert found is not None
    assert found.year == last.year


@pytest.mark.parametrize("outcome", [Retried(ZERO, b"1"), Released(), Released(HOUR, b"1")], ids=repr)
async def test_a_record_that_has_begun_does_not_expire(
    driver: Driver, clock: ManualClock, worker: Worker, outcome: Outcome
) -> None:
    """It is retried, or released by a worker that stops."""
    await driver.enqueue([record("a", expires=MINUTE)])
    await worker.settle(await worker.take_one(), outcome)
    clock.advance(2 * HOUR)
    assert (await stored(driver, "a")).expires_at is None
    answer = await worker.step(want=1)
    assert (ids(answer.reserved), answer.expired) == (["a"], ())


async def test_a_record_that_has_lost_its_worker_does_not_expire(driver: Driver, clock: ManualClock) -> None:
    """It has begun, so it is run again."""
    await driver.enqueue([record("a", expires=MINUTE, meta=b"meta")])
    clock.advance(MINUTE - MOMENT)
    (recovered,) = (await lose(driver, clock)).recovered
    assert recovered.meta == b"meta"
    clock.advance(HOUR)
    answer = await Worker(driver, "heir").step(want=1)
    assert (ids(answer.reserved), answer.expired) == (["a"], ())


async def test_a_requeued_record_does_not_expire(driver: Driver, clock: ManualClock, worker: Worker) -> None:
    """An operator wants it to run, whether it has expired, was cancelled, or is scheduled."""
    await driver.enqueue([record("expired", expires=MINUTE)])
    clock.advance(HOUR)
    assert len((await worker.step(want=1)).expired) == 1
    await driver.enqueue([record("cancelled", expires=MINUTE), record("scheduled", due=HOUR, expires=MINUTE)])
    await cancel_one(driver, "cancelled")
    found = await stored(driver, "cancelled")
    assert (found.expired, found.expires_at) == (False, None)
    for one in ("cancelled", "expired", "scheduled"):
        assert await requeue_one(driver, one) == "requeued"
        found = await stored(driver, one)
        assert (found.state, found.expired, found.expires_at) == ("queued", False, None)
    clock.advance(3 * HOUR)
    answer = await worker.step(want=5)
    assert (ids(answer.reserved), answer.expired) == (["cancelled", "expired", "scheduled"], ())


async def test_an_expired_record_releases_its_key(driver: Driver, clock: ManualClock, worker: Worker) -> None:
    """Another record can have it after that, and not before."""
    await driver.enqueue([record("a", key="k", expires=MINUTE)])
    clock.advance(HOUR)
    (answer,) = await driver.enqueue([record("b", key="k")])
    assert (answer.disposition, answer.state) == ("existing", "queued")
    await worker.step(want=1)
    (answer,) = await driver.enqueue([record("b", key="k")])
    assert answer.disposition == "accepted"


async def test_an_expired_record_is_counted_as_cancelled(driver: Driver, clock: ManualClock, worker: Worker) -> None:
    """It has no attempt, so it adds neither a wait nor a run."""
    await driver.enqueue([record("a", expires=MINUTE), record("b", expires=MINUTE)])
    clock.advance(MINUTE)
    await worker.step(want=1)
    _, (total,) = await driver.history(HistoryQuery(resolution="total"))
    assert (total.enqueued, total.cancelled, sum(total.waits), sum(total.runs)) == (2, 2, 0, 0)
    counts = (await driver.overview()).counts
    assert (counts.queued, counts.cancelled) == (0, 2)


async def test_an_expired_record_is_kept_as_a_cancelled_one(driver: Driver, clock: ManualClock, worker: Worker) -> None:
    """It is removed after `keep_failed`."""
    await driver.enqueue([record("a", expires=MINUTE, keep_failed=HOUR)])
    clock.advance(MINUTE)
    await worker.step(want=1)
    clock.advance(HOUR - MOMENT)
    await worker.step()
    (found,) = await everything(driver, "cancelled", payloads=False)
    assert (found.id, found.expired) == ("a", True)
    clock.advance(MOMENT)
    await worker.step()
    assert await everything(driver, "cancelled") == []


async def test_watchers_see_that_a_record_expires(driver: Driver, clock: ManualClock, worker: Worker) -> None:
    """So a caller that waits for its result is answered at once."""
    await driver.enqueue([record("a", expires=MOMENT)])
    await driver.watch(Watch(watcher="me", add=("a",)))
    clock.advance(MOMENT)
    waiting = asyncio.create_task(driver.watch(Watch(watcher="me", wait=HOUR)))
    await worker.step(want=1)
    assert await soon(waiting) == ["a"]


async def test_a_step_that_is_sent_again_reports_no_expired_records(
    driver: Driver, clock: ManualClock, worker: Worker
) -> None:
    """They are reported once, as recoveries are."""
    await driver.enqueue([record("a", expires=MINUTE), record("b")])
    clock.advance(MINUTE)
    first = await worker.step(want=1)
    again = await worker.again()
    assert (first.reserved, len(first.expired)) == (again.reserved, 1)
    assert again.expired == ()


async def test_a_step_cancels_a_limited_number_of_expired_records(
    driver: Driver, clock: ManualClock, worker: Worker
) -> None:
    """Then it reserves nothing more, from no queue, and there is something to do at once."""
    worker.last = replace(worker.last, queues=("q", "other"))
    await driver.enqueue([record(expires=MINUTE) for _ in range(EXPIRE_PER_STEP + 1)])
    clock.advance(MINUTE)
    await driver.enqueue([record("last"), record("other", queue="other")])
    answer = await worker.step(want=1)
    assert (len(answer.expired), answer.reserved, answer.next_due) == (EXPIRE_PER_STEP, (), ZERO)
    answer = await worker.step(want=3)
    assert (len(answer.expired), ids(answer.reserved)) == (1, ["last", "other"])


async def test_suspects_expire_within_the_limit_too(driver: Driver, clock: ManualClock, worker: Worker) -> None:
    """A suspect that has not begun is one that no loss is allowed for."""
    many = [record(expires=MINUTE, max_recoveries=0) for _ in range(EXPIRE_PER_STEP)]
    await driver.enqueue([*many, record("last", max_recoveries=0, expires=MINUTE)])
    clock.advance(MINUTE)
    assert (await worker.step(want=1, suspect=False)).expired == ()
    await driver.enqueue([record("other", queue="other")])
    worker.last = replace(worker.last, queues=("q", "other"))
    answer = await worker.step(want=5)
    assert (len(answer.expired), answer.reserved, answer.suspect_due) == (EXPIRE_PER_STEP, (), True)
    assert [one.id for one in (await worker.step(want=1)).expired] == ["last"]


async def test_the_suspect_behind_an_expired_record_runs_alone(
    driver: Driver, clock: ManualClock, worker: Worker
) -> None:
    """The order is as if there were no expired records."""
    await driver.enqueue([record("a", expires=MOMENT), record("b", expires=MOMENT, max_recoveries=0)])
    clock.advance(MOMENT)
    await driver.enqueue([record("c", max_recoveries=0)])
    clock.advance(MOMENT)
    await driver.enqueue([record("d"), record("e")])
    answer = await worker.step(want=5)
    assert ([one.id for one in answer.expired], ids(answer.reserved)) == (["a", "b"], ["c"])


async def test_a_suspect_behind_a_reserved_record_waits(driver: Driver, clock: ManualClock, worker: Worker) -> None:
    """It is not the first, so it is neither reserved nor cancelled, and the records behind it are reserved."""
    await driver.enqueue([record("a")])
    clock.advance(MOMENT)
    await driver.enqueue([record("b", max_recoveries=0, expires=MOMENT), record("c", max_recoveries=0)])
    clock.advance(MOMENT)
    await driver.enqueue([record("d")])
    answer = await worker.step(want=5)
    assert (answer.expired, ids(answer.reserved), answer.suspect_due) == ((), ["a", "d"], True)


async def test_a_step_that_wants_nothing_expires_nothing(driver: Driver, clock: ManualClock, worker: Worker) -> None:
    """It would not reserve the record either, but says that there is something to do."""
    await driver.enqueue([record("a", expires=MINUTE)])
    clock.advance(MINUTE)
    answer = await worker.step(want=0)
    assert (answer.expired, answer.next_due) == ((), ZERO)
    assert (await stored(driver, "a")).state == "queued"


async def test_a_waiting_step_cancels_expired_records(driver: Driver, clock: ManualClock) -> None:
    """It goes the same way as a step that does not wait."""
    await driver.enqueue([record("a", expires=MINUTE), record("b")])
    clock.advance(MINUTE)
    answer = await soon(driver.step(waiting_step(want=1)))
    assert ([one.id for one in answer.expired], ids(answer.reserved)) == (["a"], ["b"])


async def test_a_paused_queue_expires_nothing(driver: Driver, clock: ManualClock, worker: Worker) -> None:
    """Its records expire after it is resumed."""
    await driver.enqueue([record("a", expires=MINUTE)])
    await driver.pause_queue("q", paused=True)
    clock.advance(HOUR)
    assert (await worker.step(want=1)).expired == ()
    assert (await stored(driver, "a")).state == "queued"
    await driver.pause_queue("q", paused=False)
    assert len((await worker.step(want=1)).expired) == 1


async def test_an_active_record_does_not_expire(driver: Driver, clock: ManualClock, worker: Worker) -> None:
    """Its cancellation is a request, as for any other."""
    await driver.enqueue([record("a", expires=MINUTE)])
    held = await worker.take_one(lease=HOUR)
    clock.advance(LEASE + MINUTE)
    assert await cancel_one(driver, "a") == "requested"
    found = await stored(driver, "a")
    assert (found.cancel_requested, found.expires_at, found.expired) == (True, None, False)
    await worker.settle(held, Released())
    found = await stored(driver, "a")
    assert (found.state, found.expired) == ("cancelled", False)


async def test_the_record_of_a_tick_expires(driver: Driver, clock: ManualClock, worker: Worker) -> None:
    """A schedule stores records as `enqueue` does."""
    tick = clock.now()
    schedule = StoredSchedule(key="nightly", queue="q", spec=b"{}", next_tick=None)
    clock.advance(HOUR)
    await put(driver, schedule, records=[record("a", due=tick, expires=tick + MINUTE)])
    assert [one.id for one in (await worker.step(want=1)).expired] == ["a"]


async def test_expired_records_leave_nothing_behind(driver: Driver, clock: ManualClock, worker: Worker) -> None:
    """A new record may have the id of one that was removed."""
    await driver.enqueue([record("a", expires=MINUTE, keep_failed=ZERO, queue="q")])
    clock.advance(MINUTE)
    await worker.step(want=1)
    await worker.step()
    await driver.enqueue([record("a"), record(fresh_id())])
    assert len(await worker.take(5)) == len(await everything(driver, "active"))
    assert (await stored(driver, "a")).expires_at is None
