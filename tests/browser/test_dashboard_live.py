"""Pages of the dashboard change by themselves in Chromium while jobs move, also after a restart of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.async_api import expect

from tests.browser.chromium import IN_CHROMIUM, LOST_CONNECTION
from tests.browser.warehouse import Order

if TYPE_CHECKING:
    from tests.browser.chromium import Tab
    from tests.browser.warehouse import Shop, Site

pytestmark = IN_CHROMIUM


async def test_a_job_moves_on_its_page(tab: Tab, shop: Shop) -> None:
    page = tab.page
    await page.goto(shop.job_url("active"))
    await expect(page.locator("progress")).to_have_js_property("value", 1)
    shop.warehouse.allow(1)
    await expect(page.locator("progress")).to_have_js_property("value", 2)
    await expect(page.locator("#log")).to_contain_text("packed parcel 2 of order 6")
    shop.warehouse.allow(1)
    await expect(page.locator("h1")).to_contain_text("completed")
    await expect(page.get_by_text("order 6 is packed")).to_be_visible()


async def test_the_overview_counts_while_jobs_move(tab: Tab, shop: Shop) -> None:
    page = tab.page
    await page.goto(shop.url)
    await expect(page.locator(".tiles .failed b")).to_have_text("1")
    await shop.jobs.bill.enqueue(number=8)
    await expect(page.locator(".tiles .failed b")).to_have_text("2")


async def test_a_list_does_not_move_under_the_pointer(tab: Tab, shop: Shop) -> None:
    page = tab.page
    await page.goto(f"{shop.url}jobs?state=failed")
    rows = page.locator("tbody tr")
    count = await rows.count()
    await rows.first.hover()
    await shop.jobs.bill.enqueue(number=8)
    await expect(page.locator(".tabs .failed b")).to_have_text(str(count + 1))
    assert await rows.count() == count
    await page.mouse.move(0, 0)
    await page.evaluate("refresh()")
    await expect(rows).to_have_count(count + 1)


async def test_what_a_reader_has_opened_and_focused_stays_so(tab: Tab, shop: Shop) -> None:
    page = tab.page
    await page.goto(shop.job_url("active"))
    question = page.locator("details.guarded summary")
    await question.click()
    shop.warehouse.allow(1)
    await expect(page.locator("progress")).to_have_js_property("value", 2)
    await expect(page.locator("details.guarded")).to_have_attribute("open", "")
    await expect(question).to_be_focused()


async def test_a_question_stays_with_the_schedule_that_it_is_about(tab: Tab, shop: Shop) -> None:
    """A schedule that appears above it must not take over the button."""
    page = tab.page
    await page.goto(f"{shop.url}schedules")
    await page.locator("summary").click()
    await shop.jobs.thank.schedule("earlier", every="1h", input=Order(number=9))
    await page.evaluate("refresh()")
    await expect(page.locator("section.schedule")).to_have_count(2)
    assert await page.locator("section.schedule", has_text="earlier").locator("details[open]").count() == 0


async def test_the_result_of_an_action_stays_on_the_page(tab: Tab, shop: Shop) -> None:
    page = tab.page
    await page.goto(shop.job_url("failed"))
    await page.get_by_role("button", name="Requeue").click()
    await expect(page.locator("#live")).to_have_text("live")
    await page.evaluate("refresh()")
    await expect(page.locator(".notice")).to_have_text("The job is queued again.")
    await page.reload()
    await expect(page.locator(".notice")).to_have_count(0)


async def test_charts_show_the_history_and_grow(tab: Tab, shop: Shop) -> None:
    page = tab.page
    await page.goto(shop.url)
    await expect(page.locator("figure canvas").first).to_be_visible()
    total = page.locator("figure .legend span", has_text="Failed").locator("[data-total]").first
    await expect(total).to_have_text("1")
    await shop.jobs.bill.enqueue(number=8)
    await expect(total).to_have_text("2")


async def test_a_page_goes_on_after_the_server_has_restarted(tab: Tab, shop: Shop, site: Site) -> None:
    page = tab.page
    await page.goto(shop.job_url("active"))
    await expect(page.locator("#live")).to_have_text("live")
    await site.stop()
    try:
        await expect(page.locator("#live")).to_have_text("reconnecting")
        shop.warehouse.allow(2)
        await shop.until(shop.ids["active"], "completed")
    finally:
        await site.start()
    await expect(page.locator("h1")).to_contain_text("completed")
    await expect(page.locator("#live")).to_have_text("live")
    tab.forgive(LOST_CONNECTION)
