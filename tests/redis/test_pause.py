"""Paused queues in Redis: other processes see them, and damaged entries pause nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core.drivers.redis import RedisDriver
from flowli_core.errors import DriverError
from flowli_core.limits import MOST_PAUSED
from tests.conformance.builders import Worker, ids, record
from tests.redis.server import Server, connect, shared_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def other(prefix: str) -> AsyncIterator[RedisDriver]:
    made = RedisDriver.from_url(shared_url(), prefix=prefix)
    await made.open()
    yield made
    await made.close()


async def test_another_driver_sees_a_pause_at_its_next_step(driver: RedisDriver, other: RedisDriver) -> None:
    """Pauses are in the store, and so is their end."""
    worker = Worker(other)
    await driver.enqueue([record("a")])
    await driver.pause_queue("q", paused=True)
    assert await worker.take() == ()
    await driver.pause_queue("q", paused=False)
    assert ids(await worker.take()) == ["a"]


async def test_queues_are_paused_and_resumed_when_memory_is_full(server: Server) -> None:
    """An operator who wants to stop work can do so even then."""
    full = RedisDriver.from_url(server.url)
    await full.open()
    await full.enqueue([record("a")])
    admin: Any = connect(server.url)
    admin.config_set("maxmemory", 1)
    worker = Worker(full)
    assert await full.pause_queue("q", paused=True)
    assert await worker.take() == ()
    assert await full.pause_queue("q", paused=False)
    assert ids(await worker.take()) == ["a"]
    admin.close()
    await full.close()


async def test_a_pause_outlives_a_restart_of_the_server() -> None:
    """It is saved with the records."""
    with Server("--dbfilename", "dump.rdb") as server:
        driver = RedisDriver.from_url(server.url)
        await driver.open()
        await driver.enqueue([record("a")])
        await driver.pause_queue("q", paused=True)
        admin: Any = connect(server.url)
        admin.save()
        admin.close()
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        worker = Worker(driver)
        assert await worker.take() == ()
        assert await driver.pause_queue("q", paused=False)
        assert ids(await worker.take()) == ["a"]
        await driver.close()


DAMAGED = {
    "no entry": "junk",
    "no time": "\nq\n",
    "a time that is no number": "\nq soon\n",
    "a time that is too late": f"\nq {10**14}\n",
    "a time that is no time at all": f"\nq {'9' * 400}\n",
    "another word before it": "\nthe q 1700000000000\n",
    "bytes": b"\n\xff\xfe 12\n",
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED.keys())
async def test_a_damaged_entry_pauses_nothing_and_is_dropped(
    driver: RedisDriver, prefix: str, foreign: Any, text: str | bytes
) -> None:
    """The sound entry beside it still pauses its queue. The next change writes only sound entries."""
    serial = f"{{{prefix}}}:1:serial"
    await driver.enqueue([record("a"), record(queue="sound")])
    await driver.pause_queue("sound", paused=True)
    sound = foreign.hget(serial, "paused")
    damaged = text.encode() if isinstance(text, str) else text
    foreign.hset(serial, "paused", damaged + sound)
    worker = Worker(driver, queues=("sound", "q"))
    assert ids(await worker.take(5)) == ["a"]
    overview = await driver.overview()
    assert "sound" in overview.paused
    assert "q" not in overview.paused
    assert await driver.pause_queue("q", paused=True)
    assert set((await driver.overview()).paused) == {"sound", "q"}
    assert foreign.hget(serial, "paused").startswith(sound)


async def test_too_many_paused_queues_are_refused(driver: RedisDriver, prefix: str, foreign: Any) -> None:
    """Each of them is still paused, and can be resumed."""
    lines = [f"queue-{number} 1700000000000\n" for number in range(MOST_PAUSED)]
    foreign.hset(f"{{{prefix}}}:1:serial", "paused", "\n" + "".join(lines))
    with pytest.raises(DriverError, match="1,000 queues are paused already"):
        await driver.pause_queue("one-more", paused=True)
    assert not await driver.pause_queue("queue-0", paused=True)
    assert await driver.pause_queue("queue-500", paused=False)
    assert await driver.pause_queue("one-more", paused=True)
    assert len((await driver.overview()).paused) == MOST_PAUSED
