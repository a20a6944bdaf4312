"""The phases that measure one program. Each begins with an empty store, and returns its figures by row."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from .processes import PATIENCE, PeerError, Process, run
from .server import Server
from .subjects import BARE_LOOP, LOOP, OURS, Subject

Figures = dict[str, float]
"""A figure for each row that a program has."""

WARM = 50
SETTLE = 0.3
POLL = 0.05
PAUSE = 0.02


@dataclass(frozen=True)
class Sizes:
    """The numbers of jobs, and seconds. `divide` makes the number of jobs smaller for slow programs."""

    jobs: int = 40_000
    one: int = 2_000
    flight: int = 5_000
    pickups: int = 200
    idle: float = 20
    delayed: int = 1_000_000
    divide: int = 8

    def of(self, subject: Subject) -> Sizes:
        """Return the numbers for a program."""
        if not subject.slow:
            return self
        return replace(self, jobs=self.jobs // self.divide, one=self.one // 2, flight=self.flight // 2)


QUICK = Sizes(jobs=20_000, one=500, flight=2_000, pickups=50, idle=5, delayed=100_000, divide=10)
TINY = Sizes(jobs=400, one=20, flight=100, pickups=5, idle=0.2, delayed=300, divide=1)


async def throughput(server: Server, subject: Subject, sizes: Sizes) -> Figures:
    """Measure the ways to enqueue, the memory of queued jobs, and a drain of all of them by one process."""
    server.clear()
    empty = server.memory()
    found: Figures = {}
    async with run(subject, server.url) as producer:
        await producer.ask("enqueue", how="one", count=WARM)
        stored = WARM
        for how, count in (("one", sizes.one), ("flight", sizes.flight), ("many", sizes.jobs)):
            before = server.cpu()
            answer = await producer.ask("enqueue", how=how, count=count)
            if answer["seconds"] is not None:
                stored += count
                found[how] = count / answer["seconds"]
                found[f"{how} server us"] = (server.cpu() - before) / count * 1e6
                found[f"{how} client us"] = answer["cpu"] / count * 1e6
        if "many" not in found:
            await producer.ask("enqueue", how="flight" if "flight" in found else "one", count=sizes.jobs)
            stored += sizes.jobs
    # The buffers of clients that have left do not count.
    server.wait_until_left()
    found["bytes"] = (server.memory() - empty) / stored
    return found | await drain(server, subject, stored, workers=1)


async def pair(server: Server, subject: Subject, sizes: Sizes) -> Figures:
    """Measure a drain by two processes."""
    server.clear()
    count = sizes.jobs
    await _fill(server, subject, count)
    return {"drain by two": (await drain(server, subject, count, workers=2))["drain"]}


async def pickup(server: Server, subject: Subject, sizes: Sizes) -> Figures:
    """Measure the time from the call that enqueues to the first line of the handler, in another process that waits."""
    server.clear()
    async with run(subject, server.url) as producer, run(subject, server.url) as worker:
        await worker.ask("work")
        await producer.ask("pickups", count=3, pause=0.3)
        await _until([worker], 3)
        await producer.ask("pickups", count=sizes.pickups, pause=PAUSE)
        await _until([worker], sizes.pickups + 3)
        times = sorted((await worker.ask("times"))["times"][3:])
    return {"p50": percentile(times, 50) * 1000, "p99": percentile(times, 99) * 1000}


def percentile(ordered: list[float], percent: int) -> float:
    """Return a value of an ordered list that `percent` of its values are not greater than."""
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


async def idle(server: Server, subject: Subject, sizes: Sizes) -> Figures:
    """Count the commands that a worker sends in each second while there is nothing to do."""
    server.clear()
    async with run(subject, server.url) as worker:
        async with run(subject, server.url) as producer:
            await worker.ask("work")
            await producer.ask("enqueue", how="one", count=10)
            await _until([worker], 10)
        await asyncio.sleep(min(2, sizes.idle))
        sent = await asyncio.to_thread(server.received, sizes.idle)
        await worker.ask("count")
    return {"idle": sent / sizes.idle}


async def above_delayed(server: Server, subject: Subject, sizes: Sizes) -> Figures:
    """Measure a drain above jobs that are due in a day, beside a drain above none."""
    found: Figures = {}
    for delayed in (0, sizes.delayed):
        server.clear()
        async with run(subject, server.url) as producer:
            await producer.ask("delay", count=delayed)
            await producer.ask("enqueue", how="many", count=sizes.jobs)
        drained = await drain(server, subject, sizes.jobs, workers=1)
        found[f"drain above {'delayed' if delayed else 'none'}"] = drained["drain"]
        found[f"server us above {'delayed' if delayed else 'none'}"] = drained["server us"]
    return found


async def _fill(server: Server, subject: Subject, count: int) -> None:
    async with run(subject, server.url) as producer:
        for how in ("many", "flight", "one"):
            if (await producer.ask("enqueue", how=how, count=count))["seconds"] is not None:
                return


async def drain(server: Server, subject: Subject, expected: int, *, workers: int) -> Figures:
    """Measure a drain of stored jobs by one or two workers."""
    async with run(subject, server.url) as first:
        if workers == 1:
            return await _drain_by(server, [first], expected)
        async with run(subject, server.url) as second:
            return await _drain_by(server, [first, second], expected)


async def _drain_by(server: Server, workers: list[Process], expected: int) -> Figures:
    idle_cpu = await _cpu(workers)
    before = server.cpu()
    await asyncio.gather(*[worker.ask("work") for worker in workers])
    await _until(workers, expected)
    await asyncio.sleep(SETTLE)
    used = server.cpu() - before
    counts = await asyncio.gather(*[worker.ask("count") for worker in workers])
    ran = sum(count["ran"] for count in counts)
    if ran != expected:
        raise PeerError(f"{expected} jobs were stored, and {ran} were run")
    busy = [count for count in counts if count["ran"]]
    seconds = max(count["last"] for count in busy) - min(count["first"] for count in busy)
    return {
        "drain": expected / seconds,
        "server us": used / expected * 1e6,
        "worker us": (sum(count["cpu"] for count in counts) - idle_cpu) / expected * 1e6,
    }


async def _cpu(workers: list[Process]) -> float:
    seconds: list[float] = [(await worker.ask("count"))["cpu"] for worker in workers]
    return sum(seconds)


async def _until(workers: list[Process], expected: int) -> None:
    last, end = 0, time.monotonic() + PATIENCE
    while True:
        counts = await asyncio.gather(*[worker.ask("count") for worker in workers])
        ran: int = sum(count["ran"] for count in counts)
        if ran >= expected:
            return
        if ran > last:
            last, end = ran, time.monotonic() + PATIENCE
        if time.monotonic() > end:
            raise PeerError(f"{ran} of {expected} jobs were run, and none within {PATIENCE} s")
        await asyncio.sleep(POLL)


Phase = Callable[[Server, Subject, Sizes], Awaitable[Figures]]


def phases_of(subject: Subject, *, is_first: bool, quick: bool = False) -> list[Phase]:
    """Return the phases of a program. The idle worker and the delayed jobs are measured in the first round only."""
    if subject.only_pickup:
        return [pickup]
    found: list[Phase] = [throughput]
    is_short = quick and subject.slow
    if not is_short:
        found.append(pair)
    if subject.name not in {LOOP, BARE_LOOP}:
        found.append(pickup)
        if is_first and not is_short:
            found.append(idle)
    if is_first and subject.name == OURS:
        found.append(above_delayed)
    return found
