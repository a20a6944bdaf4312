"""The lanes on the dashboard in Chromium, with values that are as long as they may be."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import pytest
from playwright.async_api import expect

from flowli_core.dashboard import Dashboard
from flowli_core.lanes import MOST_LANE_BYTES, Lane
from tests.browser.chromium import IN_CHROMIUM, find_faults, opened
from tests.browser.test_dashboard import NARROW, widths_of
from tests.browser.warehouse import Site, Warehouse, WarehouseJobs
from tests.support.laned import LanedDriver, lanes_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from playwright.async_api import Browser

pytestmark = IN_CHROMIUM

LONG = "x" * MOST_LANE_BYTES


@asynccontextmanager
async def pages_of(site: Site) -> AsyncGenerator[tuple[str, str]]:
    """Open a registry, and return the addresses of the overview and of a job that waits in a lane."""
    driver = LanedDriver()
    first, *others = lanes_of(driver.clock)
    driver.show(replace(first, value=LONG), *others, count=1_204)
    driver.lane = Lane(first.limit, LONG)
    async with WarehouseJobs(context=Warehouse, driver=driver) as jobs:
        receipt = await jobs.thank.enqueue(number=1)
        url = site.mount(Dashboard(jobs, allow_anonymous=True, show_payloads=True))
        yield url, f"{url}job?id={receipt.id}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [NARROW, {"width": 1280, "height": 1000}], ids=["narrow", "wide"])
async def test_lanes_are_accessible_and_fit_in_the_window(
    browser: Browser, site: Site, scheme: Literal["light", "dark"], viewport: Any
) -> None:
    async with pages_of(site) as urls, opened(browser, color_scheme=scheme, viewport=viewport) as tab:
        for url in urls:
            await tab.page.goto(url)
            assert await find_faults(tab.page) == []
            width, window = await widths_of(tab.page)
            assert width <= window, url
        await expect(tab.page.locator("dl").first).to_contain_text("its lane has no free place: 2 of 2 running")
