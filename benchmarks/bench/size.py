"""The cost of a job while much else is stored: records, queues and lanes.

Each setting has a store of its own. A batch of a hundred records is enqueued, reserved and settled, many times, on
the store of each setting in turn, so a busy machine slows all of them alike. The cost is the CPU of the server for
Redis, and that of this process for the stores without one.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from flowli_core.driver import Ack, Completed, Driver, Step
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.drivers.redis import RedisDriver
from flowli_core.drivers.sqlite import SqliteDriver
from flowli_core.lanes import MOST_CONCURRENCY, Lane
from flowli_core.new_records import NewRecord

from . import plot
from .peers.child import STANDARD, payload
from .server import Server

BATCH = 100
FILL = 500
LEASE = timedelta(minutes=10)
INPUT = str(payload(STANDARD)).replace("'", '"').encode()
PHASES = ("enqueue", "reserve", "settle")
EXPLANATION = """\
Microseconds of CPU for each job, to enqueue, to reserve and to settle it in batches of a hundred, while as many other
records wait: those of the server for Redis, and those of the process for memory and SQLite. The worker reads one queue;
the others hold as many records as it, up to the number of records. Each lane has a concurrency that is not used up."""


@dataclass(frozen=True)
class Setting:
    """The records, queues and lanes that are stored beside."""

    records: int
    queues: int = 1
    lanes: int = 0

    @property
    def label(self) -> str:
        """A few words for it."""
        lanes = f"{self.lanes:,}" if self.lanes else "no"
        return f"{self.queues:,} queue{'s' * (self.queues > 1)}, {lanes} lane{'s' * (self.lanes != 1)}"

    def record(self, number: int, prefix: str) -> NewRecord:
        """Return a record in its queue and its lane."""
        lane = Lane("domain", str(number % self.lanes), concurrency=MOST_CONCURRENCY) if self.lanes else None
        queue = f"queue-{number % self.queues}"
        return NewRecord(id=f"{prefix}{number:031}", name="work", queue=queue, input=INPUT, lane=lane)


def settings(counts: Sequence[int]) -> list[Setting]:
    """Return each number of records with one queue and a thousand, and with no lane, one, and up to 100,000."""
    found: list[Setting] = []
    for records in counts:
        found += [Setting(records), Setting(records, queues=1_000)]
        found += [Setting(records, lanes=1), Setting(records, lanes=min(records, 100_000))]
    return found


class Worker:
    """A worker that reserves a batch and settles it."""

    def __init__(self, driver: Driver, setting: Setting, read_cpu: Callable[[], float]) -> None:
        self._driver = driver
        self._setting = setting
        self._read_cpu = read_cpu
        self._sequence = 0
        self._made = 0

    async def fill(self) -> None:
        """Store the records."""
        for first in range(0, self._setting.records, FILL):
            last = min(first + FILL, self._setting.records)
            await self._driver.enqueue([self._setting.record(number, "a") for number in range(first, last)])

    async def measure(self) -> list[float]:
        """Enqueue, reserve and settle a batch, and return the seconds of CPU of each for a record."""
        # The new records go to the queue that the worker reads, so that it never runs out of them.
        numbers = [(self._made + one) * self._setting.queues for one in range(BATCH)]
        records = [self._setting.record(number, "b") for number in numbers]
        self._made += BATCH
        began = self._read_cpu()
        await self._driver.enqueue(records)
        enqueued = self._read_cpu()
        answer = await self._step(want=BATCH)
        reserved = self._read_cpu()
        assert len(answer.reserved) == BATCH
        await self._step(acks=tuple([Ack(one.id, one.token, Completed(b"null")) for one in answer.reserved]))
        settled = self._read_cpu()
        return [(enqueued - began) / BATCH, (reserved - enqueued) / BATCH, (settled - reserved) / BATCH]

    async def _step(self, *, want: int = 0, acks: tuple[Ack, ...] = ()) -> Any:
        self._sequence += 1
        step = Step(worker="worker", sequence=self._sequence, queues=("queue-0",), want=want, lease=LEASE, acks=acks)
        return await self._driver.step(step)


async def _compare(
    drivers: dict[Setting, Driver], read_cpu: Callable[[], float], *, batches: int
) -> dict[Setting, list[float]]:
    workers = {setting: Worker(driver, setting, read_cpu) for setting, driver in drivers.items()}
    times: dict[Setting, list[list[float]]] = {setting: [] for setting in drivers}
    for setting, driver in drivers.items():
        await driver.open()
        await workers[setting].fill()
    for _ in range(batches + 1):
        for setting in random.sample(list(drivers), len(drivers)):
            times[setting].append(await workers[setting].measure())
    for driver in drivers.values():
        await driver.close()
    return {
        setting: [statistics.median([one[phase] for one in found[1:]]) * 1e6 for phase in range(len(PHASES))]
        for setting, found in times.items()
    }


async def measure(server: Server, *, counts: Sequence[int], batches: int) -> list[dict[str, Any]]:
    """Return the costs of each setting on each store. Settings of one size are compared at a time, to bound memory."""
    lines: list[dict[str, Any]] = []
    for store in ("redis", "sqlite", "memory"):
        for records in counts:
            server.clear()
            with tempfile.TemporaryDirectory() as folder:
                drivers = {
                    setting: _driver(store, number, Path(folder), server)
                    for number, setting in enumerate(settings([records]))
                }
                read_cpu = server.cpu if store == "redis" else time.process_time
                costs = await _compare(drivers, read_cpu, batches=batches)
            lines += [
                {
                    "store": store,
                    "records": records,
                    "label": setting.label,
                    **dict(zip(PHASES, cost, strict=True)),
                }
                for setting, cost in costs.items()
            ]
    return lines


def _driver(store: str, number: int, folder: Path, server: Server) -> Driver:
    if store == "memory":
        return MemoryDriver()
    if store == "sqlite":
        return SqliteDriver(folder / f"{number}.sqlite3")
    return RedisDriver.from_url(server.url, prefix=f"size-{number}")


def markdown(lines: Sequence[dict[str, Any]]) -> str:
    """Return the table of costs."""
    head = ["store", "records", "setting", *PHASES]
    rows = [
        [line["store"], f"{line['records']:,}", line["label"], *[f"{line[phase]:.1f}" for phase in PHASES]]
        for line in lines
    ]
    return "\n".join(["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]])


def picture(lines: Sequence[dict[str, Any]]) -> str:
    """Return the plot of costs: a chart for each store, a line for each kind of setting."""
    charts: list[plot.Chart] = []
    kinds = ("1 queue, no lanes", "1,000 queues, no lanes", "1 queue, 1 lane", "1 queue, many lanes")
    for store in dict.fromkeys(line["store"] for line in lines):
        points: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
        for line in lines:
            if line["store"] == store:
                kind = line["label"] if line["label"] in points else kinds[-1]
                points[kind].append((line["records"], sum(line[phase] for phase in PHASES)))
        curves = [plot.Curve(kind, found) for kind, found in points.items() if found]
        charts.append(plot.Chart(f"{store}: us of CPU for each job, by records stored", curves))
    return plot.lines(charts)
