"""Flowli on the stores without a server, memory and SQLite, beside a loop that has no store."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from flowli_core import Driver, Runner
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.drivers.sqlite import SqliteDriver

from .peers.child import STANDARD, Counter, payload
from .peers.flowli_peer import BenchJobs, Email
from .phases import Figures, Sizes

CONCURRENCY = 100


async def _without(count: int) -> Figures:
    wire = Email(**payload(STANDARD)).model_dump_json()

    async def one() -> None:
        await asyncio.sleep(0)
        Email.model_validate_json(wire)

    start = time.perf_counter()
    for _ in range(count // CONCURRENCY):
        await asyncio.gather(*[asyncio.create_task(one()) for _ in range(CONCURRENCY)])
    return {"drain": count / (time.perf_counter() - start)}


async def _on(driver: Driver, sizes: Sizes) -> Figures:
    jobs = BenchJobs(context=Counter(), driver=driver)
    async with jobs:
        emails = [Email(**payload(STANDARD)) for _ in range(sizes.jobs)]
        began = time.perf_counter()
        for _ in range(sizes.one):
            await jobs.send_email.enqueue(emails[0])
        between = time.perf_counter()
        await jobs.send_email.enqueue_many(emails)
        stored = time.perf_counter()
        counts = await Runner(jobs, concurrency=CONCURRENCY).run_once()
        drained = time.perf_counter()
    expected = sizes.one + sizes.jobs
    assert counts.completed == expected, counts
    return {
        "one": sizes.one / (between - began),
        "many": sizes.jobs / (stored - between),
        "drain": expected / (drained - stored),
    }


@asynccontextmanager
async def _sqlite() -> AsyncGenerator[SqliteDriver]:
    with tempfile.TemporaryDirectory() as folder:
        yield SqliteDriver(Path(folder) / "jobs.sqlite3")


async def measure(sizes: Sizes) -> dict[str, Figures]:
    """Return the figures of one round."""
    async with _sqlite() as sqlite:
        runs: dict[str, Callable[[], Awaitable[Figures]]] = {
            "no store": lambda: _without(sizes.jobs),
            "memory": lambda: _on(MemoryDriver(), sizes),
            "SQLite": lambda: _on(sqlite, sizes),
        }
        return {name: await run() for name, run in runs.items()}
