"""Steps that are sent again or late, and the times that a step returns."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.driver import Released, Retried
from flowli_core.durations import ZERO
from flowli_core.limits import WORKER_MEMORY
from tests.conformance.builders import BROKEN, LEASE, Worker, ack, ids, lease_of, record, step, stored
from tests.support.store import find, read_page

if TYPE_CHECKING:
    from flowli_core.driver import Driver
    from flowli_core.testing import ManualClock


async def test_a_step_returns_the_time_of_the_store(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """The answer has the store's now."""
    assert (await worker.step()).now == clock.now()


async def test_a_step_on_an_empty_store_does_nothing(driver: Driver, worker: Worker) -> None:
    """Nothing is reserved, and `next_due` is None."""
    answer = await worker.step(want=10)
    assert (answer.acks, answer.reserved, answer.recovered, answer.next_due) == ((), (), (), None)


async def test_a_step_that_wants_nothing_reserves_nothing(driver: Driver, worker: Worker) -> None:
    """With `want` zero a step settles and returns what is next."""
    await driver.enqueue([record("a"), record("b")])
    held = await worker.take_one()
    answer = await worker.step(ack(held), want=0)
    assert (answer.acks, answer.reserved, answer.next_due) == (("ok",), (), ZERO)
    assert (await stored(driver, "b")).state == "queued"


async def test_a_step_sent_again_gets_the_same_answer(driver: Driver, worker: Worker) -> None:
    """It has the same acks, batch and token: nothing is settled or reserved twice."""
    await driver.enqueue([record(name) for name in "abcd"])
    a, b = await worker.take(2)
    first = await worker.step(ack(a), ack(b, BROKEN), ack(a), want=1)
    second = await worker.again()
    assert first.acks == second.acks == ("ok", "ok", "duplicate")
    assert first.reserved == second.reserved
    assert ids(second.reserved) == ["c"]
    assert (await driver.overview()).counts.queued == 1


async def test_a_step_sent_again_reserves_nothing_new(driver: Driver, worker: Worker) -> None:
    """If it found nothing the first time, it gets nothing the second time."""
    assert await worker.take(5) == ()
    await driver.enqueue([record("a")])
    answer = await worker.again()
    assert (answer.reserved, answer.next_due) == ((), ZERO)
    assert ids(await worker.take(5)) == ["a"]


async def test_a_step_sent_again_renews_its_leases(
    driver: Driver, worker: Worker, other: Worker, clock: ManualClock
) -> None:
    """The leases of its batch count from then on."""
    await driver.enqueue([record("a")])
    await worker.take_one()
    clock.advance("20s")
    await worker.again()
    clock.advance("29999ms")
    assert (await other.step()).recovered == ()
    clock.advance("1ms")
    assert [one.id for one in (await other.step()).recovered] == ["a"]


async def test_a_step_sent_again_renews_no_lease_of_another_batch(
    driver: Driver, worker: Worker, other: Worker, clock: ManualClock
) -> None:
    await driver.enqueue([record("a"), record("b")])
    await other.take_one()
    await worker.take_one()
    clock.advance("20s")
    await worker.again()
    clock.advance("10s")
    assert [one.id for one in (await worker.step()).recovered] == ["a"]


async def test_a_step_sent_again_renews_expired_leases_that_were_not_recovered(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """It does not recover, so its own records are still held."""
    await driver.enqueue([record("a")])
    first = await worker.step(want=1)
    clock.advance("1m")
    second = await worker.again()
    assert (second.recovered, second.reserved) == ((), first.reserved)


async def test_a_step_sent_again_returns_only_what_is_still_held(
    driver: Driver, worker: Worker, other: Worker, clock: ManualClock
) -> None:
    """Records that were recovered meanwhile are left out."""
    await driver.enqueue([record(name) for name in "abc"])
    a, b, c = await worker.take(3)
    clock.advance("20s")
    await driver.heartbeat("w", [lease_of(b)], LEASE)
    clock.advance("10s")
    taken = await other.take_one()
    assert taken.id == "a"
    answer = await worker.again()
    assert [(one.id, one.token) for one in answer.reserved] == [("b", b.token)]
    assert await worker.settle(a) == "lost"
    assert await worker.settle(c) == "lost"


async def test_a_step_sent_again_reports_no_recovery_twice(
    driver: Driver, worker: Worker, other: Worker, clock: ManualClock
) -> None:
    """The hooks for recoveries run once."""
    await driver.enqueue([record("a")])
    await other.take_one()
    clock.advance(LEASE)
    assert len((await worker.step()).recovered) == 1
    assert (await worker.again()).recovered == ()


async def test_a_step_sent_again_returns_complete_records(driver: Driver, worker: Worker) -> None:
    """The batch is as it was the first time, with its attempts."""
    await driver.enqueue([record("a", meta=b"m", policy=b"p")])
    await worker.settle(await worker.take_one(), Retried(ZERO, b"1"))
    first = await worker.step(want=1)
    assert (await worker.again()).reserved == first.reserved
    assert first.reserved[0].attempts == b"1"


async def test_a_late_step_does_nothing(driver: Driver, worker: Worker) -> None:
    """A copy of an old step, with a lower sequence, settles and reserves nothing."""
    await driver.enqueue([record("a"), record("b")])
    held = await worker.take_one()
    await worker.step()
    before = await stored(driver, "a")
    answer = await driver.step(replace(worker.last, sequence=1, acks=(ack(held), ack(held)), want=5))
    assert (answer.acks, answer.reserved, answer.recovered) == (("lost", "lost"), (), ())
    assert await stored(driver, "a") == before
    assert (await stored(driver, "b")).state == "queued"


async def test_a_late_step_recovers_nothing(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A copy of an old step does not recover expired leases."""
    await driver.enqueue([record("a")])
    await worker.take_one()
    await worker.step()
    clock.advance(LEASE)
    assert (await driver.step(replace(worker.last, sequence=1))).recovered == ()
    assert (await stored(driver, "a")).state == "active"


async def test_a_late_step_does_not_hide_the_last(driver: Driver, worker: Worker) -> None:
    """After it the last step may still be sent again."""
    await driver.enqueue([record("a")])
    await worker.step()
    first = await worker.step(want=1)
    await driver.step(replace(worker.last, sequence=1))
    assert (await worker.again()).reserved == first.reserved


async def test_each_worker_has_its_own_sequence(driver: Driver) -> None:
    """Two workers may both send step 1."""
    await driver.enqueue([record("a"), record("b")])
    first = await driver.step(step("one", sequence=1))
    second = await driver.step(step("two", sequence=1))
    assert (ids(first.reserved), ids(second.reserved)) == (["a"], ["b"])


async def test_a_sequence_may_begin_anywhere(driver: Driver) -> None:
    """The first step of an unknown worker counts, whatever its number."""
    await driver.enqueue([record("a")])
    assert ids((await driver.step(step(sequence=41))).reserved) == ["a"]
    assert (await driver.step(step(sequence=40))).reserved == ()


async def test_a_worker_that_was_not_seen_for_long_is_forgotten(driver: Driver, clock: ManualClock) -> None:
    """It may start again with its sequence."""
    await driver.step(step(sequence=7))
    await driver.enqueue([record("a")])
    clock.advance(WORKER_MEMORY - timedelta(milliseconds=1))
    assert (await driver.step(step(sequence=1))).reserved == ()
    clock.advance(WORKER_MEMORY)
    assert ids((await driver.step(step(sequence=1))).reserved) == ["a"]


async def test_a_worker_that_steps_is_remembered(driver: Driver, clock: ManualClock) -> None:
    """Each step shows that the worker is alive."""
    for sequence in range(1, 5):
        await driver.step(step(sequence=sequence))
        clock.advance(WORKER_MEMORY - timedelta(seconds=1))
    await driver.enqueue([record()])
    assert (await driver.step(step(sequence=2))).reserved == ()


@pytest.mark.parametrize("steps", [1, 2])
async def test_a_step_that_is_sent_again_shows_that_the_worker_is_alive(
    driver: Driver, clock: ManualClock, steps: int
) -> None:
    """Also one that found nothing, which a driver may remember elsewhere."""
    for sequence in range(1, steps + 1):
        await driver.step(step(sequence=sequence))
    clock.advance(WORKER_MEMORY - timedelta(seconds=1))
    await driver.step(step(sequence=steps))
    clock.advance(WORKER_MEMORY - timedelta(seconds=1))
    await driver.enqueue([record()])
    assert (await driver.step(step(sequence=steps))).reserved == ()


async def test_records_left_by_a_step_are_due_at_once(driver: Driver, worker: Worker) -> None:
    """If a step could have reserved more, `next_due` is zero."""
    await driver.enqueue([record() for _ in range(3)])
    assert (await worker.step(want=2)).next_due == ZERO


async def test_a_scheduled_record_sets_next_due(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """`next_due` is the time until the first scheduled record of the queues is due."""
    await driver.enqueue([record(due=timedelta(seconds=9)), record(due=timedelta(milliseconds=4001))])
    await driver.enqueue([record(queue="elsewhere", due=timedelta(seconds=1))])
    assert (await worker.step(want=1)).next_due == timedelta(milliseconds=4001)
    clock.advance("4s")
    assert (await worker.step(want=1)).next_due == timedelta(milliseconds=1)


async def test_the_end_of_any_lease_sets_next_due(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """Leases of all workers count, because any worker may recover them."""
    await driver.enqueue([record(queue="elsewhere")])
    await Worker(driver, "there", queues=("elsewhere",)).take_one(lease=timedelta(seconds=8))
    clock.advance("3s")
    assert (await worker.step(want=1)).next_due == timedelta(seconds=5)


async def test_the_earliest_time_sets_next_due(driver: Driver, worker: Worker) -> None:
    """The earlier one of a lease's end and a scheduled record's due time counts."""
    await driver.enqueue([record("a"), record("b", due=timedelta(seconds=10))])
    assert (await worker.step(want=1, lease=timedelta(seconds=60))).next_due == timedelta(seconds=10)
    await driver.enqueue([record("c")])
    assert (await worker.step(want=1, lease=timedelta(seconds=5))).next_due == timedelta(seconds=5)


async def test_workers_that_step_at_once_share_the_work(driver: Driver) -> None:
    """They reserve each record once, and leave none."""
    names = [f"r{number:03d}" for number in range(200)]
    await driver.enqueue([record(name) for name in names])
    taken: list[str] = []
    tokens: dict[int, str] = {}

    async def work(worker: Worker, name: str) -> None:
        while batch := await worker.take(3):
            assert tokens.setdefault(batch[0].token, name) == name
            taken.extend(ids(batch))
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(work(Worker(driver, f"w{number}"), f"w{number}"))
    assert sorted(taken) == names


async def test_tasks_that_enqueue_at_once_store_an_id_once(driver: Driver, worker: Worker) -> None:
    """Exactly one of several enqueues with the same id is accepted."""
    answers = await asyncio.gather(*(driver.enqueue([record("a", key="k")]) for _ in range(20)))
    dispositions = [one.disposition for (one,) in answers]
    assert sorted(dispositions) == ["accepted"] + ["duplicate"] * 19
    assert len(await worker.take(20)) == 1


async def test_threads_with_loops_of_their_own_share_a_driver(driver: Driver, worker: Worker) -> None:
    """Records may be enqueued from any event loop."""
    names = [[f"{thread}-{number}" for number in range(20)] for thread in range(4)]

    def enqueue(some: list[str]) -> None:
        async def each() -> None:
            for name in some:
                await driver.enqueue([record(name)])

        asyncio.run(each())

    await asyncio.gather(*(asyncio.to_thread(enqueue, some) for some in names))
    assert sorted(ids(await worker.take(100))) == sorted(name for some in names for name in some)


async def test_a_cancelled_enqueue_stores_all_or_nothing(driver: Driver, worker: Worker) -> None:
    """It does not affect later calls."""
    for number in range(20):
        names = [f"{number}-{which}" for which in "ab"]
        call = asyncio.create_task(driver.enqueue([record(name) for name in names]))
        for _ in range(number % 5):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        found = ids(await read_page(driver, "queued", limit=100))
        assert len(set(names) & set(found)) in {0, 2}
    await driver.enqueue([record("last")])
    assert (await find(driver, "last")) is not None


async def test_a_settled_record_is_not_in_the_batch_of_a_step_sent_again(
    driver: Driver, worker: Worker, other: Worker, clock: ManualClock
) -> None:
    """Another worker has recovered it, and settled it under a token of its own."""
    await driver.enqueue([record("a"), record("b")])
    first, second = await worker.take(2)
    await driver.heartbeat("w", [lease_of(first)], timedelta(seconds=1))
    clock.advance("1s")
    await other.settle(await other.take_one(), Released())
    assert ids((await worker.again()).reserved) == [second.id]
