"""The pages of the dashboard in Chromium: how they look to every reader, and what their buttons do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

import pytest
from playwright.async_api import Browser, Page, expect

from flowli_core.cli._dashboard.links import LinkGate
from flowli_core.dashboard import Dashboard
from tests.browser.chromium import IN_CHROMIUM, find_faults, opened

if TYPE_CHECKING:
    from tests.browser.chromium import Tab
    from tests.browser.warehouse import Shop

pytestmark = IN_CHROMIUM

NARROW = {"width": 375, "height": 800}


def pages_of(shop: Shop) -> list[str]:
    """Return the addresses of pages that show everything between them."""
    lists = [f"{shop.url}jobs?state={state}" for state in ("queued", "active", "failed")]
    jobs = [shop.job_url(state) for state in ("scheduled", "active", "completed", "failed")]
    others = ("schedules", "workers", "confirm?action=requeue-all&state=failed")
    return [shop.url, *lists, *jobs, *(f"{shop.url}{path}" for path in others)]


async def widths_of(page: Page) -> tuple[int, int]:
    """Return the width of the page and that of the window."""
    script = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    width, window = await page.evaluate(script)
    return width, window


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_page_is_accessible_in_both_themes(
    browser: Browser, shop: Shop, scheme: Literal["light", "dark"]
) -> None:
    async with opened(browser, color_scheme=scheme) as tab:
        faults: list[str] = []
        for url in pages_of(shop):
            await tab.page.goto(url)
            faults += await find_faults(tab.page)
        await tab.page.goto(f"{shop.url}job?id=unknown")
        faults += await find_faults(tab.page)
        assert tab.forgive("404")
    assert faults == []


async def test_no_page_is_wider_than_a_telephone(browser: Browser, shop: Shop) -> None:
    async with opened(browser, viewport=NARROW) as tab:
        for url in pages_of(shop):
            await tab.page.goto(url)
            for question in await tab.page.locator("details.guarded summary").all():
                await question.click()
            width, window = await widths_of(tab.page)
            assert width <= window, url


async def test_a_reader_sees_times_in_their_zone_and_utc_beside(browser: Browser, shop: Shop) -> None:
    record = await shop.jobs.inspect.get_job(shop.ids["completed"])
    assert record is not None
    assert record.finished_at is not None
    async with opened(browser, timezone_id="Asia/Tokyo", locale="en-GB") as tab:
        await tab.page.goto(shop.job_url("completed"))
        times = tab.page.locator("ol.timeline time")
        tokyo = record.finished_at.astimezone(ZoneInfo("Asia/Tokyo"))
        await expect(times.first).to_contain_text(f"{tokyo:%H:%M}:")
        utc = record.finished_at.strftime("%Y-%m-%d %H:%M")
        assert any(utc in title for title in await times.evaluate_all("all => all.map(time => time.title)"))


async def test_a_reader_chooses_light_or_dark_for_good(browser: Browser, shop: Shop) -> None:
    async def background(page: Page) -> str:
        return str(await page.evaluate("getComputedStyle(document.body).backgroundColor"))

    async with opened(browser, color_scheme="dark") as tab:
        page = tab.page
        await page.goto(shop.url)
        dark = await background(page)
        await page.get_by_role("button", name="Theme: auto").click()
        await expect(page.get_by_role("button", name="Theme: light")).to_be_visible()
        light = await background(page)
        assert light != dark
        await page.goto(f"{shop.url}schedules")
        assert await background(page) == light
        await page.get_by_role("button", name="Theme: light").click()
        await expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
        assert await background(page) == dark


async def test_the_keyboard_reaches_every_link_and_button(tab: Tab, shop: Shop) -> None:
    page = tab.page
    for url in (shop.url, shop.job_url("failed"), shop.job_url("queued"), f"{shop.url}schedules"):
        await page.goto(url)
        wanted = await page.locator("a:visible, button:visible, summary:visible").count()
        reached = 0
        for _ in range(2 * wanted):
            await page.keyboard.press("Tab")
            kind, has_outline = await page.evaluate(
                "[document.activeElement.tagName, getComputedStyle(document.activeElement).outlineStyle != 'none']"
            )
            if kind == "BODY":
                break
            assert has_outline, (url, kind)
            reached += kind in ("A", "BUTTON", "SUMMARY")
        assert reached >= wanted, url


async def test_an_action_is_done_with_the_keyboard_alone(tab: Tab, shop: Shop) -> None:
    page = tab.page
    await page.goto(shop.job_url("queued"))
    await page.keyboard.press("Tab")
    await expect(page.locator(":focus")).to_have_text("Skip to the content")
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await expect(page.locator(":focus")).to_have_text("Cancel…")
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator("h1")).to_contain_text("cancelled")


async def test_a_link_opens_the_dashboard_in_one_browser_only(browser: Browser, shop: Shop) -> None:
    links: list[str] = []
    gate = LinkGate(Dashboard(shop.jobs, allow_anonymous=True), url="", announce=links.append)
    url = shop.site.mount(gate).rstrip("/")
    async with opened(browser) as tab:
        await tab.page.goto(url + links[0])
        assert tab.page.url == url + links[0].partition("?")[0]
        await expect(tab.page.locator("#live")).to_have_text("live")
        await tab.page.get_by_role("link", name="Schedules", exact=True).click()
        await expect(tab.page.locator("h1")).to_have_text("Schedules")
    async with opened(browser) as tab:
        for stranger in (url + links[0], url):
            await tab.page.goto(stranger)
            await expect(tab.page.locator("h1")).to_have_text("This page opens with a link")
            assert await find_faults(tab.page) == []
        assert tab.forgive("403") == 2
