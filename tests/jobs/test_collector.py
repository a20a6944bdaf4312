"""Concurrent enqueues share a call of the driver, and nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from flowli_core import DriverError, Jobs, StoreUnavailable, job
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.limits import MAX_ENQUEUE_RECORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flowli_core.new_records import Enqueued, NewRecord


@job(int)
async def work(input: int) -> None:
    del input


class Work(Jobs[None]):
    work = work


class SlowDriver(MemoryDriver):
    """A driver whose `enqueue` waits for `may_proceed`, then fails if `is_unreachable`, or calls `before_answer`."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.may_proceed = asyncio.Event()
        self.in_flight = asyncio.Event()
        self.is_unreachable = False
        self.before_answer: Callable[[], object] = lambda: None

    async def enqueue(self, records: Sequence[NewRecord]) -> list[Enqueued]:
        self.batches.append(len(records))
        self.in_flight.set()
        await self.may_proceed.wait()
        if self.is_unreachable:
            raise StoreUnavailable("unreachable")
        answers = await super().enqueue(records)
        self.before_answer()
        return answers


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_enqueues_made_during_a_call_are_sent_together_in_the_next() -> None:
    driver = SlowDriver()
    async with Work(context=None, driver=driver) as jobs, asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(jobs.work.enqueue(number)) for number in range(50)]
        await driver.in_flight.wait()
        await settle()
        driver.may_proceed.set()
        receipts = [await call for call in calls]
        assert driver.batches == [1, 49]
        assert len({receipt.id for receipt in receipts}) == 50
        for number, receipt in enumerate(receipts):
            record = await jobs.inspect.get_job(receipt.id)
            assert record is not None
            assert record.input == number, "each caller gets the receipt of its own record"


async def test_a_single_enqueue_is_sent_at_once() -> None:
    driver = SlowDriver()
    driver.may_proceed.set()
    async with Work(context=None, driver=driver) as jobs:
        for number in range(3):
            await jobs.work.enqueue(number)
    assert driver.batches == [1, 1, 1]


async def test_other_callers_survive_the_cancellation_of_the_sender() -> None:
    """The next caller sends the remaining batch: nobody waits for ever, and nothing is lost or stored twice."""
    driver = SlowDriver()
    async with Work(context=None, driver=driver) as jobs, asyncio.TaskGroup() as tasks:
        first = asyncio.create_task(jobs.work.enqueue(0))
        await driver.in_flight.wait()
        second = asyncio.create_task(jobs.work.enqueue(1))
        others = [tasks.create_task(jobs.work.enqueue(number)) for number in range(2, 5)]
        await settle()
        first.cancel()
        await settle()
        assert driver.batches == [1, 4]
        second.cancel()
        await settle()
        assert driver.batches == [1, 4, 3]
        driver.may_proceed.set()
        assert len({(await other).id for other in others}) == 3
        assert first.cancelled()
        assert second.cancelled()
        assert (await jobs.inspect.get_queue_counts()).queued == 3


async def test_a_caller_that_is_cancelled_while_it_waits_blocks_nobody() -> None:
    driver = SlowDriver()
    async with Work(context=None, driver=driver) as jobs, asyncio.TaskGroup() as tasks:
        first = tasks.create_task(jobs.work.enqueue(0))
        await driver.in_flight.wait()
        waiting = [asyncio.create_task(jobs.work.enqueue(number)) for number in range(1, 4)]
        await settle()
        waiting[0].cancel()
        # When the first call ends, the second caller is to send, and is cancelled in that moment.
        driver.before_answer = lambda: asyncio.get_running_loop().call_soon(waiting[1].cancel)
        driver.may_proceed.set()
        await first
        await waiting[2]
        assert [call.cancelled() for call in waiting] == [True, True, False]
        assert driver.batches == [1, 1]
        assert (await jobs.inspect.get_queue_counts()).queued == 2


async def test_each_caller_gets_its_own_copy_of_an_error() -> None:
    driver = SlowDriver()
    async with Work(context=None, driver=driver) as jobs:
        calls = [asyncio.create_task(jobs.work.enqueue(number)) for number in range(4)]
        await driver.in_flight.wait()
        await settle()
        driver.is_unreachable = True
        driver.may_proceed.set()
        errors = [
            error for error in await asyncio.gather(*calls, return_exceptions=True) if isinstance(error, DriverError)
        ]
        assert len({id(error) for error in errors}) == 4
        assert all(isinstance(error, StoreUnavailable) and str(error) == "unreachable" for error in errors)
        ids = [error.ids for error in errors]
        assert all(len(one) == 1 for one in ids)
        assert len(set(ids)) == 4
        driver.is_unreachable = False
        assert (await jobs.work.enqueue(5)).disposition == "accepted", "the collector works again"


async def test_a_call_that_a_client_sends_twice_is_accepted_once() -> None:
    """The id was made for this call, so the receipt does not say `duplicate`."""

    class Resending(MemoryDriver):
        async def enqueue(self, records: Sequence[NewRecord]) -> list[Enqueued]:
            await super().enqueue(records)
            return await super().enqueue(records)

    async with Work(context=None, driver=Resending()) as jobs:
        assert (await jobs.work.enqueue(1)).disposition == "accepted"
        assert (await jobs.work.options(id="mine").enqueue(1)).disposition == "duplicate"
        assert (await jobs.inspect.get_queue_counts()).queued == 2


@pytest.mark.parametrize("count", [2, 400])
async def test_enqueue_many_is_sent_at_once_in_calls_of_its_own(count: int) -> None:
    driver = SlowDriver()
    async with Work(context=None, driver=driver) as jobs, asyncio.TaskGroup() as tasks:
        tasks.create_task(jobs.work.enqueue(0))
        await driver.in_flight.wait()
        many = tasks.create_task(jobs.work.enqueue_many(range(count)))
        await settle()
        assert driver.batches == [1, min(count, MAX_ENQUEUE_RECORDS)]
        driver.may_proceed.set()
        assert len(await many) == count


async def test_an_error_that_cannot_be_copied_still_reaches_every_caller() -> None:
    class OddError(Exception):
        def __init__(self, *, code: int) -> None:
            super().__init__(f"code {code}")

    class Odd(SlowDriver):
        async def enqueue(self, records: Sequence[NewRecord]) -> list[Enqueued]:
            await super().enqueue(records)
            raise OddError(code=7)

    driver = Odd()
    async with Work(context=None, driver=driver) as jobs:
        calls = [asyncio.create_task(jobs.work.enqueue(number)) for number in range(4)]
        await driver.in_flight.wait()
        await settle()
        driver.may_proceed.set()
        async with asyncio.timeout(10):
            errors = await asyncio.gather(*calls, return_exceptions=True)
        assert all("code 7" in str(error) for error in errors)
