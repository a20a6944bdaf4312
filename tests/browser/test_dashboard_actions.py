"""The buttons of the dashboard, pressed in Chromium with and without scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser.chromium import IN_CHROMIUM, opened
from tests.browser.warehouse import Order
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
    await expect(page.locator(".notice")).to_be_visible()


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


async def test_a_finished_job_is_removed(page: Page, shop: Shop) -> None:
    await page.goto(shop.job_url("completed"))
    await press(page, "Purge")
    await expect(page.locator(".notice")).to_have_text("The job is removed.")
    assert await shop.jobs.inspect.get_job(shop.ids["completed"]) is None


async def test_a_queue_is_paused_and_resumed(page: Page, shop: Shop) -> None:
    await page.goto(shop.url)
    queue = page.locator("#queues tr", has_text="default")
    await queue.get_by_role("button", name="Pause").click()
    await expect(queue).to_contain_text("paused")
    assert set((await shop.jobs.inspect.get_overview()).paused) == {"default"}
    await queue.get_by_role("button", name="Resume").click()
    await expect(queue).not_to_contain_text("paused")
    assert not (await shop.jobs.inspect.get_overview()).paused


async def test_all_jobs_that_a_filter_finds_are_changed_after_a_question(page: Page, shop: Shop) -> None:
    await shop.jobs.thank.options(queue="later").enqueue_many([Order(number=number) for number in range(120)])
    await shop.jobs.pack.options(queue="later").enqueue(number=7)
    await page.goto(f"{shop.url}jobs?state=queued")
    await page.get_by_label("Job", exact=True).fill("thank")
    await page.get_by_role("button", name="Filter").click()
    await expect(page.locator("table.jobs tbody tr").first).to_be_visible()
    await page.get_by_role("link", name="Cancel all").click()
    await expect(page.locator("h1")).to_have_text("Cancel 121 queued jobs of thank?")
    await page.get_by_role("button", name="Cancel 121 queued jobs of thank").click()
    await expect(page.locator(".notice")).to_contain_text("121")
    counts = await shop.jobs.inspect.get_queue_counts()
    assert (counts.queued, counts.cancelled) == (1, 122)

    await page.goto(f"{shop.url}jobs?state=cancelled&queue=later")
    await page.get_by_role("link", name="Purge all").click()
    await page.get_by_role("button", name="Purge 122").click()
    await expect(page.locator(".notice")).to_contain_text("122")
    assert (await shop.jobs.inspect.get_queue_counts()).cancelled == 0

    await page.goto(f"{shop.url}jobs?state=failed&error=ConnectionError")
    await page.get_by_role("link", name="Requeue all").click()
    await page.get_by_role("button", name="Requeue 1 failed job with ConnectionError").click()
    await expect(page.locator(".notice")).to_contain_text("1")


async def test_pages_of_a_list_stay_put_while_jobs_are_added(page: Page, shop: Shop) -> None:
    await shop.jobs.thank.options(queue="later").enqueue_many([Order(number=number) for number in range(120)])
    seen: list[str] = []
    await page.goto(f"{shop.url}jobs?state=queued")
    while True:
        seen += await page.locator("td.id a").all_inner_texts()
        await shop.jobs.thank.options(queue="later").enqueue(number=8)
        older = page.get_by_role("link", name="Older")
        if not await older.count():
            break
        await older.click()
        await page.wait_for_load_state()
    assert len(seen) == len(set(seen)) == 121


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
