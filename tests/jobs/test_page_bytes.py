"""Listings are bounded by bytes, and read no payloads that nobody asked for."""

from __future__ import annotations

import pytest

from flowli_core import JobRecord, Jobs, job
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.limits import MAX_BATCH_BYTES
from flowli_core.stored import Found, RecordQuery
from flowli_core.testing import drain

LARGE = "x" * 250 * 1024


class PageDriver(MemoryDriver):
    """Keeps the size of each page that was read."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    async def records(self, query: RecordQuery) -> Found:
        found = await super().records(query)
        self.sizes.append(sum(len(record.input) + len(record.result or b"") for record in found.records))
        return found


@job(str)
async def echo(input: str) -> str:
    return input


class EchoJobs(Jobs[None]):
    echo = echo


@pytest.fixture
def driver() -> PageDriver:
    return PageDriver()


@pytest.fixture
def jobs(driver: PageDriver) -> EchoJobs:
    return EchoJobs(context=None, driver=driver)


async def test_a_page_with_payloads_ends_early_and_its_cursor_gets_the_rest(jobs: EchoJobs, driver: PageDriver) -> None:
    receipts = await jobs.echo.enqueue_many([LARGE] * 100)
    await drain(jobs)
    found: list[JobRecord] = []
    cursor: str | None = None
    pages = 0
    while pages == 0 or cursor is not None:
        page = await jobs.inspect.find("completed", limit=1_000, cursor=cursor)
        found += page.items
        cursor, pages = page.cursor, pages + 1
    assert sorted(record.id for record in found) == sorted(receipt.id for receipt in receipts)
    assert pages == 6
    assert max(driver.sizes) < MAX_BATCH_BYTES / 3, "an answer may be too large for a slow network"


async def test_a_page_without_payloads_reads_none(jobs: EchoJobs, driver: PageDriver) -> None:
    await jobs.echo.enqueue_many([LARGE] * 100)
    await drain(jobs)
    driver.sizes.clear()
    page = await jobs.inspect.find("completed", limit=1_000, payloads=False)
    assert (len(page.items), page.cursor) == (100, None)
    assert set(driver.sizes) == {0}
    assert {(record.input, record.meta, record.result) for record in page.items} == {(None, None, None)}
    assert {record.name for record in page.items} == {"echo"}


@pytest.mark.parametrize("limit", [1, 31, 32, 33, 64, 70, 71, 1_000])
async def test_pages_of_any_size_follow_each_other_without_gap_or_repetition(jobs: EchoJobs, limit: int) -> None:
    receipts = await jobs.echo.enqueue_many(["small"] * 70)
    found: list[str] = []
    cursor: str | None = None
    while not found or cursor is not None:
        page = await jobs.inspect.find("queued", limit=limit, cursor=cursor)
        assert len(page.items) == min(limit, 70 - len(found))
        found += [record.id for record in page.items]
        cursor = page.cursor
    assert sorted(found) == sorted(receipt.id for receipt in receipts)


async def test_a_page_of_schedules_ends_early_and_its_cursor_gets_the_rest(jobs: EchoJobs) -> None:
    for number in range(70):
        await jobs.echo.schedule(f"s{number:02}", every="1h", input=LARGE)
    keys: list[str] = []
    cursor: str | None = None
    pages = 0
    while pages == 0 or cursor is not None:
        page = await jobs.inspect.get_schedules(limit=1_000, cursor=cursor)
        keys += [schedule.key for schedule in page.items]
        cursor, pages = page.cursor, pages + 1
    assert keys == [f"s{number:02}" for number in range(70)]
    assert pages == 2
