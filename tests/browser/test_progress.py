"""A page in Chromium shows the progress of a job while its server stops, crashes and starts again."""

from __future__ import annotations

import re
import signal
import sys
import time
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import Route, expect

from flowli_core import Runner
from tests.adapters.servers import FRAMEWORKS, Framework, Server, free_port, serving
from tests.browser.books import BookJobs, Press, make_driver
from tests.browser.chromium import IN_CHROMIUM, LOST_CONNECTION
from tests.redis.server import Server as RedisServer
from tests.support.figures import note_figures
from tests.support.running import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tests.browser.chromium import Tab

pytestmark = [
    *IN_CHROMIUM,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal that stops a process"),
]


async def sees(tab: Tab, value: int, text: str) -> None:
    """Wait until the bar and the text show this."""
    await expect(tab.page.locator("output")).to_have_text(text)
    await expect(tab.page.locator("progress")).to_have_js_property("value", value)


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


@pytest.mark.parametrize(("framework", "how", "store"), cases())
async def test_a_bar_goes_on_after_its_server_has_restarted(
    framework: Framework, how: str, redis_url: str | None, tab: Tab, tmp_path: Path
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
            await tab.page.goto(f"http://127.0.0.1:{port}/")
            await tab.page.click("button")
            await sees(tab, 0, "active")
            press.allow(10)
            await sees(tab, 10, "page 10 of 30")
            assert tab.problems == []
            await first.stop(signal.Signals[how])

        stopped = time.monotonic()
        press.allow(5)
        async with server():
            started = time.monotonic()
            await sees(tab, 15, "page 15 of 30")
            found = time.monotonic()
            stream = [request for request in tab.requests if request.url.endswith("/events")][-1]
            assert "last-event-id" in await stream.all_headers()
            await tab.page.screenshot(path=tmp_path / "restarted.png")
            press.allow(15)
            await sees(tab, 30, "30 pages are printed")
            await tab.page.screenshot(path=tmp_path / "finished.png")
            lost = tab.forgive(LOST_CONNECTION)

            await tab.page.reload()
            await sees(tab, 30, "30 pages are printed")
    store = "SQLite" if redis_url is None else "Redis"
    note_figures(
        f"{framework}, {how}, {store}: the server was up again {started - stopped:.1f} s after its end, "
        f"the bar went on {found - started:.1f} s later; lost connections in the console: {lost}"
    )


@pytest.mark.faults
async def test_a_page_connects_again_after_the_error_of_a_proxy(tab: Tab, tmp_path: Path) -> None:
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
        await tab.page.route(re.compile("/books/"), refuse)
        await tab.page.goto(str(server.client.base_url))
        await tab.page.click("button")
        await sees(tab, 30, "30 pages are printed")
    # The stream, the state, the stream again, then both without an error.
    assert requests == 5
    assert tab.forgive("502") == 3
