"""One Chromium for all tests of pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest_asyncio
from playwright.async_api import expect

from tests.browser.chromium import PATIENCE_MS, Tab, chromium, opened
from tests.browser.warehouse import Shop, Site, opened_shop

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from playwright.async_api import Browser

expect.set_options(timeout=PATIENCE_MS)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncGenerator[Browser]:
    """A browser with an empty profile."""
    async with chromium() as started:
        yield started


@pytest_asyncio.fixture(loop_scope="session")
async def tab(browser: Browser) -> AsyncGenerator[Tab]:
    """A page of a user without cookies. The test fails if the page has problems that the test does not forgive."""
    async with opened(browser) as page:
        yield page


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def site() -> AsyncGenerator[Site]:
    """The server of all dashboards."""
    site = Site()
    await site.start()
    yield site
    await site.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def shop(site: Site) -> AsyncGenerator[Shop]:
    """A registry with jobs in every state, and its dashboard."""
    async with opened_shop(site) as shop:
        await shop.fill()
        yield shop
