"""Waiting steps: each wake-up reaches one waiter, and no waiter misses a wake-up.

A wait may end early for no reason. So these tests wait for what must happen, and none checks how long it took.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.driver import Retried
from flowli_core.durations import ZERO
from flowli_core.errors import StoreUnavailable
from flowli_core.limits import LAST_SEEN_PRECISION, WORKER_MEMORY
from flowli_core.stored import Watch
from tests.conformance.builders import (
    BROKEN,
    HOUR,
    LEASE,
    PATIENCE,
    Worker,
    finish,
    ids,
    record,
    soon,
    step,
    waiting_step,
)
from tests.support.store import requeue_one

if TYPE_CHECKING:
    from flowli_core.driver import Driver, Step, StepAnswer
    from flowli_core.new_records import NewRecord
    from flowli_core.testing import ManualClock


async def wait(driver: Driver, *queues: str) -> list[str]:
    """Wait until something is reserved or a wait ends early; return the ids."""
    return ids((await driver.step(waiting_step(*queues))).reserved)


async def waiting(driver: Driver, *queues: str) -> asyncio.Task[list[str]]:
    """Start a wait that ends only by a wake-up, and let it get as far as it can."""
    task = asyncio.create_task(wait(driver, *queues))
    await settled(driver)
    return task


async def settled(driver: Driver) -> None:
    """Give all tasks and the driver's own threads some time."""
    for _ in range(5):
        await driver.overview()
        await asyncio.sleep(0)


async def cancel(*waiters: asyncio.Task[list[str]] | asyncio.Task[StepAnswer]) -> None:
    """Cancel waits that nothing else ends."""
    for waiter in waiters:
        waiter.cancel()
    await asyncio.wait(waiters)


async def recall(driver: Driver, lost: Step) -> list[str]:
    """Send a waiting step again, like a worker that did not get the answer."""
    return ids((await driver.step(replace(lost, wait=ZERO, want=0))).reserved)


async def test_an_enqueue_wakes_a_waiter(driver: Driver) -> None:
    """A record that is due now ends a wait, and the step reserves it."""
    waiter = await waiting(driver)
    await driver.enqueue([record("a")])
    assert await soon(waiter) == ["a"]


async def test_an_enqueue_before_the_wait_is_not_missed(driver: Driver, worker: Worker) -> None:
    """A wake-up that nobody waited for is kept."""
    assert await worker.take() == ()
    await driver.enqueue([record("a")])
    assert await soon(await waiting(driver)) == ["a"]


async def test_a_record_that_became_due_before_the_wait_is_not_missed(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """It became due by time alone, after a step that found nothing."""
    await driver.enqueue([record("a", due=timedelta(seconds=5))])
    assert await worker.take() == ()
    clock.advance("5s")
    assert await soon(await waiting(driver)) == ["a"]


async def test_a_suspect_enqueued_before_the_wait_is_not_missed(driver: Driver, worker: Worker) -> None:
    """No waiting step reserves it. So its worker learns of it only if the wake-up is kept."""
    assert await worker.take() == ()
    await driver.enqueue([record("a", max_recoveries=0)])
    assert (await soon(driver.step(waiting_step()))).suspect_due


async def test_a_suspect_that_a_step_has_left_is_not_missed(driver: Driver, worker: Worker, other: Worker) -> None:
    """The next one that waits may be idle, and reserve it."""
    await driver.enqueue([record("a", max_recoveries=0), record("b", max_recoveries=0)])
    assert ids(await worker.take(5)) == ["a"]
    assert (await soon(driver.step(waiting_step()))).suspect_due
    assert ids(await other.take(5)) == ["b"]


async def test_a_suspect_enqueued_while_others_wait_is_not_missed(driver: Driver, worker: Worker) -> None:
    """Those who wait for another queue, or for changes, leave the wake-up to the next one of this queue."""
    others = await waiting(driver, "r"), asyncio.create_task(driver.watch(Watch(watcher="w", wait=HOUR, add=("x",))))
    await settled(driver)
    assert await worker.take() == ()
    await driver.enqueue([record("a", max_recoveries=0)])
    await asyncio.sleep(0.1)  # SQLite notices the commit
    assert (await soon(driver.step(waiting_step()))).suspect_due
    for task in others:
        task.cancel()
    await asyncio.wait(others)


async def test_a_suspect_that_stays_due_does_not_end_every_wait(driver: Driver, worker: Worker) -> None:
    """Its workers are busy. If each wait ended at once, they would wait again without a pause."""
    assert await worker.take() == ()
    await driver.enqueue([record("a", max_recoveries=0)])
    first = waiting_step()
    assert (await soon(driver.step(first))).suspect_due

    async def wait_again() -> None:
        for sequence in range(2, 5):
            await driver.step(replace(first, sequence=sequence))

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wait_again(), 0.3)


async def until_taken(driver: Driver) -> list[str]:
    """Wait, again after a wait that ended early, until something is reserved."""
    while not (taken := await wait(driver)):
        pass
    return taken


async def test_a_delayed_record_wakes_a_waiter_when_it_is_due(live_driver: Driver) -> None:
    """The wait ends by time alone."""
    await live_driver.enqueue([record("a", due=timedelta(milliseconds=40))])
    assert await Worker(live_driver).take() == ()
    assert await soon(until_taken(live_driver)) == ["a"]


async def test_a_record_delayed_during_the_wait_wakes_it_when_it_is_due(live_driver: Driver) -> None:
    """It may be due before all records that were known when the wait began."""
    await live_driver.enqueue([record("b", due=HOUR)])
    waiter = await waiting(live_driver)
    await live_driver.enqueue([record("a", due=timedelta(milliseconds=40))])
    assert (await soon(waiter) or await soon(until_taken(live_driver))) == ["a"]


async def test_a_retry_during_the_wait_wakes_it_when_it_is_due(live_driver: Driver) -> None:
    """A retry is a scheduled record like any other."""
    worker = Worker(live_driver)
    await live_driver.enqueue([record("a")])
    held = await worker.take_one()
    waiter = await waiting(live_driver)
    await worker.settle(held, Retried(timedelta(milliseconds=40), b"{}"))
    assert (await soon(waiter) or await soon(until_taken(live_driver))) == ["a"]


async def test_a_requeue_wakes_a_waiter(driver: Driver) -> None:
    """A record that is returned to its queue by hand is due."""
    await finish(driver, "a", BROKEN)
    waiter = await waiting(driver)
    await requeue_one(driver, "a")
    assert await soon(waiter) == ["a"]


async def test_a_retry_without_a_delay_wakes_a_waiter(driver: Driver, worker: Worker, other: Worker) -> None:
    """Another worker may take a retry at once."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    assert await other.take() == ()
    waiter = await waiting(driver)
    await worker.settle(held, Retried(ZERO, b"{}"))
    assert await soon(waiter) == ["a"]


async def test_a_recovery_wakes_a_waiter(driver: Driver, clock: ManualClock) -> None:
    """The worker that recovers it may serve another queue."""
    await driver.enqueue([record("a")])
    await Worker(driver).take_one()
    waiter = await waiting(driver)
    clock.advance(LEASE)
    await Worker(driver, "elsewhere", queues=("elsewhere",)).step()
    assert await soon(waiter) == ["a"]


async def test_a_waiting_step_recovers(driver: Driver, clock: ManualClock) -> None:
    """After the wait it does everything that other steps do."""
    await driver.enqueue([record("a")])
    await Worker(driver).take_one()
    clock.advance(LEASE)
    waiter = asyncio.create_task(driver.step(waiting_step("elsewhere", "q", wait=timedelta(milliseconds=20))))
    answer = await soon(waiter)
    assert [one.id for one in answer.recovered] == ids(answer.reserved) == ["a"]


async def test_a_wait_for_several_queues_is_woken_by_each(driver: Driver) -> None:
    """A record in any of its queues ends the wait."""
    for queue in ("a", "b", "c"):
        waiter = await waiting(driver, "a", "b", "c")
        await driver.enqueue([record(f"in {queue}", queue=queue)])
        assert await soon(waiter) == [f"in {queue}"]


async def test_other_queues_do_not_use_up_a_wake_up(driver: Driver) -> None:
    """A record wakes a waiter of its queue, though another waits for another queue."""
    elsewhere, waiter = await waiting(driver, "elsewhere"), await waiting(driver)
    await driver.enqueue([record("a")])
    assert await soon(waiter) == ["a"]
    await cancel(elsewhere)


async def test_one_record_wakes_one_waiter(driver: Driver) -> None:
    """The other waiters go on waiting."""
    waiters = [await waiting(driver) for _ in range(5)]
    await driver.enqueue([record()])
    async with asyncio.timeout(PATIENCE):
        done, _ = await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
    await settled(driver)
    assert [waiter.done() for waiter in waiters].count(True) == len(done) == 1
    await cancel(*waiters)


async def test_a_batch_wakes_as_many_waiters_as_it_needs(driver: Driver) -> None:
    """A step that leaves due records behind wakes the next: five waiters take five records."""
    waiters = [asyncio.create_task(until_taken(driver)) for _ in range(5)]
    await settled(driver)
    await driver.enqueue([record(name) for name in "abcde"])
    assert sorted(await soon(asyncio.gather(*waiters))) == [["a"], ["b"], ["c"], ["d"], ["e"]]


async def test_records_left_by_a_step_end_the_next_wait(driver: Driver, worker: Worker) -> None:
    """It does not matter whether that step waited."""
    await driver.enqueue([record(name) for name in "abcd"])
    for waits, steps in ("ab", "cd"):
        assert await soon(await waiting(driver)) == [waits]
        assert ids(await worker.take(1)) == [steps]


async def test_a_wait_ends_at_its_timeout(driver: Driver) -> None:
    """If nothing is due, it ends when its time is over; a wait of zero does not wait."""
    for time in (timedelta(milliseconds=20), ZERO):
        assert (await soon(driver.step(waiting_step(wait=time)))).reserved == ()


async def test_a_wait_lets_others_run(driver: Driver) -> None:
    """A worker that always finds work does not block the event loop."""
    await driver.enqueue([record(), record(), record()])
    ran = asyncio.Event()
    asyncio.get_running_loop().call_soon(ran.set)
    for _ in range(3):
        await wait(driver)
    assert ran.is_set()


async def test_closing_ends_every_wait(driver: Driver) -> None:
    """All waiting steps fail when the driver is closed."""
    waiters = [await waiting(driver, *queues) for queues in ("q", "q", "ab")]
    await driver.close()
    for waiter in waiters:
        with pytest.raises(StoreUnavailable):
            await soon(waiter)
    await driver.close()
    await driver.open()


async def test_a_driver_may_be_opened_again(driver: Driver, worker: Worker) -> None:
    """Its records are still stored, and waits work again."""
    await driver.open()
    await driver.enqueue([record("a")])
    await driver.close()
    await driver.open()
    assert ids(await worker.take()) == ["a"]
    waiter = await waiting(driver)
    await driver.enqueue([record("b")])
    assert await soon(waiter) == ["b"]


async def test_a_cancelled_waiter_passes_its_wake_up_on(driver: Driver) -> None:
    """If a waiter is cancelled between its wake-up and its step, the next one is woken instead."""
    lost = waiting_step()
    first = asyncio.create_task(driver.step(lost))
    await settled(driver)
    second = await waiting(driver)
    enqueue_while_this_loop_is_blocked(driver)
    await cancel(first)
    assert first.cancelled()
    assert [*await soon(second), *await recall(driver, lost)] == ["a"]


async def test_a_cancelled_waiter_leaves_its_wake_up_for_later(driver: Driver) -> None:
    """If nobody else waits, the wake-up is kept for the next waiter."""
    lost = waiting_step()
    only = asyncio.create_task(driver.step(lost))
    await settled(driver)
    enqueue_while_this_loop_is_blocked(driver)
    await cancel(only)
    assert only.cancelled()
    assert [*await soon(await waiting(driver)), *await recall(driver, lost)] == ["a"]


async def test_a_cancelled_waiter_leaves_the_wake_up_of_a_suspect_for_later(driver: Driver) -> None:
    only = asyncio.create_task(driver.step(waiting_step()))
    await settled(driver)
    enqueue_while_this_loop_is_blocked(driver, record("a", max_recoveries=0))
    await cancel(only)
    assert (await soon(driver.step(waiting_step()))).suspect_due


def enqueue_while_this_loop_is_blocked(driver: Driver, new: NewRecord | None = None) -> None:
    """Store a record, so that a waiter of this loop is woken but has not noticed it yet."""
    with ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(asyncio.run, _enqueue(driver, new)).result(PATIENCE)


async def test_a_cancelled_waiter_gets_no_wake_up(driver: Driver) -> None:
    """The wake-up goes to one that still waits."""
    first, second = await waiting(driver), asyncio.create_task(until_taken(driver))
    await settled(driver)
    await cancel(first)
    await driver.enqueue([record("a")])
    assert await soon(second) == ["a"]


async def test_a_wait_that_is_cancelled_is_cancelled(driver: Driver) -> None:
    """Cancellation is never swallowed."""
    waiter = await waiting(driver)
    await cancel(waiter)
    assert waiter.cancelled()


async def test_a_waiter_is_woken_from_another_event_loop(driver: Driver) -> None:
    """A record that is enqueued from another thread's loop ends a wait on this one."""
    waiter = await waiting(driver)
    await asyncio.to_thread(asyncio.run, _enqueue(driver))
    assert await soon(waiter) == ["a"]


async def _enqueue(driver: Driver, new: NewRecord | None = None) -> None:
    await driver.enqueue([new or record("a")])


async def test_a_waiting_step_whose_answer_was_lost_is_answered_again(driver: Driver) -> None:
    """It returns what it had reserved, under the same token, and reserves nothing more."""
    lost = waiting_step()
    await driver.enqueue([record("a"), record("b")])
    (held,) = (await driver.step(lost)).reserved
    (again,) = (await driver.step(replace(lost, wait=ZERO, want=0))).reserved
    assert (again.id, again.token) == ("a", held.token)
    assert ids(await Worker(driver, "other").take(5)) == ["b"]


async def test_a_cancelled_waiting_step_reserves_nothing_once_it_was_sent_again(driver: Driver) -> None:
    """Sent again, it returns that it had reserved nothing; later records are for other steps."""
    lost = waiting_step()
    waiter = asyncio.create_task(driver.step(lost))
    await settled(driver)
    await cancel(waiter)
    assert await recall(driver, lost) == []
    await driver.enqueue([record("a")])
    await settled(driver)
    assert await recall(driver, lost) == []
    assert ids(await Worker(driver, "other").take(5)) == ["a"]


async def test_steps_during_a_wait_and_the_waiting_step_do_not_affect_each_other(driver: Driver) -> None:
    """A worker has two independent sequences."""
    wait = step("w", sequence=1, want=5, wait=HOUR)
    worker = Worker(driver)
    await worker.step()
    waiter = asyncio.create_task(driver.step(wait))
    await settled(driver)
    await worker.step()
    await driver.enqueue([record("a")])
    assert ids((await soon(waiter)).reserved) == ["a"]
    assert await recall(driver, wait) == ["a"]
    assert (await worker.again()).reserved == ()
    await driver.enqueue([record("b")])
    answer = await worker.step(want=5)
    assert ids(answer.reserved) == ["b"]
    assert not answer.forgot


async def test_a_late_copy_of_an_old_waiting_step_does_nothing(driver: Driver) -> None:
    """A waiting step with a lower sequence than the last reserves nothing."""
    await driver.step(step("w", sequence=2, wait=ZERO))
    await driver.enqueue([record("a")])
    assert (await soon(driver.step(step("w", sequence=1, wait=HOUR)))).reserved == ()
    assert ids((await driver.step(step("w", sequence=3, wait=ZERO))).reserved) == ["a"]


async def test_a_worker_that_only_waits_is_alive_and_remembered(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """Waiting steps also keep its other sequence from being forgotten. A gap between them does not mean lost data."""
    await worker.step()
    await worker.step()
    for number in range(1, 15):
        clock.advance(WORKER_MEMORY / 10)
        assert not (await driver.step(step("w", sequence=2 * number, wait=ZERO))).forgot
        overview = await driver.overview()
        assert overview.now - overview.workers["w"].seen <= LAST_SEEN_PRECISION
    assert not (await worker.step()).forgot


async def test_a_crowd_of_waiters_misses_no_record(driver: Driver) -> None:
    """Workers wait for an hour each time; every few records one of them is cancelled, asks again, and goes on."""
    tokens: dict[str, int] = {}
    last: dict[str, Step] = {}
    all_taken = asyncio.Event()

    def note(answer: StepAnswer) -> None:
        for held in answer.reserved:
            assert tokens.setdefault(held.id, held.token) == held.token
        if len(tokens) == 60:
            all_taken.set()

    async def work(name: str) -> None:
        while True:
            last[name] = step(name, sequence=last[name].sequence + 1 if name in last else 1, wait=HOUR)
            note(await driver.step(last[name]))

    names = [f"w{number}" for number in range(5)]
    tasks = {name: asyncio.create_task(work(name)) for name in names}
    await settled(driver)
    for number in range(60):
        await driver.enqueue([record(f"r{number:02}")])
        for _ in range(number % 7):
            await asyncio.sleep(0)
        if number % 4 == 0:
            name = names[number % 5]
            tasks[name].cancel()
            await asyncio.wait([tasks[name]])
            note(await driver.step(replace(last[name], wait=ZERO, want=0)))
            tasks[name] = asyncio.create_task(work(name))
    await soon(all_taken.wait())
    for task in tasks.values():
        task.cancel()
    await asyncio.wait(tasks.values())
    assert len(set(tokens.values())) == 60
