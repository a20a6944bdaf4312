"""The charts of the dashboard in Chromium."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.browser.chromium import IN_CHROMIUM

if TYPE_CHECKING:
    from tests.browser.chromium import Tab
    from tests.browser.warehouse import Shop

pytestmark = IN_CHROMIUM

_SHOWN_SERIES = """figures => figures.flatMap(figure => {
    const canvas = figure.querySelector("canvas");
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    const colors = new Set();
    for (let i = 0; i < pixels.length; i += 4) colors.add(`rgb(${pixels[i]}, ${pixels[i + 1]}, ${pixels[i + 2]})`);
    return [...figure.querySelectorAll(".swatch")].map(swatch => colors.has(getComputedStyle(swatch).backgroundColor));
})"""


async def test_bars_that_stand_on_each_other_are_all_visible(tab: Tab, shop: Shop) -> None:
    """A job was retried and failed within a minute."""
    await tab.page.goto(shop.url)
    failures = tab.page.locator("figure[data-chart]", has_text="Failures")
    await failures.locator("canvas").wait_for()
    assert await failures.evaluate_all(_SHOWN_SERIES) == [True, True]
