"""Measure what a job costs, and simulate how many jobs a second many workers drain from one prefix.

    python -m benchmarks.scaling [--jobs 40000] [--output docs/explanation/scaling-figures.md]

It drains jobs that do nothing, by one worker with few slots and by one with many. The steps of the two differ in size,
so their CPU times give the cost of a step and that of a job, for the server and for the worker. The simulation then
takes these costs for any number of workers: see `Simulation`. It is checked against drains that it was not made from.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import datetime as dt
import heapq
import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from .bench import phases
from .bench.peers.flowli_peer import CONCURRENCY_VARIABLE
from .bench.processes import run
from .bench.server import Server, started
from .bench.subjects import OURS, SUBJECTS

WORKERS = (1, 2, 4, 10, 30, 100)
DURATIONS = (0.0, 0.001, 0.01, 0.1)
FEW_SLOTS, MANY_SLOTS = 10, 100
CHECKED_SLOTS = (20, 50, 200)
NEW_LINE = "\n"
LINE = 0.0001
"""Seconds that a message takes between a worker and the server in the simulation."""

MIN_BATCH = 25
"""A step asks for half of the slots, and for at least this many: see `_running/run.py`."""


@dataclass(frozen=True)
class Costs:
    """Seconds of CPU for each step, and for each job that is reserved, run and settled."""

    server_step: float
    server_job: float
    worker_step: float
    worker_job: float


@dataclass(frozen=True)
class Drained:
    """The figures of a measured drain: jobs a second, the number of steps, and seconds of CPU for all jobs."""

    jobs: int
    rate: float
    steps: int
    server: float
    worker: float


@dataclass
class Worker:
    """A simulated worker. `answers` and `ended` are what its event loop has not come to yet."""

    free: int
    is_stepping: bool = False
    is_busy: bool = False
    acks: int = 0
    answers: deque[int] = dataclasses.field(default_factory=deque[int])


@dataclass(frozen=True)
class Simulated:
    """Jobs a second of all workers, and the part of the time in which the server was busy."""

    rate: float
    busy: float


class Simulation:
    """Workers that drain a queue which never gets empty.

    The server does one step after the other, in the order in which they arrive. A worker has one step in flight at a
    time, which carries the outcomes so far, and asks for half of its slots. It sends the next one before it runs what
    the last one brought. Each worker and the server have a core of their own. A job waits for `duration` seconds, and
    needs no CPU meanwhile.
    """

    def __init__(self, costs: Costs, *, workers: int, slots: int, duration: float) -> None:
        self._costs = costs
        self._duration = duration
        self._batch = max((slots + 1) // 2, MIN_BATCH)
        self._workers = [Worker(free=slots) for _ in range(workers)]
        self._events: list[tuple[float, int, str, int, int]] = []
        self._added = 0
        self._now = self._server_free = self._server_busy = 0.0
        self._done = 0

    def run(self, jobs: int) -> Simulated:
        """Run until so many jobs are settled."""
        for which in range(len(self._workers)):
            self._add(which * self._costs.server_step, "begun", which)
        while self._done < jobs:
            self._now, _, what, which, count = heapq.heappop(self._events)
            worker = self._workers[which]
            if what == "answered":
                worker.is_stepping = False
                worker.answers.append(count)
            elif what == "ended":
                worker.acks += count
                worker.free += count
            elif what == "idle":
                worker.is_busy = False
            self._go_on(which, worker)
        return Simulated(rate=self._done / self._now, busy=min(self._server_busy / self._now, 1.0))

    def _add(self, at: float, what: str, which: int, count: int = 0) -> None:
        self._added += 1
        heapq.heappush(self._events, (at, self._added, what, which, count))

    def _go_on(self, which: int, worker: Worker) -> None:
        """Let the event loop of a worker send what it can, then run the next batch."""
        self._send(which, worker)
        if worker.answers and not worker.is_busy:
            count = worker.answers.popleft()
            worker.is_busy = True
            ends = self._now + self._costs.worker_step + self._costs.worker_job * count
            self._add(ends, "idle", which)
            self._add(ends + self._duration, "ended", which, count)

    def _send(self, which: int, worker: Worker) -> None:
        want = min(worker.free, self._batch)
        if worker.is_stepping or not (want or worker.acks):
            return
        # To reserve a job and to settle it are taken to cost the same.
        took = self._costs.server_step + self._costs.server_job * (want + worker.acks) / 2
        self._server_free = max(self._server_free, self._now + LINE) + took
        self._server_busy += took
        self._done += worker.acks
        worker.is_stepping, worker.free, worker.acks = True, worker.free - want, 0
        self._add(self._server_free + LINE, "answered", which, want)


def simulate(costs: Costs, *, workers: int, slots: int, duration: float, jobs: int = 60_000) -> Simulated:
    """Simulate workers that drain a queue which never gets empty: see `Simulation`."""
    return Simulation(costs, workers=workers, slots=slots, duration=duration).run(jobs)


def costs_of(few: Drained, many: Drained) -> Costs:
    """Return the costs of a step and of a job that explain two drains."""

    def solve(of_few: float, of_many: float) -> tuple[float, float]:
        step = (of_few * many.jobs - of_many * few.jobs) / (few.steps * many.jobs - many.steps * few.jobs)
        return max(step, 0.0), (of_many - max(step, 0.0) * many.steps) / many.jobs

    server_step, server_job = solve(few.server, many.server)
    worker_step, worker_job = solve(few.worker, many.worker)
    return Costs(server_step, server_job, worker_step, worker_job)


async def measure(server: Server, *, slots: int, jobs: int) -> Drained:
    """Measure a drain by one worker."""
    ours = next(subject for subject in SUBJECTS if subject.name == OURS)
    server.clear()
    os.environ[CONCURRENCY_VARIABLE] = str(slots)
    async with run(ours, server.url) as producer:
        await producer.ask("enqueue", how="many", count=jobs)
    server.wait_until_left()
    before = server.calls("evalsha")
    found = await phases.drain(server, ours, jobs, workers=1)
    steps = server.calls("evalsha") - before
    return Drained(jobs, found["drain"], steps, found["server us"] * jobs / 1e6, found["worker us"] * jobs / 1e6)


async def measure_enqueues(server: Server, *, jobs: int) -> phases.Figures:
    """Measure the server's time for an enqueue in each way."""
    ours = next(subject for subject in SUBJECTS if subject.name == OURS)
    found = await phases.throughput(server, ours, phases.Sizes(jobs=jobs, one=jobs // 20, flight=jobs // 4))
    return {how: found[f"{how} server us"] for how in ("one", "flight", "many")}


def markdown(costs: Costs, enqueues: phases.Figures, checked: dict[int, Drained], about: str) -> str:
    """Return the tables of the page. `checked` are measured drains, by the number of slots."""
    server_step, server_job, worker_step, worker_job = [seconds * 1e6 for seconds in dataclasses.astuple(costs)]
    compared = [
        f"| {slots} | {measured.rate:,.0f} | {simulate(costs, workers=1, slots=slots, duration=0).rate:,.0f} |"
        for slots, measured in checked.items()
    ]
    return f"""\
Measured: {about}

| what | server, us | worker, us |
| --- | --- | --- |
| a step | {server_step:.0f} | {worker_step:.0f} |
| a job that is reserved, run and settled, without its part of the steps | {server_job:.1f} | {worker_job:.1f} |
| an enqueue, one after the other | {enqueues["one"]:.1f} | |
| an enqueue, 100 in flight | {enqueues["flight"]:.1f} | |
| an enqueue, many in a call | {enqueues["many"]:.1f} | |

The costs come from drains by one worker with {FEW_SLOTS} and with {MANY_SLOTS} slots. For others, the simulation is
beside what was measured:

| slots of one worker | jobs a second, measured | simulated |
| --- | --- | --- |
{NEW_LINE.join(compared)}

Simulated: jobs a second of all workers, each with {MANY_SLOTS} slots and a core of its own, and how busy the core of
the server is:

| workers | {" | ".join(map(_named, DURATIONS))} |
| --- |{" --- |" * len(DURATIONS)}
{NEW_LINE.join(_row(costs, workers) for workers in WORKERS)}
"""


def _row(costs: Costs, workers: int) -> str:
    found = [simulate(costs, workers=workers, slots=MANY_SLOTS, duration=duration) for duration in DURATIONS]
    return f"| {workers} | " + " | ".join(f"{one.rate:,.0f} ({one.busy:.0%})" for one in found) + " |"


def _named(duration: float) -> str:
    return f"jobs that wait {duration * 1000:g} ms" if duration else "jobs that do nothing"


async def main() -> None:
    """Measure, simulate, and write the tables."""
    parser = argparse.ArgumentParser(description="Measure what a job costs, and simulate many workers.")
    parser.add_argument("--jobs", type=int, default=40_000)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    with started() as server:
        enqueues = await measure_enqueues(server, jobs=given.jobs)
        few = await measure(server, slots=FEW_SLOTS, jobs=given.jobs // 4)
        many = await measure(server, slots=MANY_SLOTS, jobs=given.jobs)
        checked = {slots: await measure(server, slots=slots, jobs=given.jobs) for slots in CHECKED_SLOTS}
        about = f"on {dt.datetime.now(dt.UTC):%Y-%m-%d}, with {server.version()}."
    text = markdown(costs_of(few, many), enqueues, checked, about)
    print(text)
    if given.output is not None:
        given.output.write_text(text)


if __name__ == "__main__":
    asyncio.run(main())
