"""Record ids and idempotency keys: duplicates, and the records that hold a key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.driver import Cancelled, Released, Retried
from tests.conformance.builders import BROKEN, DONE, Worker, finish, ids, lose, record, stored
from tests.support.store import cancel_one, find

if TYPE_CHECKING:
    from flowli_core.driver import Driver, Outcome
    from flowli_core.testing import ManualClock


async def test_a_new_record_is_accepted(driver: Driver, clock: ManualClock) -> None:
    """An enqueued record is stored, and due now."""
    (answer,) = await driver.enqueue([record("a", name="n", input=b'{"x":1}', meta=b"{}", key="k", policy=b'{"p":1}')])
    assert (answer.id, answer.disposition, answer.state) == ("a", "accepted", "queued")
    assert (answer.scheduled_for, answer.attempts) == (clock.now(), None)
    found = await stored(driver, "a")
    assert (found.name, found.queue, found.state, found.key) == ("n", "q", "queued", "k")
    assert (found.input, found.meta, found.policy) == (b'{"x":1}', b"{}", b'{"p":1}')
    assert (found.attempts, found.result, found.recoveries, found.max_recoveries) == (None, None, 0, 3)
    assert found.created_at == found.updated_at == found.scheduled_for == clock.now()
    assert (found.failed_at, found.started_at, found.finished_at, found.worker) == (None, None, None, None)


async def test_an_unknown_id_has_no_record(driver: Driver) -> None:
    """Looking up an id that was never enqueued finds nothing."""
    assert await find(driver, "nobody") is None


async def test_an_empty_batch_is_answered_with_nothing(driver: Driver) -> None:
    """Enqueueing nothing is no error."""
    assert await driver.enqueue([]) == []


async def test_a_batch_is_answered_in_its_order(driver: Driver) -> None:
    """The answers are in the order of the records."""
    answers = await driver.enqueue([record("c"), record("a", due=timedelta(seconds=5)), record("b")])
    assert [(one.id, one.state) for one in answers] == [("c", "queued"), ("a", "scheduled"), ("b", "queued")]


async def test_the_same_id_again_adds_nothing(driver: Driver, clock: ManualClock) -> None:
    """An enqueue that is sent again is answered `duplicate`, and does not change the stored record."""
    await driver.enqueue([record("a", input=b"1")])
    before = await stored(driver, "a")
    clock.advance("1s")
    (answer,) = await driver.enqueue([record("a", input=b"2", queue="elsewhere", key="k", due=timedelta(seconds=9))])
    assert (answer.id, answer.disposition, answer.state) == ("a", "duplicate", "queued")
    assert answer.scheduled_for == before.scheduled_for
    assert await stored(driver, "a") == before


async def test_a_duplicate_describes_the_stored_record(driver: Driver, worker: Worker) -> None:
    """The answer has its state, its due time and its attempts."""
    await driver.enqueue([record("a")])
    await worker.settle(await worker.take_one(), Retried(timedelta(seconds=7), b'{"failures":1}'))
    (answer,) = await driver.enqueue([record("a")])
    found = await stored(driver, "a")
    assert (answer.disposition, answer.state, answer.attempts) == ("duplicate", "scheduled", b'{"failures":1}')
    assert answer.scheduled_for == found.scheduled_for


async def test_a_finished_record_still_holds_its_id(driver: Driver) -> None:
    """An id is in use for as long as its record is kept."""
    await finish(driver, "a", DONE)
    (answer,) = await driver.enqueue([record("a")])
    assert (answer.disposition, answer.state) == ("duplicate", "completed")


async def test_a_duplicate_does_not_take_its_key(driver: Driver) -> None:
    """The key of a duplicate stays free."""
    await driver.enqueue([record("a")])
    await driver.enqueue([record("a", key="k")])
    (answer,) = await driver.enqueue([record("b", key="k")])
    assert answer.disposition == "accepted"


async def test_the_same_id_twice_in_a_batch_is_stored_once(driver: Driver) -> None:
    """The second record of the batch is a duplicate of the first."""
    answers = await driver.enqueue([record("a", input=b"1"), record("a", input=b"2")])
    assert [one.disposition for one in answers] == ["accepted", "duplicate"]
    assert (await stored(driver, "a")).input == b"1"
    assert (await driver.overview()).counts.queued == 1


async def test_the_same_key_twice_in_a_batch_is_stored_once(driver: Driver) -> None:
    """The second record is answered `existing`, with the first."""
    answers = await driver.enqueue([record("a", key="k"), record("b", key="k")])
    assert [(one.id, one.disposition) for one in answers] == [("a", "accepted"), ("a", "existing")]
    assert await find(driver, "b") is None


async def test_one_unfinished_record_holds_a_key(driver: Driver, worker: Worker) -> None:
    """A queued, scheduled or active record holds its key, and the answer names that record."""
    await driver.enqueue([record("queued", key="k1"), record("scheduled", key="k2", due=timedelta(hours=2))])
    held = await worker.take_one()
    answers = await driver.enqueue([record("x", key="k1", queue="elsewhere"), record("y", key="k2")])
    assert [(one.id, one.disposition, one.state) for one in answers] == [
        (held.id, "existing", "active"),
        ("scheduled", "existing", "scheduled"),
    ]
    assert await find(driver, "x") is None


async def test_a_held_key_does_not_affect_the_rest_of_a_batch(driver: Driver) -> None:
    """Only the record with that key is not stored."""
    await driver.enqueue([record("a", key="k")])
    answers = await driver.enqueue([record("b"), record("c", key="k"), record("d", key="l")])
    assert [one.disposition for one in answers] == ["accepted", "existing", "accepted"]


@pytest.mark.parametrize("key", ["k", "k ", " "])
@pytest.mark.parametrize("outcome", [DONE, BROKEN, Cancelled()])
async def test_a_record_that_finishes_frees_its_key(driver: Driver, worker: Worker, outcome: Outcome, key: str) -> None:
    """After it has completed, failed or was cancelled, its key may be used again."""
    await driver.enqueue([record("a", key=key)])
    await worker.settle(await worker.take_one(), outcome)
    (answer,) = await driver.enqueue([record("b", key=key)])
    assert answer.disposition == "accepted"


@pytest.mark.parametrize("outcome", [Retried(timedelta(seconds=5), b"{}"), Released(), Released(timedelta(seconds=5))])
async def test_a_record_that_runs_again_keeps_its_key(driver: Driver, worker: Worker, outcome: Outcome) -> None:
    """A retried or released record still holds its key."""
    await driver.enqueue([record("a", key="k")])
    await worker.settle(await worker.take_one(), outcome)
    (answer,) = await driver.enqueue([record("b", key="k")])
    assert (answer.id, answer.disposition) == ("a", "existing")


async def test_cancelling_a_waiting_record_frees_its_key(driver: Driver) -> None:
    """A cancelled record holds no key."""
    await driver.enqueue([record("a", key="k")])
    await cancel_one(driver, "a")
    (answer,) = await driver.enqueue([record("b", key="k")])
    assert answer.disposition == "accepted"


async def test_failing_by_too_many_recoveries_frees_the_key(driver: Driver, clock: ManualClock) -> None:
    """A record that failed because it was recovered too often holds no key."""
    await driver.enqueue([record("a", key="k", max_recoveries=0)])
    await lose(driver, clock)
    (answer,) = await driver.enqueue([record("b", key="k")])
    assert answer.disposition == "accepted"


async def test_the_end_of_one_record_does_not_free_the_key_of_the_next(driver: Driver, worker: Worker) -> None:
    """Removing or settling a record again does not free a key that another record holds now."""
    await driver.enqueue([record("a", key="k")])
    held = await worker.take_one()
    await worker.settle(held)
    await driver.enqueue([record("b", key="k")])
    assert await worker.settle(held) == "duplicate"
    assert await cancel_one(driver, "a") == "finished"
    (answer,) = await driver.enqueue([record("c", key="k")])
    assert (answer.id, answer.disposition) == ("b", "existing")


async def test_removing_a_finished_record_does_not_free_the_key_of_the_next(driver: Driver, clock: ManualClock) -> None:
    """Purging the earlier holder leaves the key with the current one."""
    await driver.enqueue([record("a", key="k")])
    await cancel_one(driver, "a")
    await driver.enqueue([record("b", key="k")])
    clock.advance("1m")
    assert await driver.purge("cancelled", older_than=timedelta(seconds=1), limit=10) == 1
    (answer,) = await driver.enqueue([record("c", key="k")])
    assert (answer.id, answer.disposition) == ("b", "existing")


async def test_an_id_may_be_used_again_once_its_record_is_removed(driver: Driver, clock: ManualClock) -> None:
    """A removed record leaves no trace."""
    await finish(driver, "a", DONE)
    clock.advance("1m")
    await driver.purge("completed", older_than=timedelta(seconds=1), limit=10)
    (answer,) = await driver.enqueue([record("a", input=b"2")])
    assert answer.disposition == "accepted"
    found = await stored(driver, "a")
    assert (found.input, found.result, found.finished_at, found.started_at) == (b"2", None, None, None)


async def test_a_batch_with_a_bad_record_stores_none(driver: Driver) -> None:
    """If one record cannot be stored, none of its batch is."""
    naive = datetime(2030, 1, 1, tzinfo=UTC).replace(tzinfo=None)
    with pytest.raises(Exception):  # noqa: B017 - which one is the driver's business; the core refuses it before
        await driver.enqueue([record("a", key="k"), record("b", due=naive)])
    assert await find(driver, "a") is None
    (answer,) = await driver.enqueue([record("c", key="k")])
    assert answer.disposition == "accepted"


async def test_a_large_batch_is_stored_whole(driver: Driver, worker: Worker) -> None:
    """A thousand records of one call are all stored."""
    names = [f"r{number:04d}" for number in range(1000)]
    answers = await driver.enqueue([record(name) for name in names])
    assert [one.id for one in answers] == names
    assert ids(await worker.take(2000)) == names
