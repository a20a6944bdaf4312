"""How long a job waits for an idle runner, beside a hand-written loop of blocking pops: one each 20 ms.

From right before the call that adds it to the first line of what it calls. Once with the caller and the worker in a
process each, as with `flowli worker`, and once with both on one event loop, as embedded in an application. The bare
loop keeps nothing: what it popped is lost if it dies.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import multiprocessing
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from redis.asyncio import Redis

from flowli_core import Jobs, Runner, job
from flowli_core.drivers.redis import RedisDriver

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

PICKUPS = 200
BREAK = 0.02
PREFIX = "pickup"

Times = list[float]
"""Seconds, one for each pickup."""

Consume = Callable[[str], Coroutine[Any, Any, Times]]
Produce = Callable[[str], Awaitable[None]]


class Sent(BaseModel):
    """When it was sent, by the clock that all processes of a machine share."""

    at: float


@dataclass
class Watch:
    """What the worker writes down, until it has all."""

    times: Times = field(default_factory=list[float])
    is_full: asyncio.Event = field(default_factory=asyncio.Event)


@job(Sent)
async def note(input: Sent, ctx: Watch) -> None:
    """Say how long it took to get here."""
    ctx.times.append(time.perf_counter() - input.at)
    if len(ctx.times) == PICKUPS:
        ctx.is_full.set()


class Notes(Jobs[Watch]):
    """One job."""

    note = note


def fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Use uvloop's where it is installed."""
    if importlib.util.find_spec("uvloop") is None:
        return None
    make: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    return make


async def measure(url: str) -> dict[str, tuple[Times, Times]]:
    """Ours and the bare loop's, sorted, in both settings."""
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
    await asyncio.to_thread(ours.recv)  # it is about to begin
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
