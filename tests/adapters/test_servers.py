"""Real servers with an embedded runner: stopped under load, with a runner that crashes, without their store."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections import Counter
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core import JobRecord, Jobs
from flowli_core.drivers.redis import RedisDriver
from flowli_core.drivers.sqlite import SqliteDriver
from flowli_core.stored import STATES
from tests.adapters.servers import FRAMEWORKS, PATIENCE, SERVERS, Framework, Server, ServerName, serving
from tests.redis.server import Server as RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal that stops a process")

QUICK: list[tuple[ServerName, Framework, str]] = [
    ("uvicorn", "fastapi", "redis"),
    ("uvicorn-2", "starlette", "sqlite"),
    ("granian", "litestar", "redis"),
    ("hypercorn", "fastapi", "sqlite"),
]
ALL: list[tuple[ServerName, Framework, str]] = list(product(SERVERS, FRAMEWORKS, ("sqlite", "redis")))


def quick(*names: tuple[ServerName, Framework, str]) -> list[Any]:
    return [pytest.param(*one, id="-".join(one)) for one in names]


def slow(names: Iterable[tuple[ServerName, Framework, str]]) -> list[Any]:
    return [pytest.param(*one, id="-".join(["all", *one]), marks=pytest.mark.faults) for one in names]


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A Redis server that keeps its data when it crashes."""
    with RedisServer("--appendonly", "yes") as server:
        yield server


@pytest.fixture
def redis_url(store: str, request: pytest.FixtureRequest) -> str | None:
    """The URL of the Redis server, or None if the test uses SQLite."""
    if store != "redis":
        return None
    server: RedisServer = request.getfixturevalue("redis_server")
    return server.url


async def stored(folder: Path, redis_url: str | None) -> list[JobRecord]:
    """Return all jobs in the store."""
    driver = (
        SqliteDriver(folder / "jobs.sqlite3") if redis_url is None else RedisDriver.from_url(redis_url, prefix="served")
    )
    found: list[JobRecord] = []
    async with Jobs(context=None, driver=driver) as jobs:
        for state in STATES:
            cursor: str | None = None
            while True:
                page = await jobs.inspect.find(state, limit=1000, cursor=cursor)
                found += page.items
                cursor = page.cursor
                if cursor is None:
                    break
    return found


async def until_done(read: Callable[[], Any], count: int) -> list[JobRecord]:
    """Read the store until it has this many completed jobs and no other, and return them.

    A job that completes during a read is found twice: as active, and as completed.
    """
    async with asyncio.timeout(PATIENCE):
        while True:
            found: list[JobRecord] = await read()
            if [job.state for job in found] == ["completed"] * count:
                return found
            await asyncio.sleep(0.05)


async def stop_under_load(
    name: ServerName, framework: Framework, folder: Path, redis_url: str | None, *, requests: int
) -> None:
    """Send requests, stop the server while they arrive, and let the next server finish the jobs."""
    accepted: set[int] = set()
    is_half = asyncio.Event()

    def on_accepted(number: int) -> None:
        accepted.add(number)
        if len(accepted) >= requests // 2:
            is_half.set()

    async with serving(name, framework, folder, redis=redis_url) as first:
        sending = asyncio.create_task(first.send(range(requests), on_accepted=on_accepted))
        async with asyncio.timeout(PATIENCE):
            await is_half.wait()
        await first.stop()
        await sending
    between = await stored(folder, redis_url)
    assert accepted <= {job.input for job in between}, "every accepted job is stored"
    assert {job.state for job in between} <= {"completed", "queued"}, "unfinished jobs are back in the queue at once"
    waiting = [job for job in between if job.state == "queued"]
    assert waiting, "the slow jobs were running"
    assert {(job.attempts_made, job.recoveries) for job in waiting} == {(0, 0)}

    (folder / "go").touch()
    async with serving(name, framework, folder, redis=redis_url) as second:
        # A client without a response sends again; the id makes it one job.
        await second.send((number for number in range(requests) if number not in accepted), on_accepted=accepted.add)
        assert len(accepted) == requests
        done = await until_done(lambda: stored(folder, redis_url), requests)
        await second.stop()
    assert sorted(str(job.input) for job in done) == sorted(map(str, range(requests)))
    assert Counter((job.attempts_made, job.failure_count, job.recoveries) for job in done) == {(1, 0, 0): requests}


@pytest.mark.parametrize(("name", "framework", "store"), quick(*QUICK))
async def test_a_server_that_is_stopped_under_load_loses_no_job(
    name: ServerName, framework: Framework, redis_url: str | None, tmp_path: Path
) -> None:
    await stop_under_load(name, framework, tmp_path, redis_url, requests=150)


@pytest.mark.parametrize(("name", "framework", "store"), slow(ALL))
async def test_a_stop_under_a_thousand_requests_loses_no_job(
    name: ServerName, framework: Framework, redis_url: str | None, tmp_path: Path
) -> None:
    await stop_under_load(name, framework, tmp_path, redis_url, requests=1_000)


async def crash_repeatedly(server: Server, folder: Path, read: Callable[[], Any]) -> None:
    """Crash the runner again and again while requests arrive."""
    accepted: list[int] = []
    restarts: Any = (await server.until_health(200))["restarts"]
    for crash in range(1, 4):
        await server.client.post("/crash")
        await server.send(range(crash * 100 + 1, crash * 100 + 40), on_accepted=accepted.append)
        assert (await server.client.get("/ping")).is_success
        await server.until_health(503)
        (folder / "broken").unlink()
        before, restarts = restarts, (await server.until_health(200))["restarts"]
        assert restarts > before
    assert len(accepted) == 3 * 39
    done = await until_done(read, len(accepted))
    assert {(job.attempts_made, job.recoveries) for job in done} <= {(1, 0), (1, 1)}


@pytest.mark.parametrize(
    ("name", "framework", "store"),
    [
        *quick(("uvicorn", "litestar", "redis")),
        *slow(one for one in ALL if one[0] != "uvicorn-2"),
    ],
)
async def test_a_runner_that_crashes_is_restarted_and_requests_go_on(
    name: ServerName, framework: Framework, redis_url: str | None, tmp_path: Path
) -> None:
    async with serving(name, framework, tmp_path, redis=redis_url) as server:
        await crash_repeatedly(server, tmp_path, lambda: stored(tmp_path, redis_url))
        await server.stop()


async def stop_redis(server: Server, redis_server: RedisServer, *, seconds: float) -> list[int]:
    """Stop Redis, check the responses in the meantime, and start it again. Return the accepted numbers."""
    accepted: list[int] = []
    await server.send(range(1, 40), on_accepted=accepted.append)
    redis_server.kill()
    # No response waits for Redis, which starts again only afterwards.
    responses = await asyncio.gather(*(server.client.post(f"/work/{number}") for number in range(101, 110)))
    assert {(response.status_code, response.headers.get("Retry-After")) for response in responses} == {(503, "1")}
    assert (await server.client.get("/ping")).is_success
    await server.until_health(503)
    await asyncio.sleep(seconds)
    assert (await server.client.get("/ping")).is_success
    redis_server.start()
    await server.until_health(200)
    await server.send(range(201, 240), on_accepted=accepted.append)
    return accepted


@pytest.mark.parametrize(
    ("name", "framework", "seconds"),
    [
        pytest.param("uvicorn", "starlette", 0, id="uvicorn-starlette"),
        *(
            pytest.param(name, framework, 5, id=f"{name}-{framework}-5s", marks=pytest.mark.faults)
            for name, framework in product(SERVERS, FRAMEWORKS)
            if name != "uvicorn-2"  # each of its workers has a health of its own
        ),
    ],
)
async def test_a_server_reports_an_unreachable_store_and_recovers_by_itself(
    name: ServerName, framework: Framework, seconds: float, redis_server: RedisServer, tmp_path: Path
) -> None:
    async with serving(name, framework, tmp_path, redis=redis_server.url) as server:
        accepted = await stop_redis(server, redis_server, seconds=seconds)
        assert len(accepted) == 2 * 39
        done = await until_done(lambda: stored(tmp_path, redis_server.url), len(accepted))
        assert {job.input for job in done if job.state == "completed"} == set(accepted)
        await server.stop()


def send_and_disconnect(port: int, number: int) -> None:
    """Send a request, and reset the connection at once."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(f"POST /anonymous/{number} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".encode())


@pytest.mark.parametrize(
    ("name", "framework", "store"),
    [
        *quick(("hypercorn", "starlette", "redis")),
        *slow(ALL),
    ],
)
async def test_a_client_that_disconnects_stores_at_most_one_job(
    name: ServerName, framework: Framework, redis_url: str | None, tmp_path: Path
) -> None:
    numbers = range(1, 49)
    async with serving(name, framework, tmp_path, redis=redis_url) as server:
        port = server.client.base_url.port
        assert port is not None
        for number in numbers:
            await asyncio.to_thread(send_and_disconnect, port, number)
            # The next request, on a connection to the store that a cancelled one used, gets its own response.
            assert (await server.client.post(f"/work/{1000 + number}")).text.strip('"') == f"job-{1000 + number}"
        found = await stored(tmp_path, redis_url)
        await server.stop()
    by_input = Counter(job.input for job in found)
    assert set(by_input.values()) == {1}
    assert {1000 + number for number in numbers} <= set(by_input)
    assert set(by_input) <= {*numbers, *(1000 + number for number in numbers)}
