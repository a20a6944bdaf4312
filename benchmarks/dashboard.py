"""Measure what a dashboard costs: with a million jobs in Redis, and fifty people who watch it while a worker drains.

    python -m benchmarks.dashboard [--records 1000000] [--viewers 50] [--jobs 30000] [--rounds 4]

It prints the server's time for each page, the longest command of Redis by its slow log, and the jobs drained per second
with and without viewers, in turn. The viewers run at a low priority, as if they had machines of their own. Compare the
ratio: times vary between machines. With two cores or less, the worker, Redis and the web server compete for them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import multiprocessing
import os
import statistics
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import uvicorn
from redis.asyncio import Redis

from flowli_core import Runner, job
from flowli_core.dashboard import Dashboard
from flowli_core.drivers.redis import RedisDriver

from .bench.peers.child import COUNTER, STANDARD, payload
from .bench.peers.flowli_peer import BenchJobs, Email, delay_many
from .bench.server import started

EMAIL = Email(**payload(STANDARD))

PORT = 8651
ADDRESS = f"http://127.0.0.1:{PORT}"
PAGES = ("/", "/jobs?state=failed", "/jobs?state=failed&error=ValueError", "/jobs?state=scheduled", "/workers")
FAILED = 5_000
LOAD_TIMES = 30
LOW_PRIORITY = 10
SLOW_MICROSECONDS = 500

Times = dict[str, list[float]]
"""Milliseconds for each page, by its address."""


@job(int)
async def fail(input: int) -> None:
    """Fail."""
    raise ValueError(f"there is no address {input}")


class PageJobs(BenchJobs):
    """A registry with jobs that fail."""

    fail = fail


def registry(url: str) -> PageJobs:
    """Make the registry, with a connection of its own."""
    return PageJobs(context=COUNTER, driver=RedisDriver.from_url(url, prefix="bench"))


def serve(url: str) -> None:
    """Serve the dashboard, and `/times` with the times of its pages since the last request for them."""
    times: Times = defaultdict(list)
    streams = 0
    dashboard = Dashboard(registry(url), allow_anonymous=True, show_payloads=True)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal streams
        if scope["path"] == "/times":
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": json.dumps([streams, times]).encode()})
            times.clear()
        elif scope["path"] == "/events":
            streams += 1
            await dashboard(scope, receive, send)
            streams -= 1
        else:
            start = time.perf_counter()
            await dashboard(scope, receive, send)
            query = scope["query_string"].decode()
            times[scope["path"] + (f"?{query}" if query else "")].append((time.perf_counter() - start) * 1000)

    uvicorn.run(app, port=PORT, lifespan="off", ws="none", log_level="warning")


async def watch(page: str) -> None:
    """Watch a page as a browser does: load it again at each event."""
    async with httpx2.AsyncClient(base_url=ADDRESS, timeout=60, trust_env=False) as client:
        await client.get(page)
        async with client.stream("GET", "/events") as events:
            async for line in events.aiter_lines():
                if line.startswith("event: change"):
                    (await client.get(page)).raise_for_status()


def view(viewers: int) -> None:
    """Watch the pages, each as often as the others, until the process is ended."""
    os.nice(LOW_PRIORITY)

    async def watch_all() -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(viewers):
                tasks.create_task(watch(PAGES[number % len(PAGES)]))

    asyncio.run(watch_all())


@asynccontextmanager
async def process(target: Callable[..., None], *arguments: object) -> AsyncGenerator[None]:
    """Run a function in a process of its own, and end it afterwards."""
    started = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    started.start()
    try:
        yield
    finally:
        started.terminate()
        await asyncio.to_thread(started.join)


async def read_times() -> tuple[int, Times]:
    """Return the number of open streams, and the times of the pages since the last call."""
    async with httpx2.AsyncClient(base_url=ADDRESS, timeout=60, trust_env=False) as client:
        streams, times = (await client.get("/times")).json()
        return streams, times


async def until_watched(viewers: int) -> None:
    """Wait until the server serves so many viewers."""
    while True:
        with contextlib.suppress(httpx2.TransportError):
            if (await read_times())[0] == viewers:
                return
        await asyncio.sleep(0.2)


async def load_pages() -> Times:
    """Load each page alone, and return the times. Pages are not loaded more often than their reads are kept."""
    async with httpx2.AsyncClient(base_url=ADDRESS, timeout=60, trust_env=False) as client:
        for _ in range(LOAD_TIMES):
            for page in PAGES:
                (await client.get(page)).raise_for_status()
            await asyncio.sleep(0.5)
    return (await read_times())[1]


def show_times(title: str, times: Times) -> None:
    """Print the times of the pages."""
    for page in PAGES:
        if found := sorted(times.get(page, ())):
            middle, longest = statistics.median(found), found[-1]
            print(f"{title}, {page}: median {middle:.1f} ms, longest {longest:.1f} ms, {len(found)} loads")


@dataclass(frozen=True)
class Drained:
    """The jobs that a runner drained per second, and the seconds of CPU that Redis used meanwhile."""

    rate: float
    seconds: float
    cpu: float


async def drain(url: str, count: int) -> Drained:
    """Drain jobs with one runner."""
    async with registry(url) as jobs:
        await jobs.send_email.enqueue_many([EMAIL.model_copy() for _ in range(count)])
        start, used = time.perf_counter(), await cpu_seconds(url)
        await Runner(jobs, concurrency=100).run_once()
        seconds = time.perf_counter() - start
        return Drained(count / seconds, seconds, await cpu_seconds(url) - used)


async def cpu_seconds(url: str) -> float:
    """Return the seconds of CPU that Redis has used."""
    client: Any = Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]
    found = await client.info("cpu")
    await client.aclose()
    return float(found["used_cpu_user"] + found["used_cpu_sys"])


async def fill(url: str, records: int) -> None:
    """Store failed jobs, and others that are due tomorrow."""
    client: Any = Redis.from_url(url, socket_timeout=60)  # pyright: ignore[reportUnknownMemberType]
    async with registry(url) as jobs:
        await jobs.send_email.enqueue(EMAIL)
        await delay_many(jobs, records - FAILED)
        await jobs.fail.enqueue_many(range(FAILED))
        await Runner(jobs, concurrency=100).run_once()
    await client.slowlog_reset()
    await client.config_set("slowlog-log-slower-than", SLOW_MICROSECONDS)
    await client.aclose()


async def slowest(url: str) -> str:
    """Return the longest command since the last call."""
    client: Any = Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]
    entries = await client.slowlog_get(1_000)
    await client.slowlog_reset()
    await client.aclose()
    if not entries:
        return f"no command took {SLOW_MICROSECONDS / 1000} ms"
    longest = max(entries, key=lambda entry: entry["duration"])
    return f"the longest command took {longest['duration'] / 1000:.1f} ms: {longest['command'][:90]!r}"


async def measure(url: str, given: argparse.Namespace) -> None:
    """Measure the pages alone, then the rounds of drains."""
    await fill(url, given.records)
    async with process(serve, url):
        await until_watched(0)
        show_times("each page alone", await load_pages())
        print(f"  {await slowest(url)}")
        rounds: list[tuple[Drained, Drained]] = []
        for number in range(given.rounds):
            found: dict[int, Drained] = {}
            for viewers in (0, given.viewers) if number % 2 else (given.viewers, 0):
                async with process(view, viewers):
                    await until_watched(viewers)
                    await slowest(url)
                    found[viewers] = drained = await drain(url, given.jobs)
                    print(f"{viewers} viewers: {drained.rate:,.0f} jobs/s; {await slowest(url)}")
                    show_times("  while a worker drains", (await read_times())[1] if viewers else {})
                await until_watched(0)
            rounds.append((found[given.viewers], found[0]))
    rates = [watched.rate / alone.rate for watched, alone in rounds]
    shares = [(watched.cpu - alone.cpu) / watched.seconds for watched, alone in rounds]
    print(f"drain with viewers / without: {statistics.median(rates):.3f}, rounds {[round(one, 3) for one in rates]}")
    print(f"CPU of Redis for them: {statistics.median(shares):.1%}, rounds {[round(one, 3) for one in shares]}")


def main() -> None:
    """Run the rounds on a server of this run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--viewers", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=4)
    given = parser.parse_args()
    logging.getLogger("flowli").setLevel(logging.CRITICAL)
    with started() as server:
        asyncio.run(measure(server.url, given))


if __name__ == "__main__":
    main()
