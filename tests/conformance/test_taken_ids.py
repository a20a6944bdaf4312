"""Ids that stay taken after their record was removed, so that a call may be repeated for some minutes."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.driver import Cancelled
from flowli_core.durations import ZERO
from flowli_core.limits import Keep
from flowli_core.new_records import Enqueued
from flowli_core.stored import FINISHED, QueueCounts
from tests.conformance.builders import BROKEN, DONE, Worker, ack, record
from tests.support.store import find

if TYPE_CHECKING:
    from flowli_core.driver import Driver, Outcome
    from flowli_core.stored import FinishedState
    from flowli_core.testing import ManualClock

MINUTES = timedelta(minutes=5)
NOTHING = Keep(completed=0, failed=0, cancelled=0)
ENDS: dict[FinishedState, Outcome] = {"completed": DONE, "failed": BROKEN, "cancelled": Cancelled()}


async def run(worker: Worker, *names: str, outcome: Outcome = DONE, keep: Keep = NOTHING) -> None:
    """Store records that keep their ids, run them, and trim them."""
    await worker.driver.enqueue([record(name, keep_id=MINUTES) for name in names])
    held = await worker.take(len(names))
    await worker.step(*[ack(one, outcome) for one in held], keep=keep)


async def disposition(driver: Driver, name: str, keep_id: timedelta = MINUTES) -> str:
    """Enqueue a record with an id."""
    (answer,) = await driver.enqueue([record(name, keep_id=keep_id)])
    return answer.disposition


@pytest.mark.parametrize("state", FINISHED)
async def test_a_call_is_not_run_again_though_its_record_was_trimmed(
    driver: Driver, worker: Worker, clock: ManualClock, state: FinishedState
) -> None:
    """Its id stays taken until some minutes after it has finished."""
    await run(worker, "a", outcome=ENDS[state])
    assert await find(driver, "a") is None
    clock.advance(MINUTES - timedelta(milliseconds=1))
    await worker.step()
    again = Enqueued(id="a", disposition="duplicate", state=state, scheduled_for=clock.now())
    assert await driver.enqueue([record("a", key="k", keep_id=MINUTES)]) == [again]
    assert (await driver.overview()).counts == QueueCounts()
    clock.advance("1ms")
    assert await disposition(driver, "a") == "accepted"


async def test_a_call_is_not_run_again_though_its_record_was_purged(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    await run(worker, "a", keep=Keep())
    clock.advance("1ms")
    assert await driver.purge("completed", older_than=ZERO, limit=10) == 1
    assert await disposition(driver, "a") == "duplicate"
    assert await find(driver, "a") is None


async def test_an_id_is_free_with_its_record_if_that_was_kept_longer(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    await driver.enqueue([record("a", keep_completed=2 * MINUTES, keep_id=MINUTES)])
    await worker.settle(await worker.take_one())
    clock.advance(2 * MINUTES - timedelta(milliseconds=1))
    await worker.step()
    assert await disposition(driver, "a") == "duplicate"
    clock.advance("1ms")
    await worker.step()
    assert await disposition(driver, "a") == "accepted"


async def test_only_a_record_that_keeps_its_id_is_refused(driver: Driver, worker: Worker) -> None:
    """A record without `keep_id` leaves no id behind, and does not look for one."""
    await run(worker, "a")
    await driver.enqueue([record("b")])
    await worker.step(ack(await worker.take_one()), keep=NOTHING)
    answers = await driver.enqueue([record(name, keep_id=MINUTES) for name in "abc"])
    assert [one.disposition for one in answers] == ["duplicate", "accepted", "accepted"]
    assert await disposition(driver, "a", keep_id=ZERO) == "accepted"


async def test_an_id_is_taken_again_when_its_next_record_has_finished(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """The time counts from the end of the last record with this id."""
    for _ in range(3):
        await run(worker, "a")
        clock.advance(MINUTES - timedelta(milliseconds=1))
        assert await disposition(driver, "a") == "duplicate"
        clock.advance("1ms")
    assert await disposition(driver, "a") == "accepted"


async def test_the_number_of_taken_ids_is_limited(
    driver: Driver, worker: Worker, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ids that were taken first are free first, so the store does not grow with the number of jobs."""
    for module in ("memory._index", "sqlite._settle", "redis._scripts"):
        monkeypatch.setattr(f"flowli_core.drivers.{module}.MOST_TAKEN_IDS", 3)
    for name in "abcde":
        await run(worker, name)
        clock.advance("1ms")
    await worker.step()
    assert [await disposition(driver, name) for name in "abcde"] == ["accepted"] * 2 + ["duplicate"] * 3
