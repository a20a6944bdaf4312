"""Calls of the driver that store many records are bounded by bytes as well as by number."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flowli_core import AllMissed, Jobs, job
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.limits import MAX_ENQUEUE_BYTES
from flowli_core.new_records import NewRecord
from flowli_core.testing import ManualClock, drain
from tests.support.counting import CountingDriver

START = datetime(2026, 1, 1, tzinfo=UTC)
LARGE = "x" * 250 * 1024


class BatchDriver(CountingDriver):
    """Keeps the records of each call that stored any."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(MemoryDriver(clock=clock))
        self.batches: list[list[NewRecord]] = []

    async def enqueue(self, records: Any) -> Any:
        self.batches.append(list(records))
        return await super().enqueue(records)

    async def put_schedule(self, key: str, schedule: Any, *, revision: int, records: Any = ()) -> bool:
        if is_stored := await super().put_schedule(key, schedule, revision=revision, records=records):
            self.batches += [list(records)] if records else []
        return is_stored

    @property
    def sizes(self) -> list[int]:
        return [sum(len(record.input) + len(record.meta or b"") for record in batch) for batch in self.batches]


@job(str)
async def take(input: str) -> None: ...


class TakeJobs(Jobs[None]):
    take = take


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def driver(clock: ManualClock) -> BatchDriver:
    return BatchDriver(clock)


@pytest.fixture
def jobs(driver: BatchDriver) -> TakeJobs:
    return TakeJobs(context=None, driver=driver)


async def test_enqueue_many_sends_at_most_a_mebibyte_at_once(jobs: TakeJobs, driver: BatchDriver) -> None:
    receipts = await jobs.take.enqueue_many(["small", *[LARGE] * 21, "small"])
    assert max(driver.sizes) <= MAX_ENQUEUE_BYTES
    assert len(driver.batches) == 6
    assert [record.id for record in driver.enqueued] == [receipt.id for receipt in receipts]


async def test_enqueue_many_sends_small_inputs_250_at_once(jobs: TakeJobs, driver: BatchDriver) -> None:
    receipts = await jobs.take.enqueue_many(["small"] * 600)
    assert [len(batch) for batch in driver.batches] == [250, 250, 100]
    assert [record.id for record in driver.enqueued] == [receipt.id for receipt in receipts]


async def test_a_schedule_that_makes_up_for_many_ticks_stores_at_most_250_at_once(
    jobs: TakeJobs, driver: BatchDriver, clock: ManualClock
) -> None:
    await jobs.take.schedule("s", every="1m", input="small", missed=AllMissed(limit=600))
    clock.advance("600m")
    counts = await drain(jobs)
    assert counts.completed == 600
    assert [len(batch) for batch in driver.batches] == [250, 250, 100]


async def test_a_schedule_that_makes_up_for_many_ticks_stores_at_most_a_mebibyte_at_once(
    jobs: TakeJobs, driver: BatchDriver, clock: ManualClock
) -> None:
    await jobs.take.schedule("s", every="1h", input=LARGE, missed=AllMissed(limit=30))
    clock.advance("40h")
    counts = await drain(jobs)
    assert counts.completed == 30
    assert max(driver.sizes) <= MAX_ENQUEUE_BYTES
    due = [record.due for batch in driver.batches for record in batch]
    assert due == [START + timedelta(hours=hour) for hour in range(11, 41)]


async def test_a_changed_schedule_first_stores_all_due_ticks_of_its_old_rule(
    jobs: TakeJobs, driver: BatchDriver, clock: ManualClock
) -> None:
    await jobs.take.schedule("s", every="1h", input=LARGE, missed=AllMissed(limit=30))
    clock.advance("40h")
    receipt = await jobs.take.schedule("s", every="2h", input=LARGE)
    assert (receipt.disposition, receipt.next_runs[0]) == ("updated", START + timedelta(hours=42))
    assert max(driver.sizes) <= MAX_ENQUEUE_BYTES
    assert sum(map(len, driver.batches)) == 30
