"""Wake-ups for records that another process wrote, or that became due by time."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.driver import Released, StepAnswer
from flowli_core.drivers.sqlite import SqliteDriver
from flowli_core.testing import ManualClock
from tests.conformance.builders import LEASE, PATIENCE, Worker, ids, record, soon, waiting_step

if TYPE_CHECKING:
    pass

Q = ("q",)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def wait(driver: SqliteDriver, *queues: str, want: int = 0) -> asyncio.Task[StepAnswer]:
    """Start a wait that ends only by a wake-up."""
    return asyncio.create_task(driver.step(waiting_step(*queues, want=want)))


async def test_an_enqueue_elsewhere_wakes_a_waiter(driver: SqliteDriver, elsewhere: SqliteDriver) -> None:
    waiting = wait(driver)
    await elsewhere.enqueue([record()])
    await soon(waiting)


async def test_a_suspect_enqueued_elsewhere_during_another_wait_is_not_missed(
    driver: SqliteDriver, elsewhere: SqliteDriver
) -> None:
    """The watcher of the process sees the commit, but nobody waits for the queue until later."""
    another = wait(driver, "another")
    await elsewhere.enqueue([record(max_recoveries=0)])
    await elsewhere.enqueue([record(queue="another")])
    await soon(another)
    assert (await soon(wait(driver))).suspect_due


async def test_an_enqueue_elsewhere_before_the_wait_is_not_missed(
    driver: SqliteDriver, elsewhere: SqliteDriver
) -> None:
    assert await Worker(driver).take() == ()
    await elsewhere.enqueue([record()])
    await soon(wait(driver))


async def test_each_process_wakes_a_waiter_of_its_own(driver: SqliteDriver, elsewhere: SqliteDriver) -> None:
    here, there = wait(driver), wait(elsewhere)
    await driver.enqueue([record()])
    await soon(here)
    await soon(there)


async def test_a_record_released_elsewhere_wakes_a_waiter_again(driver: SqliteDriver, elsewhere: SqliteDriver) -> None:
    """It has the same due time as when it woke a waiter before."""
    other = Worker(elsewhere, "other")
    await elsewhere.enqueue([record("a")])
    await soon(wait(driver))
    held = await other.take_one()
    assert await Worker(driver).take() == ()
    waiting = wait(driver)
    assert await other.settle(held, Released()) == "ok"
    await soon(waiting)


async def test_a_record_that_was_reserved_and_released_between_two_polls_wakes_a_waiter(
    driver: SqliteDriver, elsewhere: SqliteDriver
) -> None:
    """The watcher finds the same due time before and after."""
    other = Worker(elsewhere, "other")
    await elsewhere.enqueue([record("a")])
    await soon(wait(driver))
    await other.settle(await other.take_one(), Released())
    assert ids((await soon(wait(driver, want=1))).reserved) == ["a"]


async def test_a_record_scheduled_elsewhere_wakes_a_waiter_when_it_is_due(
    driver: SqliteDriver, elsewhere: SqliteDriver, clock: ManualClock
) -> None:
    waiting = wait(driver)
    await elsewhere.enqueue([record(due=timedelta(minutes=5))])
    clock.advance("5m")
    await soon(waiting)


async def test_the_end_of_a_lease_wakes_a_waiter_of_any_queue(
    driver: SqliteDriver, elsewhere: SqliteDriver, clock: ManualClock
) -> None:
    """Its step recovers the record."""
    await elsewhere.enqueue([record()])
    await Worker(elsewhere).take_one()
    waiting = wait(driver, "other")
    clock.advance(LEASE)
    assert len((await soon(waiting)).recovered) == 1


async def test_one_record_wakes_one_waiter(driver: SqliteDriver, elsewhere: SqliteDriver) -> None:
    """The second goes on waiting until there is another record, from whichever process."""
    for origin in (driver, elsewhere):
        waiters = [wait(driver, want=1), wait(driver, want=1)]
        await asyncio.sleep(0)
        await origin.enqueue([record()])
        async with asyncio.timeout(PATIENCE):
            woken, asleep = await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        await polled(driver, elsewhere)
        assert (len(woken), len(asleep)) == (1, 1)
        assert not any(waiter.done() for waiter in asleep)
        await origin.enqueue([record()])
        await soon(asleep.pop())


async def polled(driver: SqliteDriver, elsewhere: SqliteDriver) -> None:
    """Wait until the driver has noticed everything that was committed before."""
    await elsewhere.enqueue([record(queue="polled")])
    await soon(wait(driver, "polled", want=1))


async def test_a_watcher_that_has_ended_is_started_again(driver: SqliteDriver, elsewhere: SqliteDriver) -> None:
    """It ends some time after the last waiter has left."""
    for _ in range(2):
        await driver.step(waiting_step(wait=timedelta(milliseconds=1)))
        (watching,) = watchers()
        await asyncio.to_thread(watching.join, PATIENCE)
        assert watchers() == []
    waiting = wait(driver)
    await elsewhere.enqueue([record()])
    await soon(waiting)


def watchers() -> list[threading.Thread]:
    """Return the watcher threads."""
    return [thread for thread in threading.enumerate() if thread.name == "flowli-sqlite-watcher"]


async def test_a_suspect_that_stays_due_wakes_nobody_again(driver: SqliteDriver, elsewhere: SqliteDriver) -> None:
    """No waiting step reserves it. A worker that cannot run it now would be woken for it again and again."""
    first = waiting_step()
    waiting = asyncio.create_task(driver.step(first))
    await elsewhere.enqueue([record("suspect", max_recoveries=0)])
    assert (await soon(waiting)).suspect_due
    # The next wait may end because the step above has written that its worker is alive.
    await driver.step(replace(first, sequence=2, wait=timedelta(milliseconds=150)))
    waiting = asyncio.create_task(driver.step(replace(first, sequence=3)))
    await asyncio.wait((waiting,), timeout=0.15)
    assert not waiting.done()
    await elsewhere.enqueue([record("good")])
    assert ids((await soon(waiting)).reserved) == ["good"]
