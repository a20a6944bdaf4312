"""Recoveries that are taken back, because the worker that lost the lease reports it: it only stood still."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

import pytest

from flowli_core.driver import Lease, Released, Retried
from flowli_core.durations import ZERO
from flowli_core.limits import MOST_TAKEN_BACK
from tests.conformance.builders import LEASE, Worker, ack, ids, lease_of, lose, record, soon, stored, waiting_step
from tests.support.store import requeue_one

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowli_core.driver import Driver, Reserved
    from flowli_core.testing import ManualClock


class Report(Protocol):
    """A way in which a worker reports a lease that it has lost."""

    async def __call__(self, worker: Worker, held: Reserved) -> None: ...


async def by_ack(worker: Worker, held: Reserved) -> None:
    """Report it with the outcome."""
    assert await worker.settle(held) == "lost"


async def by_heartbeat(worker: Worker, held: Reserved) -> None:
    """Report it with a heartbeat."""
    assert (await worker.driver.heartbeat(worker.last.worker, [lease_of(held)], LEASE)).lost == {held.id}


@pytest.fixture(params=[by_ack, by_heartbeat])
def report(request: pytest.FixtureRequest) -> Report:
    """Return each way to report in turn."""
    way: Report = request.param
    return way


async def stand_still(driver: Driver, clock: ManualClock, worker: Worker) -> Reserved:
    """Reserve a record, and let the lease expire; another worker recovers it."""
    (held,) = await worker.take()
    clock.advance(LEASE)
    (recovered,) = (await Worker(driver, f"heir of {held.token}").step()).recovered
    assert recovered.id == held.id
    return held


async def recoveries(driver: Driver, record_id: str = "a") -> int:
    return (await stored(driver, record_id)).recoveries


async def test_a_recovery_is_taken_back_if_the_worker_reports(
    driver: Driver, worker: Worker, clock: ManualClock, report: Report
) -> None:
    """It does not count, because the record has not killed its worker."""
    await driver.enqueue([record("a")])
    held = await stand_still(driver, clock, worker)
    assert await recoveries(driver) == 1
    await report(worker, held)
    assert await recoveries(driver) == 0
    assert (await stored(driver, "a")).state == "queued"


async def test_a_recovery_is_taken_back_while_another_worker_runs_the_record(
    driver: Driver, worker: Worker, other: Worker, clock: ManualClock, report: Report
) -> None:
    """The other worker keeps it."""
    await driver.enqueue([record("a")])
    held = await stand_still(driver, clock, worker)
    again = await other.take_one()
    await report(worker, held)
    assert await recoveries(driver) == 0
    assert await other.settle(again, Released()) == "ok"
    assert (await other.take_one()).recoveries == 0


async def test_a_recovery_is_taken_back_once(
    driver: Driver, worker: Worker, clock: ManualClock, report: Report
) -> None:
    """A second report of the same lease changes nothing."""
    await driver.enqueue([record("a")])
    await lose(driver, clock)
    held = await stand_still(driver, clock, worker)
    for _ in range(2):
        await report(worker, held)
        assert await recoveries(driver) == 1


async def test_only_the_last_recovery_is_taken_back(
    driver: Driver, worker: Worker, clock: ManualClock, report: Report
) -> None:
    """The report of an earlier lease, or of an invented one, changes nothing."""
    await driver.enqueue([record("a")])
    held = await stand_still(driver, clock, worker)
    await lose(driver, clock)
    await report(worker, held)
    for token in (0, held.token + 1):
        assert (await worker.step(ack(held), ack(held))).acks == ("lost", "lost")
        await driver.heartbeat("w", [Lease("a", token)], LEASE)
    assert await recoveries(driver) == 2


async def test_an_invented_token_takes_no_recovery_back(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """Even after the last recovery was taken back."""
    await driver.enqueue([record("a")])
    await lose(driver, clock)
    held = await stand_still(driver, clock, worker)
    await by_heartbeat(worker, held)
    await driver.heartbeat("w", [Lease("a", 0)], LEASE)
    assert await recoveries(driver) == 1


async def test_workers_that_stand_still_do_not_fail_a_record(
    driver: Driver, clock: ManualClock, report: Report
) -> None:
    """It is recovered more often than it may be, and the other workers report each time."""
    await driver.enqueue([record("a", max_recoveries=1)])
    for number in range(5):
        worker = Worker(driver, f"w{number}")
        held = await stand_still(driver, clock, worker)
        await report(worker, held)
    last = await Worker(driver).take_one()
    assert (last.recoveries, last.suspect) == (0, False)


async def test_the_number_of_recoveries_that_are_taken_back_is_limited(
    driver: Driver, worker: Worker, clock: ManualClock, report: Report
) -> None:
    """A job that makes each of its workers stand still fails in the end."""
    await driver.enqueue([record("a", max_recoveries=1)])
    for _ in range(MOST_TAKEN_BACK):
        await report(worker, await stand_still(driver, clock, worker))
        assert await recoveries(driver) == 0
    await report(worker, await stand_still(driver, clock, worker))
    assert await recoveries(driver) == 1
    await stand_still(driver, clock, worker)
    assert (await stored(driver, "a")).state == "failed"


async def test_a_suspect_is_none_after_its_last_recovery_was_taken_back(
    driver: Driver, worker: Worker, clock: ManualClock, report: Report
) -> None:
    """It runs beside other records again."""
    await driver.enqueue([record("a", max_recoveries=1)])
    held = await stand_still(driver, clock, worker)
    assert (await worker.step()).suspect_due
    await report(worker, held)
    await driver.enqueue([record("b")])
    answer = await worker.step(want=5, suspect=False)
    assert (ids(answer.reserved), answer.suspect_due) == (["a", "b"], False)


async def test_a_worker_that_waits_gets_a_record_that_is_no_suspect_any_more(
    driver: Driver, worker: Worker, clock: ManualClock, report: Report
) -> None:
    """A waiting step reserves no suspect, so it is woken."""
    await driver.enqueue([record("a", max_recoveries=1)])
    held = await stand_still(driver, clock, worker)

    async def wait() -> Sequence[Reserved]:
        while True:  # A wait may end early.
            if reserved := (await driver.step(waiting_step())).reserved:
                return reserved

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0.02)
    await report(worker, held)
    assert ids(await soon(waiting)) == ["a"]


async def test_a_suspect_that_is_scheduled_keeps_its_time(
    driver: Driver, worker: Worker, other: Worker, clock: ManualClock, report: Report
) -> None:
    """Another worker ran it after the recovery, and it will be retried."""
    await driver.enqueue([record("a", max_recoveries=1)])
    held = await stand_still(driver, clock, worker)
    await other.settle(await other.take_one(), Retried(timedelta(seconds=10), b"{}"))
    before = await stored(driver, "a")
    await report(worker, held)
    after = await stored(driver, "a")
    assert (after.state, after.scheduled_for, after.recoveries) == ("scheduled", before.scheduled_for, 0)
    assert (await worker.step()).next_due == timedelta(seconds=10)
    clock.advance("10s")
    assert ids(await worker.take(suspect=False)) == ["a"]


async def test_a_record_that_has_failed_stays_failed(
    driver: Driver, worker: Worker, clock: ManualClock, report: Report
) -> None:
    """Its failure was reported. It shows how often it was recovered."""
    await driver.enqueue([record("a", max_recoveries=0)])
    held = await stand_still(driver, clock, worker)
    before = await stored(driver, "a")
    assert (before.state, before.recoveries) == ("failed", 1)
    await report(worker, held)
    assert await stored(driver, "a") == before


async def test_a_report_from_before_a_requeue_changes_nothing(
    driver: Driver, worker: Worker, clock: ManualClock, report: Report
) -> None:
    """A requeued record has no recoveries."""
    await driver.enqueue([record("a", max_recoveries=0)])
    held = await stand_still(driver, clock, worker)
    assert await requeue_one(driver, "a") == "requeued"
    await report(worker, held)
    assert await recoveries(driver) == 0
    assert (await worker.take_one()).suspect


async def test_a_lost_lease_and_a_current_one_of_a_record_may_be_reported_in_a_step(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """In any order: the recovery is taken back, and the record is settled."""
    await driver.enqueue([record("a", max_recoveries=1), record("b", max_recoveries=1)])
    first = await worker.take(2)
    clock.advance(LEASE)
    await Worker(driver, "heir").step()
    second = [await worker.take_one(), await worker.take_one()]
    retried = Retried(ZERO, b"{}")
    answer = await worker.step(ack(first[0]), ack(second[0], retried), ack(second[1], retried), ack(first[1]))
    assert answer.acks == ("lost", "ok", "ok", "lost")
    assert [(held.id, held.recoveries) for held in await worker.take(5, suspect=False)] == [("a", 0), ("b", 0)]


async def test_a_worker_that_died_does_not_report(driver: Driver, clock: ManualClock) -> None:
    """So a record that kills its workers fails after as many starts as before."""
    await driver.enqueue([record("a", max_recoveries=2)])
    states = [(await lose(driver, clock)).recovered[0].state for _ in range(3)]
    assert states == ["queued", "queued", "failed"]
