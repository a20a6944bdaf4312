"""The overview: which workers are alive, and how old the waiting work is."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from flowli_core.limits import LAST_SEEN_PRECISION, WORKER_LISTED, WORKER_MEMORY
from flowli_core.stored import StoredWorker
from tests.conformance.builders import LEASE, Worker, ack, lease_of, record, step

if TYPE_CHECKING:
    from flowli_core.driver import Driver
    from flowli_core.testing import ManualClock

SECOND = timedelta(seconds=1)


async def test_an_empty_store_has_neither_workers_nor_work(driver: Driver, clock: ManualClock) -> None:
    overview = await driver.overview()
    assert (overview.workers, overview.oldest) == ({}, {})
    assert abs(overview.now - clock.now()) < SECOND


async def test_an_idle_worker_is_alive_from_its_first_step_on(driver: Driver, clock: ManualClock) -> None:
    started = clock.now()
    await Worker(driver, "idle").take()
    assert (await driver.overview()).workers == {"idle": StoredWorker(seen=started)}


async def test_a_worker_is_listed_as_it_described_itself(driver: Driver) -> None:
    await driver.step(step(about=b'{"queues":["a"]}'))
    await driver.step(step(sequence=2))
    await driver.enqueue([record()])
    await driver.step(step(sequence=3))
    assert (await driver.overview()).workers["w"].about == b'{"queues":["a"]}'
    await driver.step(step(sequence=4, about=b'{"queues":["b"]}'))
    assert (await driver.overview()).workers["w"].about == b'{"queues":["b"]}'


async def test_a_worker_that_left_is_not_listed_and_the_store_knows_nothing_of_it(driver: Driver) -> None:
    await driver.enqueue([record()])
    (held,) = (await driver.step(step(about=b"1"))).reserved
    await Worker(driver, "other").take()
    assert (await driver.step(step(sequence=2, want=0, leaving=True))).acks == ()
    assert (await driver.overview()).workers.keys() == {"other"}
    await driver.heartbeat("w", [lease_of(held)], LEASE)
    assert (await driver.overview()).workers.keys() == {"other"}
    await driver.step(step(want=0))
    assert (await driver.overview()).workers["w"].about == b""


async def test_a_last_step_that_is_sent_again_settles_nothing_twice(driver: Driver) -> None:
    await driver.enqueue([record()])
    (held,) = (await driver.step(step())).reserved
    last = step(sequence=2, want=0, acks=[ack(held)], leaving=True)
    assert (await driver.step(last)).acks == ("ok",)
    again = await driver.step(last)
    assert (again.acks, again.reserved) == (("duplicate",), ())
    assert not (await driver.overview()).workers


async def test_a_worker_that_goes_on_stepping_stays_alive(driver: Driver, clock: ManualClock) -> None:
    """This holds for steps that reserve something or nothing, and for new steps and steps that are sent again."""
    worker = Worker(driver)
    for number in range(30):
        if number % 10 == 0:
            await driver.enqueue([record()])
        await worker.take()
        clock.advance(timedelta(seconds=5))
        seen = (await driver.overview()).workers["w"].seen
        assert clock.now() - seen <= LAST_SEEN_PRECISION + timedelta(seconds=5)


async def test_a_worker_that_sends_heartbeats_before_its_steps_stays_alive(driver: Driver, clock: ManualClock) -> None:
    """A full runner steps and renews its leases at the same pace, in any order."""
    worker = Worker(driver)
    await driver.enqueue([record()])
    (held,) = await worker.take()
    for _ in range(24):
        clock.advance(timedelta(seconds=4))
        await driver.heartbeat("w", [lease_of(held)], timedelta(seconds=30))
        clock.advance(SECOND)
        await worker.take()
        assert "w" in (await driver.overview()).workers


async def test_a_worker_that_was_not_seen_for_a_minute_is_not_alive(driver: Driver, clock: ManualClock) -> None:
    await Worker(driver, "silent").take()
    clock.advance(WORKER_LISTED - SECOND)
    await Worker(driver, "other").take()
    assert (await driver.overview()).workers.keys() == {"silent", "other"}
    clock.advance(SECOND)
    assert (await driver.overview()).workers.keys() == {"other"}
    clock.advance(WORKER_MEMORY)
    await Worker(driver, "third").take()
    assert (await driver.overview()).workers.keys() == {"third"}


async def test_each_queue_with_due_records_has_its_oldest_due_time(driver: Driver, clock: ManualClock) -> None:
    first = clock.now()
    await driver.enqueue([record("a"), record("later", queue="r", due=LEASE)])
    clock.advance(SECOND)
    await driver.enqueue([record("b"), record("c", queue="s")])
    assert (await driver.overview()).oldest == {"q": first, "s": first + SECOND}
    await Worker(driver).take_one()
    assert (await driver.overview()).oldest == {"q": first + SECOND, "s": first + SECOND}
    clock.advance(LEASE)
    assert (await driver.overview()).oldest["r"] == first + LEASE


async def test_a_waiting_suspect_counts_too(driver: Driver, clock: ManualClock) -> None:
    since = clock.now()
    await driver.enqueue([record("suspect", max_recoveries=0)])
    clock.advance(SECOND)
    await driver.enqueue([record("b")])
    assert (await driver.overview()).oldest == {"q": since}
