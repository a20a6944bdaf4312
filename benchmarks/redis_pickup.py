"""Measure how long a job waits for an idle runner, beside a hand-written loop of blocking pops.

A job is enqueued every 20 ms. The time runs from just before the call that enqueues it to the first line of its
handler: once with the caller and the worker in separate processes, as with `flowli worker`, and once with both on one
event loop, as with an embedded runner. The bare loop stores nothing: a job that it popped is lost if it dies.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import multiprocessing
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from pydantic import BaseModel
from redis.asyncio import Redis

from flowli_core import Jobs, Runner, job
from flowli_core.drivers.redis import RedisDriver

PICKUPS = 200
BREAK = 0.02
PREFIX = "pickup"

Times = list[float]
"""Seconds, one for each pickup."""

Consume = Callable[[str], Coroutine[Any, Any, Times]]
Produce = Callable[[str], Awaitable[None]]


class Sent(BaseModel):
    """The time of the call, by the clock that all processes of a machine share."""

    at: float


@dataclass
class Watch:
    """The times that the worker has measured. `is_full` is set after the last one."""

    times: Times = field(default_factory=list[float])
    is_full: asyncio.Event = field(default_factory=asyncio.Event)


@job(Sent)
async def note(input: Sent, ctx: Watch) -> None:
    """Store the time since the call."""
    ctx.times.append(time.perf_counter() - input.at)
    if len(ctx.times) == PICKUPS:
        ctx.is_full.set()


class Notes(Jobs[Watch]):
    """One job."""

    note = note


def fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's loop factory if uvloop is installed, otherwise None."""
    if importlib.util.find_spec("uvloop") is None:
        return None
    make: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    return make


async def measure(url: str) -> dict[str, tuple[Times, Times]]:
    """Return Flowli's times and the bare loop's, sorted, for both settings."""
    found: dict[str, tuple[Times, Times]] = {}
    for setting, run in (("other process", _beside_a_process), ("same process", _beside_a_task)):
        ours, bare = await run(url, _consume, _produce), await run(url, _consume_bare, _produce_bare)
        found[setting] = sorted(ours), sorted(bare)
    return found


async def _beside_a_process(url: str, consume: Consume, produce: Produce) -> Times:
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    process = context.Process(target=_work, args=(url, consume, its))
    process.start()
    await asyncio.to_thread(ours.recv)  # the worker is about to start
    await asyncio.sleep(0.5)
    await produce(url)
    times: Times = await asyncio.to_thread(ours.recv)
    process.join()
    return times


async def _beside_a_task(url: str, consume: Consume, produce: Produce) -> Times:
    consumer = asyncio.create_task(consume(url))
    await asyncio.sleep(0.5)
    await produce(url)
    times: Times = await consumer
    return times


def _work(url: str, consume: Consume, pipe: Connection) -> None:
    with asyncio.Runner(loop_factory=fast_loop()) as runner:
        pipe.send(None)
        pipe.send(runner.run(consume(url)))


async def _consume(url: str) -> Times:
    watch = Watch()
    jobs = Notes(context=watch, driver=RedisDriver.from_url(url, prefix=PREFIX))
    async with jobs, Runner(jobs):
        await watch.is_full.wait()
    return watch.times


async def _produce(url: str) -> None:
    async with Notes(context=Watch(), driver=RedisDriver.from_url(url, prefix=PREFIX)) as jobs:
        for _ in range(PICKUPS):
            await asyncio.sleep(BREAK)
            await jobs.note.enqueue(at=time.perf_counter())


async def _consume_bare(url: str) -> Times:
    times: Times = []
    client: Any = Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]
    for _ in range(PICKUPS):
        _, member, _ = await client.bzpopmin("bare", 60)
        times.append(time.perf_counter() - float(member))
    await client.aclose()
    return times


async def _produce_bare(url: str) -> None:
    client: Any = Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]
    for _ in range(PICKUPS):
        await asyncio.sleep(BREAK)
        await client.zadd("bare", {repr(time.perf_counter()): 0})
    await client.aclose()
