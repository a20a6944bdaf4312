"""The pages of the dashboard in Chromium with the longest names and texts that Flowli accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from flowli_core import Jobs, job
from flowli_core.dashboard import Dashboard
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import drain
from tests.browser.chromium import IN_CHROMIUM, find_faults, opened

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.browser.warehouse import Site

pytestmark = IN_CHROMIUM

NAME = ("remind_" * 20)[:128]
QUEUE = ("queue" * 30)[:128]
PAGES = ("", "jobs?state=failed", "jobs?state=queued", f"job?id={'i' * 128}", "schedules", "workers")


@job(str, name=NAME, queue=QUEUE)
async def remind(input: str) -> None:
    """Fail with a long text."""
    raise ValueError(input)


class LongJobs(Jobs[None]):
    """The registry."""

    remind = remind
    schedules = (remind.scheduled("k" * 128, cron="*/7 3-5,8 1,15 * 1-5", timezone="Europe/Berlin", input="x" * 5_000),)


@pytest_asyncio.fixture(loop_scope="session")
async def url(site: Site) -> AsyncGenerator[str]:
    """The address of a dashboard with a failed and a waiting job."""
    async with LongJobs(context=None, driver=MemoryDriver()) as jobs:
        await jobs.remind.options(id="i" * 128).enqueue("x" * 100_000)
        await drain(jobs)
        await jobs.remind.options(id="w" * 128).enqueue("x")
        yield site.mount(Dashboard(jobs, allow_anonymous=True, show_payloads=True))


async def height_of(page: Page) -> int:
    """Return the height of the tallest row of a table."""
    heights = await page.locator("tr:visible").evaluate_all("rows => rows.map(row => row.offsetHeight)")
    return max(heights, default=0)


@pytest.mark.parametrize("width", [375, 1280])
async def test_long_texts_do_not_stretch_a_page(browser: Browser, url: str, width: int) -> None:
    async with opened(browser, viewport={"width": width, "height": 800}) as tab:
        for path in PAGES:
            await tab.page.goto(url + path)
            assert await tab.page.evaluate("document.documentElement.scrollWidth") <= width, path
            assert await height_of(tab.page) < 500, path
            assert await find_faults(tab.page) == []


async def test_the_buttons_of_a_table_are_within_a_narrow_window(browser: Browser, url: str) -> None:
    async with opened(browser, viewport={"width": 375, "height": 800}) as tab:
        await tab.page.goto(url)
        box = await tab.page.get_by_role("button", name="Pause").bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= 375
