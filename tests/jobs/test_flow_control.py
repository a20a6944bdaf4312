"""Limits and the options of a key, from the call to the handler, with a runner."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import BaseModel

from flowli_core import Jobs, Limit, Runner, job
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import ManualClock, drain

active: Counter[str] = Counter()
most: Counter[str] = Counter()
ran: list[int] = []


class Page(BaseModel):
    domain: str


@job(Page, limit=Limit(concurrency=2, by=lambda input: input.domain))
async def crawl(input: Page) -> None:
    active[input.domain] += 1
    most[input.domain] = max(most[input.domain], active[input.domain])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    active[input.domain] -= 1


@job(int)
async def index(input: int) -> None:
    ran.append(input)


class AppJobs(Jobs[None]):
    crawl = crawl
    index = index


@pytest.fixture
def clock() -> ManualClock:
    active.clear()
    most.clear()
    ran.clear()
    return ManualClock(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def jobs(clock: ManualClock) -> AppJobs:
    return AppJobs(context=None, driver=MemoryDriver(clock=clock))


async def test_two_calls_of_a_domain_run_at_once() -> None:
    most.clear()
    active.clear()
    jobs = AppJobs(context=None, driver=MemoryDriver())
    receipts = await jobs.crawl.enqueue_many([Page(domain=domain) for domain in "aab" * 4 + "c"])
    async with Runner(jobs, concurrency=10):
        for receipt in receipts:
            await jobs.crawl.result(receipt, timeout="10s")
    assert most == {"a": 2, "b": 2, "c": 1}


async def test_a_debounced_job_runs_once_with_the_last_input(jobs: AppJobs, clock: ManualClock) -> None:
    debounced = jobs.index.options(key="k", debounce="5s")
    first = await debounced.enqueue(1)
    clock.advance(timedelta(seconds=4))
    second = await debounced.enqueue(2)
    assert (first.disposition, second.disposition, second.id) == ("accepted", "replaced", first.id)
    assert second.scheduled_for == first.scheduled_for + timedelta(seconds=4)
    clock.advance(timedelta(seconds=4))
    await drain(jobs)
    assert ran == []
    clock.advance(timedelta(seconds=1))
    await drain(jobs)
    assert ran == [2]


async def test_max_wait_ends_a_debounce(jobs: AppJobs, clock: ManualClock) -> None:
    debounced = jobs.index.options(key="k", debounce="5s", max_wait="6s")
    await debounced.enqueue(1)
    clock.advance(timedelta(seconds=4))
    await debounced.enqueue(2)
    clock.advance(timedelta(seconds=2))
    await drain(jobs)
    assert ran == [2]


async def test_a_unique_key_is_held_after_its_job_has_completed(jobs: AppJobs, clock: ManualClock) -> None:
    unique = jobs.index.options(key="k", unique_for="1h")
    first = await unique.enqueue(1)
    await drain(jobs)
    again = await unique.enqueue(2)
    assert (again.id, again.disposition, again.state) == (first.id, "existing", "completed")
    clock.advance(timedelta(hours=1, seconds=1))
    assert (await unique.enqueue(3)).disposition == "accepted"
    await drain(jobs)
    assert ran == [1, 3]


async def test_a_schedule_stores_its_jobs_in_the_lane_of_its_input(jobs: AppJobs, clock: ManualClock) -> None:
    await jobs.crawl.schedule("a", input=Page(domain="a.org"), every="1h")
    receipt = await jobs.control.trigger("a")
    assert receipt is not None
    record = await jobs.crawl.get(receipt.id)
    assert record is not None
    assert (record.limit, record.lane) == ("crawl", "a.org")
