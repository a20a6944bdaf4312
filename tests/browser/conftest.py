"""One Chromium for all tests of pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest_asyncio
from playwright.async_api import expect

from tests.browser.chromium import PATIENCE_MS, Tab, chromium, opened

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
