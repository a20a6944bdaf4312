"""A page in Chromium shows the progress of a job while its server stops, crashes and starts again."""

from __future__ import annotations

import re
import shutil
import signal
import sys
import time
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, Request, Route, async_playwright, expect

from flowli_core import Runner
from tests.adapters.servers import FRAMEWORKS, Framework, Server, free_port, serving
from tests.browser.books import BookJobs, Press, make_driver
from tests.redis.server import Server as RedisServer
from tests.support.figures import note_figures
from tests.support.running import running

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium"),
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal that stops a process"),
]

OPTIONS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 30_000
LOST_CONNECTION = re.compile(r"net::ERR_(CONNECTION_REFUSED|CONNECTION_RESET|INCOMPLETE_CHUNKED_ENCODING)")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncGenerator[Browser]:
    """A browser with an empty profile."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS, chromium_sandbox=False)
        yield browser
        await browser.close()


class Reader:
    """The page as a user sees it, and what its console shows."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.problems: list[str] = []
        self.streams: list[Request] = []
        page.on("console", self._note_message)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", self._note_request)

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.problems.append(message.text)

    def _note_request(self, request: Request) -> None:
        if request.url.endswith("/events"):
            self.streams.append(request)

    async def sees(self, value: int, text: str) -> None:
        """Wait until the bar and the text show this."""
        await expect(self.page.locator("output")).to_have_text(text, timeout=PATIENCE_MS)
        await expect(self.page.locator("progress")).to_have_js_property("value", value, timeout=PATIENCE_MS)


def cases() -> list[Any]:
    """Return each framework with both ways to end its server and with both stores. All but one are long tests."""
    quick = ("fastapi", "SIGKILL", "sqlite")
    return [
        pytest.param(*one, id="-".join(one), marks=() if one == quick else pytest.mark.faults)
        for one in product(FRAMEWORKS, ("SIGTERM", "SIGKILL"), ("sqlite", "redis"))
    ]


@pytest.fixture
def redis_url(store: str) -> Iterator[str | None]:
    """The URL of a Redis server, or None if the test uses SQLite."""
    if store == "sqlite":
        yield None
        return
    with RedisServer() as server:
        yield server.url


@pytest_asyncio.fixture(loop_scope="module")
async def reader(browser: Browser) -> AsyncGenerator[Reader]:
    """A page of a user without cookies."""
    async with await browser.new_context(viewport={"width": 480, "height": 80}) as context:
        yield Reader(await context.new_page())


@pytest.mark.parametrize(("framework", "how", "store"), cases())
async def test_a_bar_goes_on_after_its_server_has_restarted(
    framework: Framework, how: str, redis_url: str | None, reader: Reader, tmp_path: Path
) -> None:
    press, port = Press(), free_port()

    def server() -> AbstractAsyncContextManager[Server]:
        app = f"tests.browser.apps:{framework}_app"
        return serving("uvicorn", framework, tmp_path, redis=redis_url, app=app, port=port)

    async with (
        BookJobs(context=lambda: press, driver=make_driver(tmp_path, redis_url)) as jobs,
        running(Runner(jobs)),
    ):
        async with server() as first:
            await reader.page.goto(f"http://127.0.0.1:{port}/")
            await reader.page.click("button")
            await reader.sees(0, "active")
            press.allow(10)
            await reader.sees(10, "page 10 of 30")
            assert reader.problems == []
            await first.stop(signal.Signals[how])

        stopped = time.monotonic()
        press.allow(5)
        async with server():
            started = time.monotonic()
            await reader.sees(15, "page 15 of 30")
            found = time.monotonic()
            assert "last-event-id" in await reader.streams[-1].all_headers()
            await reader.page.screenshot(path=tmp_path / "restarted.png")
            press.allow(15)
            await reader.sees(30, "30 pages are printed")
            await reader.page.screenshot(path=tmp_path / "finished.png")
            assert all(LOST_CONNECTION.search(problem) for problem in reader.problems), reader.problems

            await reader.page.reload()
            await reader.sees(30, "30 pages are printed")
    store = "SQLite" if redis_url is None else "Redis"
    note_figures(
        f"{framework}, {how}, {store}: the server was up again {started - stopped:.1f} s after its end, "
        f"the bar went on {found - started:.1f} s later; lost connections in the console: {len(reader.problems)}"
    )


@pytest.mark.faults
async def test_a_page_connects_again_after_the_error_of_a_proxy(reader: Reader, tmp_path: Path) -> None:
    press = Press()
    requests = 0

    async def refuse(route: Route) -> None:
        nonlocal requests
        requests += 1
        await (route.fulfill(status=502) if requests <= 3 else route.continue_())

    async with (
        BookJobs(context=lambda: press, driver=make_driver(tmp_path, None)) as jobs,
        running(Runner(jobs)),
        serving("uvicorn", "fastapi", tmp_path, redis=None, app="tests.browser.apps:fastapi_app") as server,
    ):
        press.allow(30)
        await reader.page.route(re.compile("/books/"), refuse)
        await reader.page.goto(str(server.client.base_url))
        await reader.page.click("button")
        await reader.sees(30, "30 pages are printed")
    # The stream, the state, the stream again, then both without an error.
    assert requests == 5
