"""`make screenshots`: take the pictures of the dashboard in docs/screenshots, in Chromium.

python -m tests.browser.screenshots [NAME...]
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowli_core.dashboard import Dashboard
from tests.browser.bookshop import Bookshop
from tests.browser.chromium import chromium, opened
from tests.browser.warehouse import Site

if TYPE_CHECKING:
    from playwright.async_api import Browser

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
WIDE, LOW, NARROW = [{"width": width, "height": height} for width, height in ((1280, 1000), (1280, 560), (375, 1400))]
"""The sizes of the window. A low one leaves out the rest of a long page, whose picture would be large."""


async def take(browser: Browser, name: str, url: str, **options: Any) -> None:
    """Take a picture of a page."""
    given = {"viewport": WIDE, "locale": "en-GB", "timezone_id": "Europe/Berlin", **options}
    async with opened(browser, **given) as tab:
        await tab.page.goto(url)
        await tab.page.locator("#live.on").wait_for()
        await tab.page.screenshot(path=FOLDER / f"{name}.png")


async def main(names: list[str]) -> None:
    """Take all pictures, or those with these names."""
    busy, empty, site = Bookshop(), Bookshop(), Site()
    await busy.live()
    async with busy.jobs, empty.jobs, chromium() as browser:
        await site.start()
        url, nothing = [
            site.mount(Dashboard(shop.jobs, allow_anonymous=True, show_payloads=True, title="Bookshop"))
            for shop in (busy, empty)
        ]
        failed = f"{url}job?id={await busy.failed_id()}"
        pictures: dict[str, tuple[str, dict[str, Any]]] = {
            "overview": (url, {}),
            "overview-day": (f"{url}?last=1d", {}),
            "overview-empty": (nothing, {}),
            "overview-dark": (url, {"color_scheme": "dark"}),
            "overview-narrow": (url, {"viewport": NARROW}),
            "failed-jobs": (f"{url}jobs?state=failed", {"viewport": LOW}),
            "failed-job": (failed, {"viewport": LOW}),
            "schedules": (f"{url}schedules", {"viewport": LOW}),
            "workers": (f"{url}workers", {}),
        }
        for name, (address, given) in pictures.items():
            if not names or name in names:
                await take(browser, name, address, **given)
        await site.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
