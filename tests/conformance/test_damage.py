"""Records whose stored data cannot be read. What else may be damaged differs from store to store: see their tests."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.history import HistoryQuery
from flowli_core.targets import Target
from tests.conformance.builders import HOUR, LEASE, Worker, ack, everything, ids, record, soon, stored, waiting_step
from tests.conformance.drivers import CANDIDATES
from tests.support.store import cancel_one, requeue_one

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from flowli_core.driver import Driver
    from flowli_core.testing import ManualClock


@pytest.fixture
async def spoil(driver: Driver, driver_name: str, tmp_path: Path) -> AsyncIterator[Callable[[str], None]]:
    """Yield the function that makes a record unreadable. At the end the damaged records are purged."""
    function = CANDIDATES[driver_name].spoil
    if function is None:
        pytest.skip(f"{driver_name} holds nothing that could be damaged")
    yield lambda record_id: function(tmp_path, record_id)
    await driver.purge("failed", older_than=-HOUR, limit=100)


async def test_a_due_record_that_cannot_be_read_is_set_aside_and_reported_once(
    driver: Driver, worker: Worker, other: Worker, spoil: Callable[[str], None]
) -> None:
    await driver.enqueue([record(name) for name in "abc"])
    spoil("b")
    answer = await worker.step(want=3)
    assert ids(answer.reserved) == ["a", "c"]
    (found,) = answer.damaged
    assert (found.id, found.queue) == ("b", "q")
    assert (await worker.again()).damaged == (await other.step(want=3)).damaged == ()
    shown = await stored(driver, "b")
    assert (shown.state, shown.damage) == ("failed", found.damage)
    assert await everything(driver, "failed") == [shown]
    assert (await driver.overview()).counts.failed == 1


async def test_a_record_that_is_set_aside_counts_as_enqueued_only(
    driver: Driver, worker: Worker, spoil: Callable[[str], None]
) -> None:
    """It has not failed: nobody ran it. Neither does it count if it is cancelled."""
    await driver.enqueue([record(name) for name in "abc"])
    spoil("b")
    spoil("c")
    await cancel_one(driver, "c")
    await worker.step(*[ack(held) for held in await worker.take(3)])
    _, (entry,) = await driver.history(HistoryQuery(resolution="total"))
    assert (entry.enqueued, entry.completed, entry.failed, entry.cancelled) == (3, 1, 0, 0)


async def test_a_waiting_step_sets_a_record_aside(driver: Driver, spoil: Callable[[str], None]) -> None:
    await driver.enqueue([record("a"), record("b")])
    spoil("a")
    answer = await soon(driver.step(waiting_step(want=2)))
    assert ([one.id for one in answer.damaged], ids(answer.reserved)) == (["a"], ["b"])


@pytest.mark.parametrize("payloads", [True, False])
async def test_a_listing_shows_damaged_records_in_their_order(
    driver: Driver, spoil: Callable[[str], None], *, payloads: bool
) -> None:
    await driver.enqueue([record(name, due=HOUR) for name in "abcde"])
    for name in "be":
        spoil(name)
    for limit in (1, 2, 10):
        found = await everything(driver, "scheduled", limit=limit, payloads=payloads)
        assert [(one.id, one.damage is not None) for one in found] == [
            ("e", True),
            ("d", False),
            ("c", False),
            ("b", True),
            ("a", False),
        ]
    for name in "be":
        assert await cancel_one(driver, name) == "finished"
    assert ids(await everything(driver, "scheduled")) == ["d", "c", "a"]


async def test_a_scheduled_record_is_set_aside_at_the_latest_when_it_is_due(
    driver: Driver, worker: Worker, clock: ManualClock, spoil: Callable[[str], None]
) -> None:
    await driver.enqueue([record("a", due=HOUR), record("b", due=HOUR)])
    spoil("a")
    before = await worker.step(want=5)
    clock.advance(HOUR)
    after = await worker.step(want=5)
    assert [one.id for one in (*before.damaged, *after.damaged)] == ["a"]
    assert ids(after.reserved) == ["b"]


async def test_an_expired_lease_of_a_damaged_record_keeps_no_other_from_being_recovered(
    driver: Driver, worker: Worker, other: Worker, clock: ManualClock, spoil: Callable[[str], None]
) -> None:
    await driver.enqueue([record("a"), record("b")])
    await worker.take(2)
    spoil("a")
    clock.advance(LEASE + timedelta(seconds=1))
    answers = [await other.step(want=2), await other.step(want=2)]
    assert [one.id for answer in answers for one in answer.recovered if one.id != "a"] == ["b"]
    assert [one.id for answer in answers for one in answer.damaged] == ["a"]
    assert [one for answer in answers for one in ids(answer.reserved)] == ["b"]


async def test_the_acks_of_sound_records_are_settled_beside_one_of_a_damaged_record(
    driver: Driver, worker: Worker, clock: ManualClock, spoil: Callable[[str], None]
) -> None:
    await driver.enqueue([record("a"), record("b")])
    a, b = await worker.take(2)
    spoil("a")
    assert (await worker.step(ack(a), ack(b))).acks[1] == "ok"
    assert (await stored(driver, "b")).state == "completed"
    await driver.purge("completed", older_than=-HOUR, limit=2)


async def test_the_id_of_a_damaged_record_stays_taken_and_its_key_is_free(
    driver: Driver, worker: Worker, spoil: Callable[[str], None]
) -> None:
    await driver.enqueue([record("a", key="k")])
    spoil("a")
    await worker.step(want=1)
    assert await requeue_one(driver, "a") == "damaged"
    assert await cancel_one(driver, "a") == "finished"
    answers = await driver.enqueue([record("a"), record("b", key="k")])
    assert [(one.id, one.disposition) for one in answers] == [("a", "duplicate"), ("b", "accepted")]
    assert answers[0].state == "failed"


async def test_a_damaged_record_affects_no_other_that_is_changed_with_it(
    driver: Driver, spoil: Callable[[str], None]
) -> None:
    await driver.enqueue([record(name, due=HOUR) for name in "abcde"])
    for name in "bd":
        spoil(name)
    answers = await driver.cancel([Target(id=name, state="scheduled") for name in "abcd"])
    assert (answers[0], answers[2]) == ("cancelled", "cancelled")
    assert sorted(ids(await everything(driver, "failed"))) == ["b", "d"]
    assert await driver.requeue([Target(id=name) for name in "abcde"]) == [
        "requeued",
        "damaged",
        "requeued",
        "damaged",
        "requeued",
    ]
    assert sorted(ids(await everything(driver, "queued"))) == ["a", "c", "e"]
