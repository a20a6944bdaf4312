"""Checks each command that reaches the server, by MONITOR, those inside scripts too."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from flowli_core import Runner
from flowli_core.driver import Retried
from flowli_core.drivers.redis import RedisDriver
from flowli_core.stored import FINISHED, STATES
from tests.conformance.builders import BROKEN, DONE, LEASE, Worker, ack, everything, lease_of, record
from tests.redis.server import Server, connect
from tests.support.running import Work, running
from tests.support.store import cancel_one, find, requeue_one

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from flowli_core.driver import Outcome

ROOT = "{flowli}:1:"
NO_KEYS = {"TIME", "INFO", "HELLO", "CLIENT", "SCRIPT", "PING", "MONITOR", "SELECT", "AUTH", "EVALSHA"}
LIMITED = {"ZRANGEBYSCORE", "ZREVRANGEBYSCORE"}
SCANS = {"HSCAN", "ZSCAN", "SSCAN"}
FORBIDDEN = {"KEYS", "EVAL", "SCAN", "LRANGE", "SORT", "FLUSHALL", "FLUSHDB", "HKEYS", "HVALS", "ZUNION", "SUNION"}
WHOLE = {("HGETALL", "counts"), ("SMEMBERS", "queues"), ("ZRANGEBYSCORE", "workers"), ("ZRANGE", "lease")}
"""Reads of a whole key: it grows with the number of queues, workers or slots, never with that of jobs."""


@asynccontextmanager
async def watched(server: Server) -> AsyncGenerator[list[list[str]]]:
    """Collect the commands that the server gets."""
    seen: list[list[str]] = []
    client = connect(server.url)
    monitor: Any = client.monitor()
    monitor.__enter__()

    def listen() -> None:
        while (words := _words(monitor.next_command()["command"])) != ["PING", "enough"]:
            seen.append(words)

    listening = asyncio.create_task(asyncio.to_thread(listen))
    try:
        yield seen
    finally:
        other = connect(server.url)
        other.execute_command("PING", "enough")
        other.close()
        await listening
        monitor.__exit__(None, None, None)
        client.close()


def _words(command: str) -> list[str]:
    words = command.split(" ")
    return [words[0].upper(), *words[1:]]


def fault_of(words: list[str]) -> str | None:
    """Return what is wrong with a command, or None."""
    if words[0] in FORBIDDEN:
        return "must never be used"
    return None if words[0] in NO_KEYS else fault_about_keys(*words)


def fault_about_keys(name: str, *rest: str) -> str | None:
    """Return what is wrong with the keys of a command, or with how much it reads of them."""
    keys = rest[:-1] if name == "BZPOPMIN" else rest[:1]
    if not all(key.startswith(ROOT) for key in keys):
        return "uses a key outside of the prefix"
    column = keys[0].removeprefix(ROOT)
    if (name, column) in WHOLE or column == "scratch":
        return None
    reads_to_end = name == "ZRANGE" and rest[2].startswith("-") and not rest[1].startswith("-")
    if name in {"HGETALL", "SMEMBERS"} or reads_to_end:
        return "reads all of a key that grows"
    needed = "LIMIT" if name in LIMITED else "COUNT" if name in SCANS else None
    return f"has no {needed}" if needed and needed not in rest else None


async def test_no_command_is_unbounded_or_leaves_the_prefix(server: Server) -> None:
    """The operations of the contract, an audit and a runner use no KEYS or EVAL, and read no growing key whole."""
    async with watched(server) as seen:
        driver = RedisDriver.from_url(server.url)
        await driver.open()
        await _do_everything(driver)
        work = Work(driver)
        async with running(Runner(work.jobs)):
            for record_id in await work.add(*range(20)):
                await work.until(record_id, "completed")
            later = await work.jobs.act.delay("20ms", 1)
            await work.until(later.id, "completed")
        await driver.close()
    names = {words[0] for words in seen}
    assert {"EVALSHA", "BZPOPMIN", "ZADD", "HSET", "HSCAN", "ZREM"} <= names, "MONITOR did not show the commands"
    faults = {f"{' '.join(words[:6])} {fault}" for words in seen if (fault := fault_of(words)) is not None}
    assert faults == set()


async def _do_everything(driver: RedisDriver) -> None:
    worker = Worker(driver)
    await driver.enqueue([record(f"r{number}", key=f"k{number}") for number in range(10)])
    await driver.enqueue([record("suspect", max_recoveries=0), record("later", due=LEASE)])
    held = await worker.take(8)
    await driver.heartbeat("w", [lease_of(one) for one in held], LEASE)
    await cancel_one(driver, held[0].id)
    outcomes: list[Outcome] = [DONE, BROKEN, Retried(LEASE, b"{}"), DONE]
    await worker.step(*[ack(one, outcome) for one, outcome in zip(held, outcomes, strict=False)], want=1)
    await worker.again()
    assert await worker.take(2, lease=timedelta(milliseconds=1))
    while not (await worker.step()).recovered:
        pass
    for one in ("later", held[1].id, "nobody"):
        await requeue_one(driver, one)
        await find(driver, one)
    for state in STATES:
        await everything(driver, state, limit=3)
    for finished in FINISHED:
        await driver.purge(finished, older_than=timedelta(0), limit=3)
    await driver.overview()
    await driver.overview()
    assert await driver.fsck() == ()
