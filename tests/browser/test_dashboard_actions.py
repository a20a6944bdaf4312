"""The buttons of the dashboard, pressed in Chromium with and without scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser.chromium import IN_CHROMIUM, opened
from tests.support.running import until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.browser.warehouse import Shop

pytestmark = IN_CHROMIUM


@pytest_asyncio.fixture(loop_scope="session", params=["scripts", "no scripts"])
async def page(request: pytest.FixtureRequest, browser: Browser) -> AsyncGenerator[Page]:
    """A page of a user with scripts, and one without."""
    async with opened(browser, java_script_enabled=request.param == "scripts") as tab:
        yield tab.page


async def press(page: Page, name: str) -> None:
    """Press a button. If the page asks for confirmation first, confirm."""
    question = page.locator("details.guarded summary", has_text=name)
    if await question.count():
        await question.click()
    await page.get_by_role("button", name=name, exact=True).click()
    await expect(page.get_by_role("status").first).to_be_visible()


async def test_a_waiting_job_is_cancelled_and_runs_again(page: Page, shop: Shop) -> None:
    await page.goto(shop.job_url("queued"))
    await press(page, "Cancel")
    await expect(page.locator("h1")).to_contain_text("cancelled")
    await press(page, "Requeue")
    await expect(page.locator("h1")).to_contain_text("queued")
    await shop.until(shop.ids["queued"], "queued")


async def test_a_running_job_is_asked_to_stop(page: Page, shop: Shop) -> None:
    await page.goto(shop.job_url("active"))
    await press(page, "Cancel")
    await expect(page.locator("h1")).to_contain_text("cancel")


async def test_a_failed_job_runs_again(page: Page, shop: Shop) -> None:
    await page.goto(shop.job_url("failed"))
    await press(page, "Requeue")
    await shop.until(shop.ids["failed"], "failed")


async def test_a_schedule_is_paused_resumed_triggered_and_removed(page: Page, shop: Shop) -> None:
    await page.goto(f"{shop.url}schedules")
    schedule = page.locator("section.schedule")
    await press(page, "Pause")
    await expect(schedule.locator("h2")).to_contain_text("paused")
    await press(page, "Resume")
    await expect(schedule.locator("h2")).not_to_contain_text("paused")
    before = (await shop.jobs.inspect.get_queue_counts()).completed
    await press(page, "Trigger now")

    async def has_run() -> bool:
        return (await shop.jobs.inspect.get_queue_counts()).completed == before + 1

    await until(has_run)
    await press(page, "Remove")
    await expect(schedule).to_have_count(0)
