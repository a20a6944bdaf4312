"""Steps that wait for work: each wake-up reaches one waiter, and no waiter sleeps on for want of one.

A wait may end early for no reason, so these tests wait for what must happen; none asserts how long it took.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.driver import LAST_SEEN_PRECISION, WORKER_MEMORY, Retried
from flowli_core.durations import ZERO
from flowli_core.errors import StoreUnavailable
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

if TYPE_CHECKING:
    from flowli_core.driver import Driver, Step, StepAnswer
    from flowli_core.testing import ManualClock


async def wait(driver: Driver, *queues: str) -> list[str]:
    """Wait until something is reserved or a wait ends early; return the ids."""
    return ids((await driver.step(waiting_step(*queues))).reserved)


async def waiting(driver: Driver, *queues: str) -> asyncio.Task[list[str]]:
    """Start a wait that ends by a wake-up or never, and let it get as far as it can."""
    task = asyncio.create_task(wait(driver, *queues))
    await settled(driver)
    return task


async def settled(driver: Driver) -> None:
    """Give every task, and the driver's own threads, the time of a few calls."""
    for _ in range(5):
        await driver.overview()
        await asyncio.sleep(0)


async def cancel(*waiters: asyncio.Task[list[str]] | asyncio.Task[StepAnswer]) -> None:
    """End waits that nothing else will end."""
    for waiter in waiters:
        waiter.cancel()
    await asyncio.wait(waiters)


async def recall(driver: Driver, lost: Step) -> list[str]:
    """Send a waiting step again, as a worker that has not had its answer."""
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


async def test_what_became_due_before_the_wait_is_not_missed(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """Time alone makes work, between a step that found nothing and the wait."""
    await driver.enqueue([record("a", due=timedelta(seconds=5))])
    assert await worker.take() == ()
    clock.advance("5s")
    assert await soon(await waiting(driver)) == ["a"]


async def until_taken(driver: Driver) -> list[str]:
    """Wait, again after a wait that ended early, until something is reserved."""
    while not (taken := await wait(driver)):
        pass
    return taken


async def test_a_delayed_record_wakes_a_waiter_when_it_is_due(live_driver: Driver) -> None:
    """A wait ends when a scheduled record becomes due, though nobody does anything."""
    await live_driver.enqueue([record("a", due=timedelta(milliseconds=40))])
    assert await Worker(live_driver).take() == ()
    assert await soon(until_taken(live_driver)) == ["a"]


async def test_a_record_delayed_during_the_wait_wakes_it_when_it_is_due(live_driver: Driver) -> None:
    """A wait that is under way ends for a scheduled record that will be due before all others."""
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
    """A record that is put back by hand is work."""
    await finish(driver, "a", BROKEN)
    waiter = await waiting(driver)
    await driver.requeue("a")
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
    """A record whose lease has ended is work for another queue's workers as well."""
    await driver.enqueue([record("a")])
    await Worker(driver).take_one()
    waiter = await waiting(driver)
    clock.advance(LEASE)
    await Worker(driver, "elsewhere", queues=("elsewhere",)).step()
    assert await soon(waiter) == ["a"]


async def test_a_waiting_step_recovers(driver: Driver, clock: ManualClock) -> None:
    """After the wait it does all that another step does."""
    await driver.enqueue([record("a")])
    await Worker(driver).take_one()
    clock.advance(LEASE)
    waiter = asyncio.create_task(driver.step(waiting_step("elsewhere", "q", wait=timedelta(milliseconds=20))))
    answer = await soon(waiter)
    assert [one.id for one in answer.recovered] == ids(answer.reserved) == ["a"]


async def test_a_wait_for_several_queues_is_woken_by_each(driver: Driver) -> None:
    """Any of the queues ends the wait."""
    for queue in ("a", "b", "c"):
        waiter = await waiting(driver, "a", "b", "c")
        await driver.enqueue([record(f"in {queue}", queue=queue)])
        assert await soon(waiter) == [f"in {queue}"]


async def test_other_queues_do_not_use_up_a_wake_up(driver: Driver) -> None:
    """A record of one queue wakes a waiter of that queue, though another waits for something else."""
    elsewhere, waiter = await waiting(driver, "elsewhere"), await waiting(driver)
    await driver.enqueue([record("a")])
    assert await soon(waiter) == ["a"]
    await cancel(elsewhere)


async def test_one_record_wakes_one_waiter(driver: Driver) -> None:
    """Of many waiters one is woken, and the others sleep on."""
    waiters = [await waiting(driver) for _ in range(5)]
    await driver.enqueue([record()])
    async with asyncio.timeout(PATIENCE):
        done, _ = await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
    await settled(driver)
    assert [waiter.done() for waiter in waiters].count(True) == len(done) == 1
    await cancel(*waiters)


async def test_a_batch_reaches_all_who_wait_for_it(driver: Driver) -> None:
    """A step that leaves due work behind wakes the next one: five waiters that take one each take five."""
    waiters = [asyncio.create_task(until_taken(driver)) for _ in range(5)]
    await settled(driver)
    await driver.enqueue([record(name) for name in "abcde"])
    assert sorted(await soon(asyncio.gather(*waiters))) == [["a"], ["b"], ["c"], ["d"], ["e"]]


async def test_what_a_step_leaves_behind_ends_the_next_wait(driver: Driver, worker: Worker) -> None:
    """A wait after a step that left something returns at once, each time, whether that step waited or not."""
    await driver.enqueue([record(name) for name in "abcd"])
    for waits, steps in ("ab", "cd"):
        assert await soon(await waiting(driver)) == [waits]
        assert ids(await worker.take(1)) == [steps]


async def test_a_wait_ends_at_its_timeout(driver: Driver) -> None:
    """With nothing to do a wait ends when its time is up; with no time it does not wait at all."""
    for time in (timedelta(milliseconds=20), ZERO):
        assert (await soon(driver.step(waiting_step(wait=time)))).reserved == ()


async def test_a_wait_lets_others_run(driver: Driver) -> None:
    """A worker that always finds work does not keep the event loop for itself."""
    await driver.enqueue([record(), record(), record()])
    ran = asyncio.Event()
    asyncio.get_running_loop().call_soon(ran.set)
    for _ in range(3):
        await wait(driver)
    assert ran.is_set()


async def test_closing_ends_every_wait(driver: Driver) -> None:
    """All waiting steps fail when the driver is closed, however many they are."""
    waiters = [await waiting(driver, *queues) for queues in ("q", "q", "ab")]
    await driver.close()
    for waiter in waiters:
        with pytest.raises(StoreUnavailable):
            await soon(waiter)
    await driver.close()
    await driver.open()


async def test_a_driver_may_be_opened_again(driver: Driver, worker: Worker) -> None:
    """What was stored before a close is there after the next open, and waits work again."""
    await driver.open()
    await driver.enqueue([record("a")])
    await driver.close()
    await driver.open()
    assert ids(await worker.take()) == ["a"]
    waiter = await waiting(driver)
    await driver.enqueue([record("b")])
    assert await soon(waiter) == ["b"]


async def test_a_cancelled_waiter_passes_its_wake_up_on(driver: Driver) -> None:
    """If the waiter that was woken is cancelled before it could step, the next in line is woken instead."""
    lost = waiting_step()
    first = asyncio.create_task(driver.step(lost))
    await settled(driver)
    second = await waiting(driver)
    enqueue_behind_the_back_of_this_loop(driver)
    await cancel(first)
    assert first.cancelled()
    assert [*await soon(second), *await recall(driver, lost)] == ["a"]


async def test_a_cancelled_waiter_leaves_its_wake_up_for_later(driver: Driver) -> None:
    """If nobody else waits, the wake-up is kept for the next one."""
    lost = waiting_step()
    only = asyncio.create_task(driver.step(lost))
    await settled(driver)
    enqueue_behind_the_back_of_this_loop(driver)
    await cancel(only)
    assert only.cancelled()
    assert [*await soon(await waiting(driver)), *await recall(driver, lost)] == ["a"]


def enqueue_behind_the_back_of_this_loop(driver: Driver) -> None:
    """Store a record while this loop stands still, so that a waiter is woken but cannot have noticed yet."""
    with ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(asyncio.run, _enqueue(driver)).result(PATIENCE)


async def test_a_cancelled_waiter_is_out_of_the_line(driver: Driver) -> None:
    """A waiter that is gone is not woken in place of one that waits."""
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


async def _enqueue(driver: Driver) -> None:
    await driver.enqueue([record("a")])


async def test_a_waiting_step_whose_answer_was_lost_is_answered_again(driver: Driver) -> None:
    """It gets what it had reserved, under the same token, and nothing more."""
    lost = waiting_step()
    await driver.enqueue([record("a"), record("b")])
    (held,) = (await driver.step(lost)).reserved
    (again,) = (await driver.step(replace(lost, wait=ZERO, want=0))).reserved
    assert (again.id, again.token) == ("a", held.token)
    assert ids(await Worker(driver, "other").take(5)) == ["b"]


async def test_a_cancelled_waiting_step_reserves_nothing_once_it_was_sent_again(driver: Driver) -> None:
    """Asked again, it says that it had reserved nothing; what comes later is for others."""
    lost = waiting_step()
    waiter = asyncio.create_task(driver.step(lost))
    await settled(driver)
    await cancel(waiter)
    assert await recall(driver, lost) == []
    await driver.enqueue([record("a")])
    await settled(driver)
    assert await recall(driver, lost) == []
    assert ids(await Worker(driver, "other").take(5)) == ["a"]


async def test_steps_during_a_wait_do_not_void_it_and_it_does_not_void_them(driver: Driver) -> None:
    """The two sequences of a worker are apart."""
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
    """Its waiting steps keep its other sequence as well, and no gap in their own means that data was lost."""
    await worker.step()
    await worker.step()
    for number in range(1, 15):
        clock.advance(WORKER_MEMORY / 10)
        assert not (await driver.step(step("w", sequence=2 * number, wait=ZERO))).forgot
        overview = await driver.overview()
        assert overview.now - overview.workers["w"] <= LAST_SEEN_PRECISION
    assert not (await worker.step()).forgot
