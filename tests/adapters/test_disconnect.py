"""Some servers cancel a request whose client disconnects, at whatever await it has reached."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from flowli_core.drivers.redis import RedisDriver
from flowli_core.drivers.sqlite import SqliteDriver
from flowli_core.stored import STATES
from flowli_starlette import JobsMiddleware, get_jobs
from tests.adapters.apps import EventJobs, Events
from tests.redis.server import clean_up, fresh_prefix, shared_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.requests import Request

    from flowli_core.driver import Driver

TURNS = 25
"""The most iterations of the event loop after which a request is cancelled. An enqueue takes fewer."""


async def enqueue(request: Request) -> PlainTextResponse:
    jobs = get_jobs(request, EventJobs)
    return PlainTextResponse((await jobs.double.enqueue(request.path_params["number"])).id)


async def send_request(app: Starlette, number: int) -> str:
    """Call the application as a server does, and return the body of the response."""
    body = bytearray()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        body.extend(message.get("body", b""))

    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": f"/{number}", "headers": [], "query_string": b""}
    await app(scope, receive, send)
    return body.decode()


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Check that no test leaves a key that would stay for ever."""
    yield
    clean_up()


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
async def test_a_cancelled_request_stores_at_most_one_job_and_leaves_the_connection_usable(
    kind: str, tmp_path: Path
) -> None:
    driver: Driver = (
        SqliteDriver(tmp_path / "jobs.sqlite3")
        if kind == "sqlite"
        else RedisDriver.from_url(shared_url(), prefix=fresh_prefix())
    )
    jobs = EventJobs(context=Events(), driver=driver)
    app = Starlette(
        routes=[Route("/{number:int}", enqueue, methods=["POST"])], middleware=[Middleware(JobsMiddleware, jobs=jobs)]
    )
    cancelled = 0
    async with jobs:
        for turns in range(TURNS):
            left = asyncio.create_task(send_request(app, turns))
            beside = asyncio.create_task(send_request(app, 1000 + turns))  # may be sent to the store in the same call
            for _ in range(turns):
                await asyncio.sleep(0)
            left.cancel()
            done, _ = await asyncio.wait((left,))
            cancelled += next(iter(done)).cancelled()
            for task, number in (
                (beside, 1000 + turns),
                (asyncio.create_task(send_request(app, 2000 + turns)), 2000 + turns),
            ):
                record = await jobs.inspect.get_job(await task)
                assert record is not None
                assert record.input == number
        pages = [await jobs.inspect.find(state, limit=1000) for state in STATES]
    found = Counter(record.input for page in pages for record in page.items)
    assert set(found.values()) == {1}
    assert len(found) >= 2 * TURNS
    assert cancelled > 0
