"""A stream sends an event for each change, to a bounded number of pages, and ends with the server."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from flowli_core.dashboard import Dashboard, _live, _site
from flowli_core.drivers.memory import MemoryDriver
from tests.dashboard.shop import ShopJobs
from tests.support.faulty import FaultyDriver
from tests.support.running import soon, until


class Stream:
    """A client of the stream of a page."""

    def __init__(self, dashboard: Dashboard, query: str = "") -> None:
        self._dashboard = dashboard
        self._query = query
        self.parts: asyncio.Queue[bytes] = asyncio.Queue()
        self._gone = asyncio.Event()
        self.status = 0

    async def run(self) -> None:
        scope: dict[str, Any] = {
            "type": "http",
            "method": "GET",
            "path": "/events",
            "query_string": self._query.encode(),
            "headers": [],
        }
        await self._dashboard(scope, self._receive, self._send)

    async def event(self) -> str:
        """Wait for an event."""
        while not (part := (await soon(self.parts.get())).decode()).startswith("event:"):
            pass
        return part

    def close(self) -> None:
        self._gone.set()

    async def _receive(self) -> MutableMapping[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        self.status = message.get("status", self.status)
        self.parts.put_nowait(message.get("body", b""))


class BrokenStream(Stream):
    """A stream whose client is gone before it begins."""

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        raise OSError(f"the client is gone before {message['type']}")


@asynccontextmanager
async def streaming(dashboard: Dashboard, query: str = "") -> AsyncGenerator[Stream]:
    """Keep a stream open."""
    stream = Stream(dashboard, query)
    async with asyncio.TaskGroup() as group:
        group.create_task(stream.run())
        while not (await soon(stream.parts.get())).startswith(b"retry:"):
            pass
        yield stream
        stream.close()


@pytest.fixture
def driver() -> FaultyDriver:
    """An empty store that counts its calls."""
    return FaultyDriver(MemoryDriver())


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the store more often than in use."""
    monkeypatch.setattr(_live, "READ_EVERY", 0.01)
    monkeypatch.setattr(_site, "KEPT_SECONDS", 0.0)


async def test_a_stream_sends_an_event_when_a_job_is_enqueued(driver: FaultyDriver, jobs: ShopJobs) -> None:
    async with streaming(Dashboard(jobs, allow_anonymous=True)) as stream:
        await until(lambda: driver.calls["overview"] > 0)
        await jobs.clean_up.enqueue()
        assert await stream.event() == "event: change\ndata:\n\n"


async def test_a_stream_says_that_the_store_is_unreachable_and_that_it_is_back(
    driver: FaultyDriver, jobs: ShopJobs
) -> None:
    async with streaming(Dashboard(jobs, allow_anonymous=True)) as stream:
        await until(lambda: driver.calls["overview"] > 0)
        driver.fail("overview", times=1)
        await stream.event()
        await stream.event()


async def test_the_stream_of_a_job_sends_its_changes_and_a_later_requeue(
    driver: FaultyDriver, jobs: ShopJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_live, "TICK_EVERY", 0.02)
    await jobs.clean_up.options(id="job").enqueue()
    async with streaming(Dashboard(jobs, allow_anonymous=True), "job=job") as stream:
        await until(lambda: driver.calls["watch"] > 0)
        await jobs.control.cancel("job")
        await stream.event()
        await jobs.control.requeue("job")
        await stream.event()


async def test_a_page_is_loaded_again_without_a_change_because_it_shows_ages(
    jobs: ShopJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_live, "TICK_EVERY", 0.01)
    async with streaming(Dashboard(jobs, allow_anonymous=True)) as stream:
        await stream.event()
        await stream.event()


async def test_fifty_pages_read_the_store_as_often_as_one(
    driver: FaultyDriver, jobs: ShopJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_site, "KEPT_SECONDS", 30.0)
    dashboard = Dashboard(jobs, allow_anonymous=True)
    async with AsyncExitStack() as stack:
        for _ in range(50):
            await stack.enter_async_context(streaming(dashboard))
        await asyncio.sleep(0.05)
    assert driver.calls["overview"] == 1


async def test_too_many_streams_are_refused_for_now(jobs: ShopJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_live, "MOST_STREAMS", 1)
    dashboard = Dashboard(jobs, allow_anonymous=True)
    async with streaming(dashboard):
        second = Stream(dashboard)
        await soon(second.run())
        assert second.status == 503
    async with streaming(dashboard):
        pass


async def test_streams_that_are_opened_together_are_counted_before_they_begin(
    jobs: ShopJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_live, "MOST_STREAMS", 5)
    dashboard = Dashboard(jobs, allow_anonymous=True)
    streams = [Stream(dashboard) for _ in range(20)]
    async with asyncio.TaskGroup() as group:
        for stream in streams:
            group.create_task(stream.run())
        await until(lambda: all(stream.status for stream in streams))
        for stream in streams:
            stream.close()
    assert Counter(stream.status for stream in streams) == {200: 5, 503: 15}
    async with streaming(dashboard):
        pass


async def test_a_stream_that_cannot_be_sent_is_not_counted_for_ever(
    jobs: ShopJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_live, "MOST_STREAMS", 1)
    dashboard = Dashboard(jobs, allow_anonymous=True)
    with pytest.raises((OSError, ExceptionGroup)):  # early releases of Starlette raise a group
        await soon(BrokenStream(dashboard).run())
    async with streaming(dashboard):
        pass


async def test_a_stream_ends_when_the_server_stops(jobs: ShopJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    stops: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(_live, "server_stops", lambda: stops)
    stream = Stream(Dashboard(jobs, allow_anonymous=True))
    async with asyncio.TaskGroup() as group:
        running = group.create_task(stream.run())
        await soon(stream.parts.get())
        stops.set_result(None)
        await soon(running)
