"""Measure how many no-op jobs per second one runner drains from memory and from SQLite, beside an ideal loop.

    python benchmarks/drain.py [--jobs 50000] [--concurrency 100] [--rounds 3]

The ideal loop stores nothing: it validates an input, creates a task and awaits a handler that does nothing. Rates vary
between machines and over time, so compare the ratios to the ideal loop of the same round.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from flowli_core import Driver, Jobs, Runner, job
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.drivers.sqlite import SqliteDriver


class Email(BaseModel):
    """A payload of four strings, about a hundred bytes of JSON."""

    to: str
    subject: str
    template: str
    locale: str


@job(Email)
async def send_email(input: Email) -> None:
    """Do nothing."""
    del input


class BenchJobs(Jobs[None]):
    """One job."""

    send_email = send_email


EMAIL = Email(to="someone@example.com", subject="Welcome aboard", template="welcome-2026", locale="en-GB")


async def ideal(count: int, concurrency: int) -> dict[str, float]:
    """Validate and await, `concurrency` tasks at a time, without a store."""
    adapter = TypeAdapter(Email)
    wire = adapter.dump_json(EMAIL)

    async def one() -> None:
        await asyncio.sleep(0)
        adapter.validate_json(wire)

    start = time.perf_counter()
    for _ in range(count // concurrency):
        await asyncio.gather(*(asyncio.create_task(one()) for _ in range(concurrency)))
    return {"ideal loop": count / (time.perf_counter() - start)}


async def flowli(name: str, driver: Driver, count: int, concurrency: int) -> dict[str, float]:
    """Enqueue with enqueue_many, then drain with one runner."""
    emails = [EMAIL.model_copy() for _ in range(count)]
    async with BenchJobs(context=None, driver=driver) as jobs:
        start = time.perf_counter()
        await jobs.send_email.enqueue_many(emails)
        enqueued = time.perf_counter()
        counts = await Runner(jobs, concurrency=concurrency).run_once()
        drained = time.perf_counter()
    assert counts.completed == count, counts
    return {
        f"{name} enqueue_many": count / (enqueued - start),
        f"{name} drain": count / (drained - enqueued),
        f"{name} enqueue_many and drain": count / (drained - start),
    }


def main() -> None:
    """Run the rounds, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=50_000)
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    rates: dict[str, list[float]] = {}
    ratios: dict[str, list[float]] = {}
    for _ in range(given.rounds):
        with tempfile.TemporaryDirectory() as folder:
            runs: list[Callable[[], Awaitable[dict[str, float]]]] = [
                lambda: ideal(given.jobs, given.concurrency),
                lambda: flowli("memory", MemoryDriver(), given.jobs, given.concurrency),
                lambda: flowli(
                    "sqlite",
                    SqliteDriver(Path(folder) / "jobs.sqlite3"),
                    given.jobs // 5,
                    given.concurrency,
                ),
            ]
            round_rates: dict[str, float] = {}
            for run in runs:
                round_rates |= asyncio.run(_awaited(run))
        for name, rate in round_rates.items():
            rates.setdefault(name, []).append(rate)
            ratios.setdefault(name, []).append(rate / round_rates["ideal loop"])
    print(f"{'no-op jobs, one process':34} {'jobs/s':>10} {'of ideal':>9}   (medians of {given.rounds} rounds)")
    for name, values in rates.items():
        print(f"{name:34} {statistics.median(values):10,.0f} {statistics.median(ratios[name]):9.3f}")


async def _awaited(run: Callable[[], Awaitable[dict[str, float]]]) -> dict[str, float]:
    return await run()


if __name__ == "__main__":
    main()
