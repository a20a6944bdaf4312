"""The effect of each outcome on an active record."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.driver import Cancelled, Completed, Failed, Released, Retried
from flowli_core.durations import ZERO
from tests.conformance.builders import BROKEN, DONE, LEASE, Worker, ack, ids, record, stored
from tests.support.store import cancel_one

if TYPE_CHECKING:
    from flowli_core.driver import AckAnswer, Driver, Outcome
    from flowli_core.testing import ManualClock


async def test_completed_keeps_the_result(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A completed record has its result, its worker and its times."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    clock.advance("3s")
    assert await worker.settle(held, Completed(b'{"sent":true}')) == "ok"
    found = await stored(driver, "a")
    assert (found.state, found.result, found.worker) == ("completed", b'{"sent":true}', "w")
    assert (found.finished_at, found.updated_at, found.failed_at) == (clock.now(), clock.now(), None)
    assert await worker.take() == ()


async def test_failed_keeps_the_attempts(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A failed record has the attempts that the core wrote about its failures."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    clock.advance("3s")
    assert await worker.settle(held, Failed(b'{"failures":1}')) == "ok"
    found = await stored(driver, "a")
    assert (found.state, found.attempts, found.result, found.worker) == ("failed", b'{"failures":1}', None, "w")
    assert found.failed_at == found.finished_at == found.updated_at == clock.now()
    assert await worker.take() == ()


async def test_a_retry_is_scheduled_with_its_attempts(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """The next worker gets the attempts."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    clock.advance("3s")
    assert await worker.settle(held, Retried(timedelta(seconds=10), b'{"failures":1}')) == "ok"
    found = await stored(driver, "a")
    assert (found.state, found.attempts, found.result) == ("scheduled", b'{"failures":1}', None)
    assert found.scheduled_for == clock.now() + timedelta(seconds=10)
    assert (found.failed_at, found.updated_at, found.finished_at) == (clock.now(), clock.now(), None)
    clock.advance("10s")
    assert (await worker.take_one()).attempts == b'{"failures":1}'


async def test_a_retry_without_a_delay_is_due_now(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """It may be reserved at once."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    clock.advance("3s")
    await worker.settle(held, Retried(ZERO, b"{}"))
    found = await stored(driver, "a")
    assert (found.state, found.scheduled_for) == ("queued", clock.now())
    assert ids(await worker.take()) == ["a"]


async def test_a_release_leaves_no_failure(driver: Driver, worker: Worker) -> None:
    """The record looks as if it had never failed."""
    await driver.enqueue([record("a")])
    await worker.settle(await worker.take_one(), Released())
    found = await stored(driver, "a")
    assert (found.state, found.attempts, found.failed_at, found.finished_at) == ("queued", None, None, None)
    assert (await worker.take_one()).attempts is None


async def test_a_release_may_replace_the_attempts(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """Without any, the old ones stay. Neither counts as a failure."""
    await driver.enqueue([record("a")])
    await worker.settle(await worker.take_one(), Retried(ZERO, b"1"))
    failed_at = clock.now()
    clock.advance("1s")
    await worker.settle(await worker.take_one(), Released())
    assert (await stored(driver, "a")).attempts == b"1"
    await worker.settle(await worker.take_one(), Released(attempts=b"2"))
    found = await stored(driver, "a")
    assert (found.attempts, found.failed_at) == (b"2", failed_at)
    assert (await worker.take_one()).attempts == b"2"


async def test_completing_leaves_the_attempts_of_earlier_failures(driver: Driver, worker: Worker) -> None:
    """A record that failed once and then completed has both."""
    await driver.enqueue([record("a")])
    await worker.settle(await worker.take_one(), Retried(ZERO, b"1"))
    await worker.settle(await worker.take_one(), Completed(b"2"))
    found = await stored(driver, "a")
    assert (found.state, found.attempts, found.result) == ("completed", b"1", b"2")


async def test_cancelled_finishes_a_record(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A handler that was cancelled on request leaves a cancelled record."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    await cancel_one(driver, "a")
    clock.advance("1s")
    assert await worker.settle(held, Cancelled()) == "ok"
    found = await stored(driver, "a")
    assert (found.state, found.finished_at, found.result, found.failed_at) == ("cancelled", clock.now(), None, None)


@pytest.mark.parametrize(
    "outcome", [Completed(b"1"), Failed(b"{}"), Retried(timedelta(seconds=5), b"{}"), Released(), Cancelled()]
)
async def test_an_ack_sets_when_the_handler_started(
    driver: Driver, worker: Worker, clock: ManualClock, outcome: Outcome
) -> None:
    """Until then the record shows when it was reserved."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    reserved_at = clock.now()
    assert (await stored(driver, "a")).started_at == reserved_at
    clock.advance("5s")
    started_at = reserved_at + timedelta(milliseconds=1250)
    await worker.settle(held, outcome, started_at=started_at)
    assert (await stored(driver, "a")).started_at == started_at


async def test_an_ack_without_a_start_leaves_the_time_of_reserving(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """A record whose handler never started shows when it was reserved."""
    await driver.enqueue([record("a")])
    reserved_at = clock.now()
    held = await worker.take_one()
    clock.advance("5s")
    await worker.settle(held, Released())
    assert (await stored(driver, "a")).started_at == reserved_at


async def test_every_attempt_has_its_own_start(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A later attempt replaces the start of the one before."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    await worker.settle(held, Retried(ZERO, b"{}"), started_at=clock.now())
    clock.advance("1m")
    await worker.take_one()
    assert (await stored(driver, "a")).started_at == clock.now()


async def test_many_outcomes_in_one_step(driver: Driver, worker: Worker) -> None:
    """A step settles a whole batch, each record with an outcome of its own."""
    await driver.enqueue([record(name) for name in "abcde"])
    batch = await worker.take(5)
    outcomes: list[Outcome] = [Completed(b"1"), Failed(b"{}"), Retried(LEASE, b"{}"), Released(), Cancelled()]
    acks = [ack(held, outcome) for held, outcome in zip(batch, outcomes, strict=True)]
    assert (await worker.step(*acks)).acks == ("ok",) * 5
    states = [(await stored(driver, name)).state for name in "abcde"]
    assert states == ["completed", "failed", "scheduled", "queued", "cancelled"]


async def test_the_records_of_a_batch_end_each_in_its_own_way(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """Neighbours that have all but one thing in common keep their own states, results and times."""
    await driver.enqueue([record(name) for name in "abcdef"])
    batch = await worker.take(6)
    start = clock.now()
    clock.advance("2s")
    outcomes: list[Outcome] = [Completed(b"1"), Cancelled(), Completed(b"2"), BROKEN, BROKEN, Completed(b"2")]
    starts = [start, start, start, start, clock.now(), clock.now()]
    acks = [ack(*one, started_at=at) for one, at in zip(zip(batch, outcomes, strict=True), starts, strict=True)]
    assert (await worker.step(*acks)).acks == ("ok",) * 6
    found = [await stored(driver, name) for name in "abcdef"]
    states = ["completed", "cancelled", "completed", "failed", "failed", "completed"]
    assert [(one.state, one.result, one.started_at, one.failed_at) for one in found] == [
        (
            state,
            outcome.result if isinstance(outcome, Completed) else None,
            at,
            clock.now() if state == "failed" else None,
        )
        for state, outcome, at in zip(states, outcomes, starts, strict=True)
    ]
    counts = (await driver.overview()).counts
    assert (counts.active, counts.completed, counts.failed, counts.cancelled) == (0, 3, 2, 1)


async def test_the_records_of_a_batch_return_to_their_own_positions(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """Each keeps its due time when it is released."""
    await driver.enqueue([record("a")])
    due = clock.now()
    clock.advance("1s")
    await driver.enqueue([record("b"), record("c")])
    batch = await worker.take(3)
    await worker.step(*[ack(held, Released()) for held in batch])
    assert [(await stored(driver, name)).scheduled_for for name in "abc"] == [due, clock.now(), clock.now()]


async def test_the_records_of_a_batch_keep_their_own_jobs(
    driver: Driver, worker: Worker, other: Worker, clock: ManualClock
) -> None:
    """Each has its own name and meta, also when it is recovered."""
    metas = {"a": None, "b": None, "c": b"meta", "d": b"m"}
    await driver.enqueue([record(one, name=f"job {one}", meta=meta) for one, meta in metas.items()])
    expected = [(f"job {one}", meta) for one, meta in metas.items()]
    assert [(held.name, held.meta) for held in await worker.take(4)] == expected
    clock.advance(LEASE)
    recovered = (await other.step()).recovered
    assert sorted((one.name, one.meta) for one in recovered) == expected


async def test_a_released_record_may_be_reserved_by_the_same_step(driver: Driver, worker: Worker) -> None:
    """Settling comes before reserving. The record has a new token."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    answer = await worker.step(ack(held, Released()), want=1)
    assert answer.acks == ("ok",)
    assert ids(answer.reserved) == ["a"]
    assert answer.reserved[0].token > held.token


async def test_the_answers_to_many_acks_of_two_queues_are_in_the_order_of_the_acks(driver: Driver) -> None:
    """They do not follow the order of the queues, the outcomes or the answers; also if the step is sent again."""
    outcomes: list[Outcome] = [DONE, BROKEN, Cancelled(), Retried(ZERO, b"{}"), Released()]
    await driver.enqueue([record(f"{number:02}", queue="qr"[number % 2]) for number in range(20)])
    worker = Worker(driver, queues=("q", "r"))
    held = {one.id: one for one in await worker.take(20)}
    expected: dict[str, AckAnswer] = dict.fromkeys(held, "ok")
    for settled in ("03", "04", "11", "17"):
        assert await worker.settle(held[settled]) == "ok"
        expected[settled] = "duplicate"
    acks = [ack(one, outcomes[number % 5]) for number, one in enumerate(held.values())]
    acks[5], expected[acks[5].id] = replace(acks[5], token=acks[5].token + 1), "lost"
    acks = acks[2::3] + acks[::3] + acks[1::3]
    answer = await worker.step(*acks)
    assert answer.acks == tuple([expected[one.id] for one in acks])
    assert (await worker.again()).acks == answer.acks
