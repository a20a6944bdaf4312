"""Returning a record to its queue by hand."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.driver import Ack, Cancelled, HeartbeatAnswer, Released, Retried
from tests.conformance.builders import BROKEN, DONE, LEASE, Worker, finish, ids, lease_of, lose, record, stored
from tests.support.store import cancel_one, requeue_one

if TYPE_CHECKING:
    from flowli_core.driver import Driver, Outcome
    from flowli_core.testing import ManualClock


@pytest.mark.parametrize("outcome", [DONE, BROKEN, Cancelled()])
async def test_a_finished_record_runs_again(
    driver: Driver, worker: Worker, clock: ManualClock, outcome: Outcome
) -> None:
    """It is due now and has no result, end or attempts, like a new record with the same id."""
    await finish(driver, "a", outcome)
    before = await stored(driver, "a")
    clock.advance("1m")
    assert await requeue_one(driver, "a") == "requeued"
    found = await stored(driver, "a")
    assert (found.state, found.scheduled_for, found.updated_at) == ("queued", clock.now(), clock.now())
    assert (found.result, found.finished_at, found.attempts, found.recoveries) == (None, None, None, 0)
    assert found.created_at == before.created_at
    held = await worker.take_one()
    assert (held.id, held.recoveries, held.attempts) == ("a", 0, None)
    assert await worker.settle(held) == "ok"


async def test_a_requeued_record_has_the_given_attempts(driver: Driver, worker: Worker) -> None:
    """The core decides the history that it starts with."""
    await finish(driver, "a", BROKEN)
    assert await requeue_one(driver, "a", attempts=b'{"failures":0}') == "requeued"
    assert (await worker.take_one()).attempts == b'{"failures":0}'


async def test_a_requeued_record_is_ordered_by_its_new_due_time(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """It comes behind records that were due before."""
    await finish(driver, "a", BROKEN)
    clock.advance("1s")
    await driver.enqueue([record("z")])
    clock.advance("1s")
    await requeue_one(driver, "a")
    assert ids(await worker.take(2)) == ["z", "a"]


async def test_a_scheduled_record_is_made_due(driver: Driver, worker: Worker) -> None:
    """A delayed or retried record need not wait any longer."""
    await driver.enqueue([record("a", due=timedelta(hours=1), key="k"), record("b")])
    await worker.settle(await worker.take_one(), Retried(timedelta(hours=1), b"1"))
    assert [await requeue_one(driver, "a"), await requeue_one(driver, "b", attempts=b"2")] == ["requeued", "requeued"]
    assert [(held.id, held.attempts) for held in await worker.take(5)] == [("a", None), ("b", b"2")]
    (answer,) = await driver.enqueue([record("c", key="k")])
    assert (answer.id, answer.disposition) == ("a", "existing")


async def test_a_suspect_is_cleared(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A requeued record has no recoveries, and is no suspect."""
    await driver.enqueue([record("a", max_recoveries=1)])
    await lose(driver, clock)
    await worker.settle(await worker.take_one(), Released(timedelta(hours=1)))
    assert (await stored(driver, "a")).recoveries == 1
    assert await requeue_one(driver, "a") == "requeued"
    assert ids(await worker.take(1, suspect=False)) == ["a"]


async def test_a_record_that_failed_by_recovery_may_run_again(driver: Driver, clock: ManualClock) -> None:
    """It starts with no recoveries."""
    await driver.enqueue([record("a", max_recoveries=1)])
    for _ in range(2):
        await lose(driver, clock)
    assert (await stored(driver, "a")).state == "failed"
    assert await requeue_one(driver, "a") == "requeued"
    answer = await lose(driver, clock)
    assert [(one.recoveries, one.state) for one in answer.recovered] == [(1, "queued")]


async def test_a_requeue_withdraws_a_request_to_cancel(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A record that was cancelled while it was active runs to its end once it is requeued."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    await cancel_one(driver, "a")
    await worker.settle(held, Cancelled())
    await requeue_one(driver, "a")
    held = await worker.take_one()
    assert await driver.heartbeat("w", [lease_of(held)], LEASE) == HeartbeatAnswer()
    await worker.settle(held, Retried(timedelta(seconds=1), b"{}"))
    assert (await stored(driver, "a")).state == "scheduled"


async def test_a_queued_or_active_record_cannot_be_requeued(driver: Driver, worker: Worker) -> None:
    """It runs anyway."""
    await driver.enqueue([record("a"), record("b")])
    await worker.take_one()
    before = [await stored(driver, name) for name in "ab"]
    assert [await requeue_one(driver, name, attempts=b"1") for name in "ab"] == ["unfinished", "unfinished"]
    assert [await stored(driver, name) for name in "ab"] == before


async def test_an_unknown_record_cannot_be_requeued(driver: Driver) -> None:
    """There is nothing to requeue."""
    assert await requeue_one(driver, "nobody") == "unknown"


async def test_a_requeued_record_takes_its_key_again(driver: Driver) -> None:
    """An unfinished record holds its key, also the second time."""
    await driver.enqueue([record("a", key="k")])
    await cancel_one(driver, "a")
    assert await requeue_one(driver, "a") == "requeued"
    (answer,) = await driver.enqueue([record("b", key="k")])
    assert (answer.id, answer.disposition) == ("a", "existing")


async def test_a_record_whose_key_another_holds_cannot_be_requeued(driver: Driver) -> None:
    """It can be requeued once that key is free again."""
    await driver.enqueue([record("a", key="k")])
    await cancel_one(driver, "a")
    await driver.enqueue([record("b", key="k")])
    before = await stored(driver, "a")
    assert await requeue_one(driver, "a") == "key_taken"
    assert await stored(driver, "a") == before
    await cancel_one(driver, "b")
    assert await requeue_one(driver, "a") == "requeued"


async def test_a_token_from_before_a_requeue_settles_nothing(driver: Driver, worker: Worker) -> None:
    """An old ack that arrives late does not finish the new run."""
    await driver.enqueue([record("a")])
    old = await worker.take_one()
    await worker.settle(old, BROKEN)
    await requeue_one(driver, "a")
    assert (await worker.step(Ack("a", old.token, DONE))).acks == ("duplicate",)
    new = await worker.take_one()
    assert (await worker.step(Ack("a", old.token, DONE))).acks == ("duplicate",)
    assert (await stored(driver, "a")).state == "active"
    assert await worker.settle(new) == "ok"


async def test_a_requeued_record_is_not_trimmed(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A waiting record is not removed when its earlier retention time ends."""
    await driver.enqueue([record("a", keep_failed=timedelta(seconds=10))])
    await worker.settle(await worker.take_one(), BROKEN)
    await requeue_one(driver, "a")
    clock.advance("1h")
    await worker.step()
    assert (await stored(driver, "a")).state == "queued"
    assert await driver.purge("failed", older_than=timedelta(seconds=1), limit=10) == 0
