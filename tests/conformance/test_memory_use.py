"""The memory that the memory driver needs for jobs that are gone."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.driver import Cancelled, Retried
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.durations import ZERO
from tests.conformance.builders import BROKEN, DONE, LEASE, Worker, ack, fill_history, lease_of, record, step
from tests.support.store import cancel_one

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowli_core.driver import Outcome
    from flowli_core.testing import ManualClock

ENDS: list[Outcome] = [DONE, BROKEN, Cancelled()]
SPARE = 64 * 1024


@pytest.fixture(autouse=True)
def traced() -> Iterator[None]:
    """Trace every allocation."""
    tracemalloc.start()
    yield
    tracemalloc.stop()


def in_use() -> int:
    """Return how many bytes are in use."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def live_and_die(driver: MemoryDriver, clock: ManualClock, *, rounds: int) -> None:
    """Run jobs with every outcome until they are removed, each round in a new queue, with new keys, by a new worker."""
    for number in range(rounds):
        queue = f"queue-{number}"
        names = [f"{number}-{which}" for which in range(10)]
        await driver.enqueue([record(name, queue=queue, key=name, due=LEASE) for name in names])
        await cancel_one(driver, names[0])
        clock.advance(LEASE)
        worker = Worker(driver, f"worker-{number}", queues=(queue,))
        held = await worker.take(10)
        for _ in range(3):
            await driver.heartbeat("w", [lease_of(one) for one in held], LEASE)
        await worker.step(*[ack(one, Retried(ZERO, b"{}")) for one in held])
        held = await worker.take(10)
        await worker.step(*[ack(one, ENDS[place % 3]) for place, one in enumerate(held[:-1])])
        await driver.step(step(f"waiter-{number}", queues=(queue, "nothing"), want=0, wait=timedelta(milliseconds=1)))
        clock.advance(LEASE)
        await worker.settle(await worker.take_one())
        clock.advance("15d")
        await worker.step()


async def test_nothing_is_left_of_jobs_that_are_gone(clock: ManualClock) -> None:
    """After retention the driver needs as much memory as after far fewer jobs."""
    driver = MemoryDriver(clock=clock)
    await fill_history(driver)
    await live_and_die(driver, clock, rounds=20)
    before = in_use()
    await live_and_die(driver, clock, rounds=400)
    assert in_use() - before < SPARE


async def test_a_long_lease_that_is_often_renewed_takes_no_memory(clock: ManualClock) -> None:
    """Heartbeats do not accumulate."""
    driver = MemoryDriver(clock=clock)
    worker = Worker(driver)
    await driver.enqueue([record()])
    held = await worker.take_one()
    before = in_use()
    for _ in range(5000):
        clock.advance(timedelta(seconds=1))
        await driver.heartbeat("w", [lease_of(held)], LEASE)
    assert in_use() - before < SPARE


async def test_cancelled_scheduled_records_take_no_memory(clock: ManualClock) -> None:
    """They leave nothing behind, also if an earlier record still waits."""
    driver = MemoryDriver(clock=clock)
    worker = Worker(driver)
    await driver.enqueue([record(due=timedelta(days=100))])
    before = in_use()
    for number in range(5000):
        await driver.enqueue([record(f"r{number}", due=timedelta(days=200), keep_failed=ZERO)])
        await cancel_one(driver, f"r{number}")
        await worker.step()
    assert in_use() - before < SPARE


class Id(str):
    """An id that shows when it is freed."""

    __slots__ = ("__weakref__",)


async def test_the_ids_of_cancelled_scheduled_records_are_freed(clock: ManualClock) -> None:
    """The driver keeps no reference to them, also if an earlier record still waits."""
    driver = MemoryDriver(clock=clock)
    worker = Worker(driver)
    await driver.enqueue([record(due=timedelta(days=100))])
    made = [Id(f"r{number}") for number in range(1500)]
    seen = [weakref.ref(one) for one in made]
    await driver.enqueue([record(one, due=timedelta(days=200), keep_failed=ZERO) for one in made])
    del made
    for number in range(1500):
        await cancel_one(driver, f"r{number}")
    await worker.step()
    await worker.step()
    gc.collect()
    assert sum(one() is not None for one in seen) < 200
