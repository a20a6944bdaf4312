"""Cancelling waiting records, and requesting to cancel active ones."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.driver import Cancelled, HeartbeatAnswer, Released, Retried
from flowli_core.durations import ZERO
from tests.conformance.builders import BROKEN, DONE, LEASE, Worker, everything, finish, lease_of, lose, record, stored
from tests.support.store import cancel_one, requeue_one

if TYPE_CHECKING:
    from flowli_core.driver import Driver, Outcome
    from flowli_core.stored import State
    from flowli_core.testing import ManualClock


async def test_a_queued_record_is_cancelled_at_once(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A cancelled record is never reserved."""
    await driver.enqueue([record("a")])
    clock.advance("1s")
    assert await cancel_one(driver, "a") == "cancelled"
    found = await stored(driver, "a")
    assert (found.state, found.finished_at, found.updated_at) == ("cancelled", clock.now(), clock.now())
    assert await worker.take() == ()


async def test_a_scheduled_record_is_cancelled_at_once(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A cancelled record does not become due."""
    await driver.enqueue([record("a", due=timedelta(seconds=5))])
    assert await cancel_one(driver, "a") == "cancelled"
    assert (await worker.step()).next_due is None
    clock.advance("5s")
    assert await worker.take() == ()


async def test_a_suspect_is_cancelled_at_once(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A waiting suspect can be cancelled like any other record."""
    await driver.enqueue([record("a", max_recoveries=1)])
    await lose(driver, clock)
    assert await cancel_one(driver, "a") == "cancelled"
    assert await worker.take() == ()


async def test_the_cancellation_of_an_active_record_is_requested(driver: Driver, worker: Worker) -> None:
    """The worker gets it with its next heartbeats; the record stays active until it is settled."""
    await driver.enqueue([record("a"), record("b")])
    a, b = await worker.take(2)
    assert await cancel_one(driver, "a") == "requested"
    assert await cancel_one(driver, "a") == "requested"
    assert (await stored(driver, "a")).state == "active"
    for _ in range(2):
        answer = await driver.heartbeat("w", [lease_of(a), lease_of(b)], LEASE)
        assert answer == HeartbeatAnswer(cancelled=frozenset({"a"}))


@pytest.mark.parametrize("outcome", [DONE, BROKEN, Cancelled()])
async def test_a_record_shows_that_its_cancellation_was_requested_while_it_is_active(
    driver: Driver, worker: Worker, outcome: Outcome
) -> None:
    """Once it has finished, its state says how; and a later run of it is not cancelled."""
    await driver.enqueue([record("a"), record("b", key="k")])
    a, b = await worker.take(2)
    assert not (await stored(driver, "a")).cancel_requested
    await cancel_one(driver, "a")
    assert {one.id: one.cancel_requested for one in await everything(driver, "active")} == {"a": True, "b": False}
    await worker.settle(a, outcome)
    await worker.settle(b)
    assert not (await stored(driver, "a")).cancel_requested
    await requeue_one(driver, "a", attempts=None)
    await worker.take_one()
    assert not (await stored(driver, "a")).cancel_requested


@pytest.mark.parametrize(("outcome", "state"), [(DONE, "completed"), (BROKEN, "failed")])
async def test_a_record_that_finishes_in_spite_of_a_request_keeps_its_outcome(
    driver: Driver, worker: Worker, outcome: Outcome, state: State
) -> None:
    """The handler was faster than the cancellation."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    await cancel_one(driver, "a")
    assert await worker.settle(held, outcome) == "ok"
    assert (await stored(driver, "a")).state == state


@pytest.mark.parametrize(
    "outcome", [Retried(ZERO, b"1"), Retried(LEASE, b"1"), Released(attempts=b"1"), Released(LEASE, b"1")]
)
async def test_a_requested_record_that_would_run_again_is_cancelled(
    driver: Driver, worker: Worker, clock: ManualClock, outcome: Outcome
) -> None:
    """A retry or a release cancels it, and frees its key."""
    await driver.enqueue([record("a", key="k")])
    held = await worker.take_one()
    await cancel_one(driver, "a")
    clock.advance("1s")
    assert await worker.settle(held, outcome) == "ok"
    found = await stored(driver, "a")
    assert (found.state, found.finished_at, found.attempts) == ("cancelled", clock.now(), b"1")
    clock.advance("1d")
    assert await worker.take() == ()
    (answer,) = await driver.enqueue([record("b", key="k")])
    assert answer.disposition == "accepted"


@pytest.mark.parametrize("limit", [0, 3])
async def test_recovery_cancels_a_requested_record(
    driver: Driver, worker: Worker, clock: ManualClock, limit: int
) -> None:
    """It does so whether or not the record may be recovered again."""
    await driver.enqueue([record("a", max_recoveries=limit)])
    await worker.take_one()
    await cancel_one(driver, "a")
    clock.advance(LEASE)
    answer = await worker.step(want=1)
    assert [(one.id, one.state) for one in answer.recovered] == [("a", "cancelled")]
    assert answer.reserved == ()
    found = await stored(driver, "a")
    assert (found.state, found.finished_at) == ("cancelled", clock.now())


async def test_a_finished_record_cannot_be_cancelled(driver: Driver) -> None:
    """A finished record keeps its state."""
    await finish(driver, "a", DONE)
    await finish(driver, "b", BROKEN)
    before = [await stored(driver, name) for name in "ab"]
    assert [await cancel_one(driver, name) for name in "ab"] == ["finished", "finished"]
    assert [await stored(driver, name) for name in "ab"] == before


async def test_cancelling_again_answers_finished(driver: Driver) -> None:
    """A record is cancelled once."""
    await driver.enqueue([record("a")])
    assert [await cancel_one(driver, "a"), await cancel_one(driver, "a")] == ["cancelled", "finished"]


async def test_an_unknown_record_cannot_be_cancelled(driver: Driver) -> None:
    """There is nothing to cancel."""
    assert await cancel_one(driver, "nobody") == "unknown"
