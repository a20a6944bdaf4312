"""Paused queues: workers reserve nothing from them, and everything else goes on."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.driver import Released, Retried, Step, StepAnswer
from flowli_core.durations import ZERO
from flowli_core.errors import DriverError
from flowli_core.limits import MOST_PAUSED
from flowli_core.stored import StoredSchedule
from tests.conformance.builders import (
    DONE,
    HOUR,
    LEASE,
    Worker,
    ack,
    finish,
    ids,
    lease_of,
    lose,
    record,
    soon,
    stored,
    waiting_step,
)
from tests.support.store import cancel_one, put, requeue_one

if TYPE_CHECKING:
    from flowli_core.driver import Driver
    from flowli_core.testing import ManualClock

WAKE_UP_SECONDS = 0.1
"""Seconds within which a wake-up that was sent arrives. So a step that still waits after them was sent none."""


async def pause(driver: Driver, queue: str = "q") -> None:
    assert await driver.pause_queue(queue, paused=True)


async def resume(driver: Driver, queue: str = "q") -> None:
    assert await driver.pause_queue(queue, paused=False)


async def test_nothing_is_reserved_from_a_paused_queue(driver: Driver, worker: Worker) -> None:
    """The records stay queued, in their order, and are reserved after it is resumed."""
    await driver.enqueue([record("a"), record("b")])
    await pause(driver)
    await driver.enqueue([record("c")])
    answer = await worker.step(want=5)
    assert (answer.reserved, answer.next_due, answer.suspect_due) == ((), None, False)
    assert (await stored(driver, "a")).state == "queued"
    await resume(driver)
    assert (await worker.step()).next_due == ZERO
    assert ids(await worker.take(5)) == ["a", "b", "c"]


async def test_a_waiting_step_reserves_nothing_from_a_paused_queue(driver: Driver) -> None:
    """It goes the same way as a step that does not wait."""
    await driver.enqueue([record("a")])
    await pause(driver)
    answer = await driver.step(waiting_step(wait=ZERO))
    assert (answer.reserved, answer.next_due) == ((), None)


async def test_pausing_returns_if_it_changes_anything(driver: Driver) -> None:
    """A queue is paused once and resumed once."""
    assert not await driver.pause_queue("q", paused=False)
    await pause(driver)
    assert not await driver.pause_queue("q", paused=True)
    await resume(driver)
    assert not await driver.pause_queue("q", paused=False)


async def test_other_queues_go_on(driver: Driver) -> None:
    """Only the queue with exactly this name is paused, whatever characters it has."""
    names = ["mail", "mail.eu", "mail-eu", "email", "mai", "mail/eu:1", "Mail"]
    await driver.enqueue([record(queue=name) for name in names])
    await pause(driver, "mail-eu")
    await pause(driver, "mail.eu")
    worker = Worker(driver, queues=tuple(names))
    reserved = {held.queue for held in await worker.take(10)}
    assert reserved == set(names) - {"mail-eu", "mail.eu"}
    await resume(driver, "mail.eu")
    assert [held.queue for held in await worker.take(10)] == ["mail.eu"]


async def test_active_records_of_a_paused_queue_are_settled(driver: Driver, worker: Worker, other: Worker) -> None:
    """They complete, are retried, released and renewed as always; what waits again then stays."""
    await driver.enqueue([record("a"), record("b"), record("c"), record("d")])
    a, b, c, d = await worker.take(4)
    await pause(driver)
    assert (await driver.heartbeat("w", [lease_of(d)], LEASE)).lost == frozenset()
    answer = await worker.step(ack(a), ack(b, Retried(ZERO, b"{}")), ack(c, Released()), want=5)
    assert (answer.acks, answer.reserved) == (("ok", "ok", "ok"), ())
    assert answer.next_due == LEASE
    assert await other.take(5) == ()
    await resume(driver)
    assert sorted(ids(await other.take(5))) == ["b", "c"]


async def test_expired_leases_of_a_paused_queue_are_recovered(driver: Driver, clock: ManualClock) -> None:
    """The records return to the queue, and wait there until it is resumed."""
    await driver.enqueue([record("a")])
    victim, heir = Worker(driver, "victim"), Worker(driver, "heir")
    await victim.take_one()
    await pause(driver)
    clock.advance(LEASE)
    answer = await heir.step(want=1)
    assert [one.id for one in answer.recovered] == ["a"]
    assert answer.reserved == ()
    await resume(driver)
    assert ids(await heir.take()) == ["a"]


async def test_a_suspect_of_a_paused_queue_is_nothing_to_do(driver: Driver, clock: ManualClock, other: Worker) -> None:
    """It is neither reserved nor announced, and others run beside it."""
    await driver.enqueue([record("suspect", max_recoveries=1)])
    await lose(driver, clock)
    await driver.enqueue([record("z", queue="other")])
    await pause(driver)
    worker = Worker(driver, queues=("q", "other"))
    answer = await worker.step()
    assert not answer.suspect_due
    assert ids(await worker.take(5)) == ["z"]
    assert not (await other.step()).suspect_due
    await resume(driver)
    assert (await other.step()).suspect_due
    assert ids(await other.take()) == ["suspect"]


async def test_a_step_that_is_sent_again_returns_what_it_reserved_before_the_pause(
    driver: Driver, worker: Worker
) -> None:
    """The records are active, so the pause does not concern them."""
    await driver.enqueue([record("a"), record("b")])
    await worker.take_one()
    await pause(driver)
    assert ids((await worker.again()).reserved) == ["a"]
    assert await worker.take() == ()


async def test_scheduled_records_of_a_paused_queue_are_in_no_next_due(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """They become queued in time, and wait."""
    await pause(driver)
    await driver.enqueue([record("a", due=HOUR)])
    assert (await worker.step()).next_due is None
    clock.advance(HOUR)
    assert (await stored(driver, "a")).state == "queued"
    assert (await worker.step(want=1)).reserved == ()


async def test_the_overview_lists_paused_queues(driver: Driver, clock: ManualClock) -> None:
    """Each has the time at which it was paused, even if it has no records; the counts are as always."""
    await driver.enqueue([record()])
    since = clock.now()
    await pause(driver)
    clock.advance(HOUR)
    await pause(driver, "empty")
    assert not await driver.pause_queue("q", paused=True)
    overview = await driver.overview()
    assert overview.paused == {"q": since, "empty": since + HOUR}
    assert overview.counts.by_queue["q"].queued == 1
    assert overview.oldest == {"q": since}
    await resume(driver, "empty")
    assert (await driver.overview()).paused == {"q": since}
    await resume(driver)
    assert (await driver.overview()).paused == {}


async def test_a_queue_stays_paused_when_its_last_record_goes(driver: Driver, worker: Worker) -> None:
    """A queue is paused by name, not as long as it has records."""
    await finish(driver, "a", DONE)
    await pause(driver)
    assert await driver.purge("completed", older_than=-HOUR, limit=10) == 1
    await driver.enqueue([record("b")])
    assert await worker.take() == ()


async def test_records_of_a_paused_queue_are_cancelled_and_requeued(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """An operator may change them; what is requeued waits."""
    await driver.enqueue([record("a"), record("b")])
    await pause(driver)
    assert await cancel_one(driver, "a") == "cancelled"
    assert await requeue_one(driver, "a") == "requeued"
    assert await cancel_one(driver, "b") == "cancelled"
    assert await worker.take(5) == ()
    await resume(driver)
    assert ids(await worker.take(5)) == ["a"]


async def test_ticks_of_a_paused_queue_go_on(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """The answer announces the tick, and its record waits in the queue."""
    await pause(driver)
    await put(driver, StoredSchedule(key="s", queue="q", spec=b"{}", next_tick=clock.now() + HOUR))
    answer = await worker.step()
    assert (answer.next_tick, answer.next_due) == (HOUR, HOUR)


async def test_too_many_paused_queues_are_refused(driver: Driver, driver_name: str) -> None:
    """So what the store keeps of them is limited. Each of them is still paused, and can be resumed."""
    if driver_name not in {"memory", "sqlite"}:
        pytest.skip("a test of Redis writes the pauses at once")
    for start in range(0, MOST_PAUSED, 100):
        await asyncio.gather(*[pause(driver, f"queue-{number}") for number in range(start, start + 100)])
    with pytest.raises(DriverError, match="1,000 queues are paused already"):
        await driver.pause_queue("one-more", paused=True)
    assert len((await driver.overview()).paused) == MOST_PAUSED
    assert not await driver.pause_queue("queue-0", paused=True)
    await resume(driver, "queue-500")
    await pause(driver, "one-more")


async def test_pauses_are_kept_when_the_driver_is_opened_again(driver: Driver, worker: Worker) -> None:
    """A pause ends when it is resumed, and at no other time."""
    await driver.enqueue([record()])
    await pause(driver)
    await driver.close()
    await driver.open()
    assert await worker.take() == ()


async def wait_in_background(driver: Driver, *steps: Step) -> list[asyncio.Task[StepAnswer]]:
    tasks: list[asyncio.Task[StepAnswer]] = [asyncio.create_task(driver.step(step)) for step in steps]
    await asyncio.sleep(WAKE_UP_SECONDS)
    return tasks


async def test_an_enqueue_to_a_paused_queue_wakes_no_step(live_driver: Driver) -> None:
    """A step that waits for it and for another queue is woken by the other one."""
    await pause(live_driver)
    waiting = waiting_step("q", "other")
    (task,) = await wait_in_background(live_driver, waiting)
    await live_driver.enqueue([record(), record()])
    await asyncio.sleep(WAKE_UP_SECONDS)
    assert not task.done()
    await live_driver.enqueue([record("b", queue="other")])
    answer = await soon(task)
    assert ids(answer.reserved) == ["b"]


async def test_no_step_waits_shorter_for_records_of_a_paused_queue(live_driver: Driver) -> None:
    """Records that wait in it already end no wait."""
    await live_driver.enqueue([record(), record(due=timedelta(milliseconds=50))])
    await pause(live_driver)
    await Worker(live_driver).step()
    # One may be woken by a wake-up from before the pause.
    await live_driver.step(waiting_step(wait=timedelta(milliseconds=10)))
    (task,) = await wait_in_background(live_driver, waiting_step())
    await asyncio.sleep(WAKE_UP_SECONDS)
    assert not task.done()
    await resume(live_driver)
    assert len((await soon(task)).reserved) == 1


async def test_resuming_wakes_a_waiting_step(live_driver: Driver) -> None:
    """Each step that leaves records wakes another, so all waiters get work."""
    await live_driver.enqueue([record("a"), record("b"), record("c")])
    await pause(live_driver)
    await live_driver.step(waiting_step(wait=timedelta(milliseconds=10)))
    tasks = await wait_in_background(live_driver, waiting_step(), waiting_step(), waiting_step())
    assert not any(task.done() for task in tasks)
    await resume(live_driver)
    answers = await soon(asyncio.gather(*tasks))
    assert sorted(held.id for answer in answers for held in answer.reserved) == ["a", "b", "c"]


async def test_resuming_wakes_a_step_that_must_wait_for_less_long(live_driver: Driver) -> None:
    """The records of the queue that become due later are known to a waiter from then on."""
    await pause(live_driver)
    await live_driver.enqueue([record("a", due=timedelta(milliseconds=300))])
    (task,) = await wait_in_background(live_driver, waiting_step())
    await resume(live_driver)
    answer = await soon(task)
    if not answer.reserved:
        assert answer.next_due is not None
        answer = await soon(live_driver.step(waiting_step()))
    assert ids(answer.reserved) == ["a"]


async def test_a_retry_in_a_paused_queue_wakes_no_step(live_driver: Driver) -> None:
    """A record that waits again is nothing to do either."""
    worker = Worker(live_driver)
    await live_driver.enqueue([record()])
    held = await worker.take_one()
    await pause(live_driver)
    (task,) = await wait_in_background(live_driver, waiting_step())
    await worker.settle(held, Retried(ZERO, b"{}"))
    await asyncio.sleep(WAKE_UP_SECONDS)
    assert not task.done()
    await resume(live_driver)
    assert len((await soon(task)).reserved) == 1
