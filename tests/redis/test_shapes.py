"""Shapes, which many records share: each record keeps its own, and those that no record has any more are gone."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from flowli_core import DriverError, RunCounts
from flowli_core.drivers.redis import RedisDriver
from flowli_core.drivers.redis._connections import Connections
from flowli_core.drivers.redis._packing import DIGEST, shape_of
from flowli_core.durations import ZERO
from flowli_core.stored import StoredSchedule
from tests.conformance.builders import Worker, ids, record
from tests.conformance.drivers import count_objects
from tests.redis.server import shared_url
from tests.support.running import Work
from tests.support.store import find_schedule, put, read_page


def tick(queue: str) -> StoredSchedule:
    return StoredSchedule(key="s", queue=queue, spec=b"{}", next_tick=datetime.now(UTC))


def same_digest(_: bytes) -> bytes:
    return b"x" * DIGEST


async def test_a_shape_with_the_digest_of_another_is_refused(
    driver: RedisDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the job would run as another."""
    for place in ("_packing", "_scripts"):
        monkeypatch.setattr(f"flowli_core.drivers.redis.{place}.digest_of", same_digest)
    await driver.enqueue([record("a", name="cheap", queue="same")])
    with pytest.raises(DriverError, match="have the same digest as other stored ones") as caught:
        await driver.enqueue([record("b", name="pay", queue="same")])
    assert caught.value.ids == ("b",)
    with pytest.raises(DriverError, match="have the same digest"):
        await put(driver, tick("same"), [record("c", name="pay", queue="same")])
    assert await find_schedule(driver, "s") is None
    held = await Worker(driver, queues=("same",)).take(5)
    assert [(one.id, one.name) for one in held] == [("a", "cheap")]


@pytest.mark.parametrize("damaged", [b"junk", b"0 0 0 0 q\nanother\n{}"])
async def test_a_damaged_shape_is_repaired_by_the_next_call_with_it(
    driver: RedisDriver, foreign: Any, prefix: str, damaged: bytes
) -> None:
    """The call has the right text. It is known to be right by its digest."""
    await driver.enqueue([record("a")])
    for name in ("b", "c"):
        foreign.hset(f"{{{prefix}}}:1:shape", shape_of(record())[0], damaged)
        if name == "b":
            assert (await driver.enqueue([record("b")]))[0].disposition == "accepted"
        else:
            assert await put(driver, tick("q"), [record("c")])
    held = await Worker(driver).take(5)
    assert [(one.id, one.name) for one in held] == [("a", "send_email"), ("b", "send_email"), ("c", "send_email")]


async def test_a_record_whose_shape_was_changed_does_not_run_as_another_job(foreign: Any, prefix: str) -> None:
    """The name that its shape has now is that of another job. The record fails, and the other job does not run."""
    ran: list[int] = []

    async def act(number: int) -> None:
        ran.append(number)

    maker, runner = (Work(RedisDriver.from_url(shared_url(), prefix=prefix)) for _ in range(2))
    runner.deeds.act = act
    await maker.jobs.toil.enqueue(1)
    key = f"{{{prefix}}}:1:shape"
    ((digest, text),) = foreign.hgetall(key).items()
    foreign.hset(key, digest, text.replace(b"\ntoil\n", b"\nact\n"))
    assert await runner.run() == RunCounts(failed=1)
    assert not ran
    await maker.jobs.aclose()
    await runner.jobs.aclose()


async def test_a_listing_leaves_out_records_that_are_removed_while_it_is_read(
    driver: RedisDriver, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their shapes are read after them, and are gone by then."""
    await driver.enqueue([record("stays"), record("goes", policy=b"another")])
    execute = Connections.execute

    async def remove_first(self: Connections, *words: Any) -> Any:
        if words[0] == "HMGET":
            await driver.cancel("goes")
            await asyncio.sleep(0.002)
            assert await driver.purge("cancelled", older_than=ZERO, limit=5) == 1
        return await execute(self, *words)

    monkeypatch.setattr(Connections, "execute", remove_first)
    other = RedisDriver.from_url(shared_url(), prefix=prefix)
    await other.open()
    assert ids(await read_page(other, "queued", limit=5)) == ["stays"]
    await other.close()


async def test_a_process_does_not_remember_every_shape(driver: RedisDriver) -> None:
    """Callers choose limits and queues, so there is no end of shapes."""
    sizes: list[int] = []
    for batch in range(12):
        await driver.enqueue([record(policy=b"%d" % (250 * batch + number)) for number in range(250)])
        sizes.append(count_objects(driver))
    assert max(sizes[6:]) <= max(sizes[:6])


async def test_nothing_is_left_of_a_queue_whose_record_was_set_aside(
    driver: RedisDriver, foreign: Any, prefix: str
) -> None:
    """Its shape was missing, so it was counted in the queue whose index held it."""
    await driver.enqueue([record("a")])
    foreign.hdel(f"{{{prefix}}}:1:shape", shape_of(record())[0])
    assert [one.id for one in (await Worker(driver).step(want=1)).damaged] == ["a"]
    await asyncio.sleep(0.002)
    assert await driver.purge("failed", older_than=ZERO, limit=5) == 1
    for name in ("uses", "counts", "queues"):
        assert not foreign.exists(f"{{{prefix}}}:1:{name}")
