"""Chromium: how the tests find and start it, and the problems that it has with a page."""

from __future__ import annotations

import re
import shutil
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

IN_CHROMIUM = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium"),
]
"""The marks of tests that use the browser, which has one event loop."""

PATIENCE_MS = 30_000

LOST_CONNECTION = r"net::ERR_(CONNECTION_REFUSED|CONNECTION_RESET|INCOMPLETE_CHUNKED_ENCODING)"
"""The problem of a page whose server has ended."""

_OPTIONS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_NOT_OF_A_HOST = ("about", "blob", "data")


class Tab:
    """A page as a user sees it, and its problems: errors of its scripts, and requests to another host.

    A violation of the content security policy is an error in the console too, and so is a response that is an error.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.problems: list[str] = []
        self.requests: list[Request] = []
        page.on("console", self._note_message)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", self._note_request)

    def forgive(self, pattern: str) -> int:
        """Remove the problems that match the pattern, and return their number."""
        before = len(self.problems)
        self.problems = [problem for problem in self.problems if not re.search(pattern, problem)]
        return before - len(self.problems)

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.problems.append(message.text)

    def _note_request(self, request: Request) -> None:
        self.requests.append(request)
        url = urlsplit(request.url)
        if url.scheme not in _NOT_OF_A_HOST and url.hostname not in {"127.0.0.1", "localhost"}:
            self.problems.append(f"request to {url.hostname}")


@asynccontextmanager
async def chromium() -> AsyncGenerator[Browser]:
    """Start a browser with an empty profile."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=_OPTIONS, chromium_sandbox=False)
        yield browser
        await browser.close()


@asynccontextmanager
async def opened(browser: Browser, **options: Any) -> AsyncGenerator[Tab]:
    """Open a page of a user without cookies, and fail if it has had problems. The options are those of a context."""
    async with await browser.new_context(**options) as context:
        tab = Tab(await context.new_page())
        tab.page.set_default_timeout(PATIENCE_MS)
        yield tab
        assert not tab.problems, tab.problems


async def find_faults(page: Page) -> list[str]:
    """Return the serious faults of accessibility that axe-core finds on a page."""
    axe: Any = import_module("axe_playwright_python.async_playwright")  # it has no types
    found: list[dict[str, Any]] = (await axe.Axe().run(page)).response["violations"]
    return [
        f"{page.url}: {fault['id']} {node['target']}: {node['failureSummary']}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]
