"""Compare reserving and settling records of one lane, of as many lanes as records, and of no lane, on each store.

    python lanes.py [--records 100000] [--steps 200] [--stores memory sqlite redis]

Each step settles the batch of the step before and reserves another one. The steps of the three kinds take turns, so a
busy machine slows all of them alike. It prints the medians of the CPU times for each record, and the ratios: the time
of the server for Redis, and that of this process for the others.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

from redis import Redis
from redis_driver import started

from flowli_core.driver import Ack, Completed, Driver, Step
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.drivers.redis import RedisDriver
from flowli_core.drivers.sqlite import SqliteDriver
from flowli_core.lanes import MOST_CONCURRENCY, Lane
from flowli_core.new_records import NewRecord

BATCH = 100
LEASE = timedelta(minutes=10)
KINDS: dict[str, Callable[[int], Lane | None]] = {
    "no lane": lambda _: None,
    "one lane": lambda _: Lane("domain", "one", concurrency=MOST_CONCURRENCY),
    "a lane each": lambda number: Lane("domain", str(number), concurrency=2),
}


class Worker:
    """A worker that settles a batch and reserves the next one in each step."""

    def __init__(self, driver: Driver, read_cpu: Callable[[], float]) -> None:
        self._driver = driver
        self._read_cpu = read_cpu
        self._acks: tuple[Ack, ...] = ()
        self._sequence = 0

    async def step(self) -> float:
        """Make a step, and return the seconds of CPU that it took for each record."""
        self._sequence += 1
        step = Step(
            worker="worker", sequence=self._sequence, queues=("default",), want=BATCH, lease=LEASE, acks=self._acks
        )
        began = self._read_cpu()
        answer = await self._driver.step(step)
        took = self._read_cpu() - began
        assert len(answer.reserved) == BATCH
        self._acks = tuple([Ack(record.id, record.token, Completed(b"null")) for record in answer.reserved])
        return took / BATCH


async def fill(driver: Driver, records: int, lane_of: Callable[[int], Lane | None]) -> None:
    """Enqueue records, each in its lane."""
    for first in range(0, records, 500):
        await driver.enqueue(
            [
                NewRecord(id=f"{number:032}", name="work", queue="default", input=b"{}", lane=lane_of(number))
                for number in range(first, min(first + 500, records))
            ]
        )


async def compare(
    drivers: dict[str, Driver], read_cpu: Callable[[], float], *, records: int, steps: int
) -> dict[str, float]:
    """Return the microseconds for each record of each kind."""
    for kind, driver in drivers.items():
        await driver.open()
        await fill(driver, records, KINDS[kind])
    workers = {kind: Worker(driver, read_cpu) for kind, driver in drivers.items()}
    times: dict[str, list[float]] = {kind: [] for kind in drivers}
    for _ in range(steps):
        for kind in random.sample(list(KINDS), len(KINDS)):
            times[kind].append(await workers[kind].step())
    for driver in drivers.values():
        await driver.close()
    return {kind: statistics.median(found[1:]) * 1e6 for kind, found in times.items()}


def make_drivers(store: str, folder: Path, url: str) -> dict[str, Driver]:
    """Make a driver of a store of its own for each kind."""
    if store == "memory":
        return {kind: MemoryDriver() for kind in KINDS}
    if store == "sqlite":
        return {kind: SqliteDriver(folder / f"{number}.db") for number, kind in enumerate(KINDS)}
    return {kind: RedisDriver.from_url(url, prefix=f"bench-{number}") for number, kind in enumerate(KINDS)}


def server_cpu(url: str) -> Callable[[], float]:
    """Return a function that returns the seconds of CPU that a server has used."""
    client: Any = Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]

    def read() -> float:
        used: dict[str, float] = client.info("cpu")
        return used["used_cpu_user"] + used["used_cpu_sys"]

    return read


def main() -> None:
    """Read the arguments, and show the times of each store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--stores", nargs="+", default=["memory", "sqlite", "redis"])
    options = parser.parse_args()
    for store in options.stores:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            url = stack.enter_context(started()) if store == "redis" else ""
            drivers = make_drivers(store, folder, url)
            read_cpu = server_cpu(url) if url else time.process_time
            found = asyncio.run(compare(drivers, read_cpu, records=options.records, steps=options.steps))
        shown = ", ".join([f"{kind} {micros:.1f} us" for kind, micros in found.items()])
        ratios = [found["one lane"] / found["no lane"], found["a lane each"] / found["one lane"]]
        print(f"{store}: {shown}; one lane / no lane {ratios[0]:.2f}, a lane each / one lane {ratios[1]:.2f}")


if __name__ == "__main__":
    main()
