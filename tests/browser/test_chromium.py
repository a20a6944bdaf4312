"""The tests of pages notice the problems of a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.chromium import IN_CHROMIUM, find_faults

if TYPE_CHECKING:
    from playwright.async_api import Route

    from tests.browser.chromium import Tab

pytestmark = IN_CHROMIUM

POLICY = {"Content-Security-Policy": "default-src 'none'"}


@pytest.mark.parametrize(
    ("body", "headers", "problem"),
    [
        ("<script>console.error('it failed')</script>", {}, "it failed"),
        ("<script>nonsense()</script>", {}, "nonsense is not defined"),
        ("<script>1</script>", POLICY, "Content Security Policy"),
        ("<p style='color: red'>", POLICY, "Content Security Policy"),
        ("<img src='http://other.test/image.png'>", {}, "request to other.test"),
        ("<img src='http://127.0.0.1/unknown'>", {}, "404"),
    ],
)
async def test_a_problem_of_a_page_is_noticed(tab: Tab, body: str, headers: dict[str, str], problem: str) -> None:
    async def respond(route: Route) -> None:
        is_page = route.request.url == "http://127.0.0.1/"
        await (
            route.fulfill(body=body, headers=headers, content_type="text/html")
            if is_page
            else route.fulfill(status=404)
        )

    await tab.page.route("**", respond)
    await tab.page.goto("http://127.0.0.1/")
    assert tab.forgive(problem)
    tab.forgive("404")


async def test_a_fault_of_accessibility_is_noticed(tab: Tab) -> None:
    await tab.page.set_content("<html lang=en><title>A</title><main><button></button><h1>A</h1></main>")
    (fault,) = await find_faults(tab.page)
    assert "button-name" in fault
