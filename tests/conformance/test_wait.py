"""Waiting for work: woken once, and never for want of a wake-up left asleep.

`wait` may return early for nothing, so these tests wait for what must happen; none asserts how long it took.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

from flowli_core.driver import Retried
from flowli_core.durations import ZERO
from tests.conformance.builders import BROKEN, HOUR, LEASE, PATIENCE, Worker, finish, ids, record, soon

if TYPE_CHECKING:
    from flowli_core.driver import Driver
    from flowli_core.testing import ManualClock

Q = ("q",)


async def waiting(driver: Driver, queues: tuple[str, ...] = Q) -> asyncio.Task[None]:
    """Start a wait that ends by a wake-up or never, and let it get as far as it can."""
    task = asyncio.create_task(driver.wait(queues, HOUR))
    await settled(driver)
    return task


async def settled(driver: Driver) -> None:
    """Give every task, and the driver's own threads, the time of a few calls."""
    for _ in range(5):
        await driver.counts()
        await asyncio.sleep(0)


async def cancel(waiters: list[asyncio.Task[None]]) -> None:
    """End waits that nothing else will end."""
    for waiter in waiters:
        waiter.cancel()
    await asyncio.wait(waiters)


async def test_an_enqueue_wakes_a_waiter(driver: Driver) -> None:
    """A record that is due now ends a wait."""
    waiter = await waiting(driver)
    await driver.enqueue([record()])
    await soon(waiter)


async def test_an_enqueue_before_the_wait_is_not_missed(driver: Driver, worker: Worker) -> None:
    """A wake-up that nobody waited for is kept."""
    assert await worker.take() == ()
    await driver.enqueue([record()])
    await soon(await waiting(driver))


async def test_what_became_due_before_the_wait_is_not_missed(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """Time alone makes work, between a step that found nothing and the wait."""
    await driver.enqueue([record(due=timedelta(seconds=5))])
    assert await worker.take() == ()
    clock.advance("5s")
    await soon(await waiting(driver))


async def test_a_delayed_record_wakes_a_waiter_when_it_is_due(live_driver: Driver) -> None:
    """A wait ends when a scheduled record becomes due, though nobody does anything."""
    worker = Worker(live_driver)
    await live_driver.enqueue([record("a", due=timedelta(milliseconds=40))])
    async with asyncio.timeout(PATIENCE):
        while not (batch := await worker.take()):
            await live_driver.wait(Q, HOUR)
    assert ids(batch) == ["a"]


async def test_a_record_delayed_during_the_wait_wakes_it_when_it_is_due(live_driver: Driver) -> None:
    """One who waits already hears of a scheduled record that will be due before all others."""
    worker = Worker(live_driver)
    await live_driver.enqueue([record("b", due=HOUR)])
    waiter = await waiting(live_driver)
    await live_driver.enqueue([record("a", due=timedelta(milliseconds=40))])
    async with asyncio.timeout(PATIENCE):
        await waiter
        while not (batch := await worker.take()):
            await live_driver.wait(Q, HOUR)
    assert ids(batch) == ["a"]


async def test_a_retry_during_the_wait_wakes_it_when_it_is_due(live_driver: Driver) -> None:
    """A retry is a scheduled record like any other."""
    worker, idle = Worker(live_driver), Worker(live_driver, "idle")
    await live_driver.enqueue([record("a")])
    held = await worker.take_one()
    waiter = await waiting(live_driver)
    await worker.settle(held, Retried(timedelta(milliseconds=40), b"{}"))
    async with asyncio.timeout(PATIENCE):
        await waiter
        while not (batch := await idle.take()):
            await live_driver.wait(Q, HOUR)
    assert ids(batch) == ["a"]


async def test_a_requeue_wakes_a_waiter(driver: Driver) -> None:
    """A record that is put back by hand is work."""
    await finish(driver, "a", BROKEN)
    waiter = await waiting(driver)
    await driver.requeue("a")
    await soon(waiter)


async def test_a_retry_without_a_delay_wakes_a_waiter(driver: Driver, worker: Worker, other: Worker) -> None:
    """What one worker gives back another may take at once."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    assert await other.take() == ()
    waiter = await waiting(driver)
    await worker.settle(held, Retried(ZERO, b"{}"))
    await soon(waiter)
    assert ids(await other.take()) == ["a"]


async def test_a_recovery_wakes_a_waiter(driver: Driver, clock: ManualClock) -> None:
    """A record whose lease has ended is work for another queue's workers as well."""
    await driver.enqueue([record("a")])
    await Worker(driver).take_one()
    waiter = await waiting(driver)
    clock.advance(LEASE)
    await Worker(driver, "elsewhere", queues=("elsewhere",)).step()
    await soon(waiter)


async def test_a_wait_for_several_queues_hears_of_each(driver: Driver) -> None:
    """Any of the queues ends the wait."""
    for queue in ("a", "b", "c"):
        waiter = await waiting(driver, ("a", "b", "c"))
        await driver.enqueue([record(queue=queue)])
        await soon(waiter)
        assert len(await Worker(driver, f"w{queue}", queues=(queue,)).take()) == 1


async def test_other_queues_do_not_use_up_a_wake_up(driver: Driver) -> None:
    """A record of one queue wakes one who waits for it, though another waits for something else."""
    elsewhere, waiter = await waiting(driver, ("elsewhere",)), await waiting(driver)
    await driver.enqueue([record()])
    await soon(waiter)
    await cancel([elsewhere])


async def test_one_record_wakes_one_waiter(driver: Driver) -> None:
    """Of many who wait one is woken, and the others sleep on."""
    waiters = [await waiting(driver) for _ in range(5)]
    await driver.enqueue([record()])
    async with asyncio.timeout(PATIENCE):
        done, _ = await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
    await settled(driver)
    assert [waiter.done() for waiter in waiters].count(True) == len(done) == 1
    await cancel(waiters)


async def test_a_batch_reaches_all_who_wait_for_it(driver: Driver) -> None:
    """A step that leaves due work behind wakes the next one: five workers that take one each take five."""
    taken: list[str] = []

    async def work(worker: Worker) -> None:
        while not (batch := await worker.take(1)):
            await driver.wait(Q, HOUR)
        taken.extend(ids(batch))

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(work(Worker(driver, f"w{number}")))
        await settled(driver)
        await driver.enqueue([record(name) for name in "abcde"])
    assert sorted(taken) == ["a", "b", "c", "d", "e"]


async def test_what_a_step_leaves_behind_ends_the_next_wait(driver: Driver, worker: Worker) -> None:
    """A wait after a step that left something returns at once, each time."""
    await driver.enqueue([record(name) for name in "abc"])
    for name in "abc":
        await soon(await waiting(driver))
        assert ids(await worker.take(1)) == [name]


async def test_a_wait_ends_at_its_timeout(driver: Driver) -> None:
    """With nothing to do a wait returns when its time is up."""
    async with asyncio.timeout(PATIENCE):
        await driver.wait(Q, timedelta(milliseconds=20))
        await driver.wait(Q, ZERO)


async def test_a_wait_lets_others_run(driver: Driver) -> None:
    """One who always finds work, or waits for no time, does not keep the event loop for itself."""
    await driver.enqueue([record()])
    ran = asyncio.Event()
    asyncio.get_running_loop().call_soon(ran.set)
    for _ in range(3):
        await driver.wait(Q, ZERO)
    assert ran.is_set()


async def test_closing_ends_every_wait(driver: Driver) -> None:
    """Waiters return when the driver is closed, however many they are."""
    waiters = [await waiting(driver, queues) for queues in (Q, Q, ("a", "b"))]
    await driver.close()
    for waiter in waiters:
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
    await soon(waiter)


async def test_a_cancelled_waiter_passes_its_wake_up_on(driver: Driver) -> None:
    """When the one who was woken goes away before it could step, the next in line is woken instead."""
    first, second = await waiting(driver), await waiting(driver)
    enqueue_behind_the_back_of_this_loop(driver)
    await cancel([first])
    assert first.cancelled()
    await soon(second)


async def test_a_cancelled_waiter_leaves_its_wake_up_for_later(driver: Driver) -> None:
    """Where nobody else waits, the wake-up is kept for the next one who does."""
    only = await waiting(driver)
    enqueue_behind_the_back_of_this_loop(driver)
    await cancel([only])
    assert only.cancelled()
    await soon(await waiting(driver))


def enqueue_behind_the_back_of_this_loop(driver: Driver) -> None:
    """Store a record while this loop stands still, so that a waiter is woken but cannot have noticed yet."""
    with ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(asyncio.run, _enqueue(driver)).result(PATIENCE)


async def test_a_cancelled_waiter_is_out_of_the_line(driver: Driver) -> None:
    """One who has gone is not woken in place of one who is there."""
    first, second = await waiting(driver), await waiting(driver)
    await cancel([first])
    await driver.enqueue([record()])
    await soon(second)


async def test_a_wait_that_is_cancelled_is_cancelled(driver: Driver) -> None:
    """Cancellation is never swallowed."""
    waiter = await waiting(driver)
    await cancel([waiter])
    assert waiter.cancelled()


async def test_a_waiter_hears_of_another_event_loop(driver: Driver) -> None:
    """A record that is enqueued from another thread's loop ends a wait on this one."""
    waiter = await waiting(driver)
    await asyncio.to_thread(asyncio.run, _enqueue(driver))
    await soon(waiter)


async def _enqueue(driver: Driver) -> None:
    await driver.enqueue([record()])
