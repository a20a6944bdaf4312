"""The size of a store does not depend on what has been in it and is gone."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.driver import Cancelled, Retried
from flowli_core.durations import ZERO
from flowli_core.limits import Keep
from flowli_core.stored import StoredSchedule
from tests.conformance.builders import BROKEN, DONE, LEASE, Worker, ack, fill_history, record, stored, waiting_step
from tests.conformance.drivers import CANDIDATES
from tests.support.store import cancel_one, find_schedule, put, read_page, requeue_one

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path
    from typing import TypeAlias

    from flowli_core.driver import Driver, Outcome
    from flowli_core.testing import ManualClock

    Leave: TypeAlias = Callable[[Driver, Worker], Awaitable[None]]
    Use: TypeAlias = Callable[[Driver, ManualClock, int], Awaitable[None]]

ENDS: list[Outcome] = [DONE, BROKEN, Cancelled()]
MOMENT = timedelta(milliseconds=1)


async def use_a_queue(driver: Driver, clock: ManualClock, number: int) -> None:
    """Run jobs with every outcome in a queue with policies, keys, workers, waiters and a schedule of its own."""
    queue = f"queue-{number:03d}"
    names = [f"{number:03d}-{which}" for which in range(6)]
    await driver.enqueue([record(name, queue=queue, key=name, policy=name.encode()) for name in names])
    await driver.enqueue([record(f"later-{number:03d}", queue=queue, due=LEASE)])
    await cancel_one(driver, names[0])
    worker = Worker(driver, f"worker-{number:03d}", queues=(queue,))
    await worker.step(*[ack(held, Retried(ZERO, b"{}")) for held in await worker.take(5)])
    held = await worker.take(5)
    await cancel_one(driver, held[-1].id)
    await worker.step(*[ack(one, ENDS[place % 3]) for place, one in enumerate(held[:-1])])
    clock.advance(LEASE)
    for _ in range(2):  # the last is recovered, which cancels it; then there is only the one that was delayed
        await worker.step(*[ack(one) for one in await worker.take(5)])
    await driver.enqueue([record(f"unserved-{number:03d}", queue=f"unserved-{number:03d}")])
    await cancel_one(driver, f"unserved-{number:03d}")
    await requeue_one(driver, names[1])
    await worker.step(*[ack(one) for one in await worker.take(5)])


async def leave_wake_ups(driver: Driver, clock: ManualClock, number: int) -> None:
    """Use queues without records: by a schedule that is removed, and by waiters that are cancelled."""
    key, queue = f"schedule-{number:03d}", f"without-records-{number:03d}"
    await put(driver, StoredSchedule(key=key, queue=queue, spec=b"{}", next_tick=clock.now() + LEASE))
    first = await find_schedule(driver, key)
    assert first is not None
    await put(driver, replace(first, queue=f"{queue}-b", next_tick=clock.now() + MOMENT))
    second = await find_schedule(driver, key)
    assert second is not None
    await driver.put_schedule(key, None, revision=second.revision)
    waiting = asyncio.create_task(driver.step(replace(waiting_step(f"{queue}-c"), worker=f"waiter-{number:03d}")))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting


async def give_ids(driver: Driver, clock: ManualClock, number: int) -> None:
    """Run a job under an id that stays taken after its record was trimmed."""
    worker = Worker(driver, f"worker-{number:03d}", queues=("queue",))
    await driver.enqueue([record(f"id-{number:03d}", queue="queue", keep_id=LEASE)])
    await worker.step(ack(await worker.take_one()), keep=Keep(completed=0))


@pytest.mark.parametrize("use", [use_a_queue, leave_wake_ups, give_ids])
async def test_the_size_does_not_depend_on_what_is_gone(
    driver: Driver, driver_name: str, clock: ManualClock, tmp_path: Path, use: Use
) -> None:
    """Queues, policies, keys, workers, waiters and schedules that were used once leave nothing behind.

    Only the total of the history stays, which has a limit of its own.
    """
    await fill_history(driver)
    sizes: list[int] = []
    for numbers in (range(3), range(3, 6), range(6, 30)):
        for number in numbers:
            await use(driver, clock, number)
        clock.advance("15d")
        await Worker(driver, "the last one", queues=("queue",)).step()
        clock.advance("15d")
        await Worker(driver, "the last one", queues=("queue",)).step()
        sizes.append(CANDIDATES[driver_name].size(driver, tmp_path))
    assert sizes[2] == sizes[1]


async def leave_waiting(driver: Driver, worker: Worker) -> None:
    assert await requeue_one(driver, "stays") == "requeued"


async def leave_scheduled(driver: Driver, worker: Worker) -> None:
    await requeue_one(driver, "stays")
    await worker.settle(await worker.take_one(), Retried(LEASE, b"{}"))


async def leave_suspect(driver: Driver, worker: Worker) -> None:
    await requeue_one(driver, "suspect")


async def leave_active(driver: Driver, worker: Worker) -> None:
    await requeue_one(driver, "stays")
    await worker.take_one()


async def leave_finished(driver: Driver, worker: Worker) -> None:
    """Leave everything as it is."""


@pytest.mark.parametrize("leave", [leave_waiting, leave_scheduled, leave_suspect, leave_active, leave_finished])
async def test_a_queue_and_its_policies_stay_until_the_last_record_is_removed(
    driver: Driver, worker: Worker, clock: ManualClock, leave: Leave
) -> None:
    """It does not matter which other records of the queue, or of the policy, are removed."""
    left = "suspect" if leave is leave_suspect else "stays"
    await driver.enqueue([record("stays", policy=b"policy"), record("goes", policy=b"policy")])
    await driver.enqueue([record("goes too"), record("suspect", max_recoveries=0)])
    await worker.step(*[ack(held, BROKEN) for held in await worker.take(4)])
    await leave(driver, worker)
    before = await stored(driver, left)
    for name in {"goes", "goes too", "suspect", "stays"} - {left}:
        await requeue_one(driver, name)
        await cancel_one(driver, name)
    clock.advance(MOMENT)
    assert await driver.purge("cancelled", older_than=ZERO, limit=5) == 3
    assert await stored(driver, left) == before
    assert getattr((await driver.overview()).counts.by_queue["q"], before.state) == 1
    assert [one.id for one in await read_page(driver, before.state, limit=5)] == [left]
