"""Shapes, which many records share: each record keeps its own, and those that no record has any more are gone."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core import DriverError, RunCounts
from flowli_core.drivers.redis import RedisDriver
from flowli_core.drivers.redis._connections import Connections
from flowli_core.drivers.redis._packing import DIGEST, shape_of
from flowli_core.drivers.redis._scripts import Scripts
from flowli_core.durations import ZERO
from flowli_core.stored import StoredSchedule
from tests.conformance.builders import Worker, ack, fresh_id, ids, record
from tests.conformance.drivers import count_objects
from tests.redis.server import shared_url
from tests.support.running import Work
from tests.support.store import cancel_one, find_schedule, put, read_page, requeue_one

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


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


def uses_of(foreign: Any, prefix: str) -> tuple[str, bytes]:
    """Return the key of the numbers of records with a shape, and the digest of the only one."""
    (digest,) = foreign.hkeys(f"{{{prefix}}}:1:shape")
    return f"{{{prefix}}}:1:uses", digest


async def remove_finished(driver: RedisDriver, worker: Worker, most: int) -> int:
    """Complete some records and remove all that are finished. Return how many were completed."""
    held = await worker.take(most)
    await worker.step(*[ack(one) for one in held])
    await driver.purge("completed", older_than=timedelta(milliseconds=-1), limit=100)
    return len(held)


async def add_one(driver: RedisDriver) -> None:
    await driver.enqueue([record()])


async def remove_one(driver: RedisDriver) -> None:
    assert await remove_finished(driver, Worker(driver, fresh_id()), 1) == 1


WRONG = (
    "",
    "0",
    "1",
    "-1",
    "junk",
    "1.5",
    "0x10",
    "7 ",
    "007",
    "9" * 30,
    "999",
    "1000003",
    "5271844",
    "527184",
    "5271843 ",
)


@pytest.mark.parametrize("number", [None, *WRONG])
async def test_a_wrong_number_of_records_with_a_shape_takes_it_from_none_of_them(
    driver: RedisDriver, foreign: Any, prefix: str, number: str | None
) -> None:
    """The shape is kept, also by records that are stored and removed later. fsck corrects the number."""
    await driver.enqueue([record(f"a{number}") for number in range(5)])
    key, digest = uses_of(foreign, prefix)
    if number is None:
        foreign.hdel(key, digest)
    else:
        foreign.hset(key, digest, number)
    worker = Worker(driver)
    for step in range(3):
        await driver.enqueue([record(f"b{step}")])
        assert await remove_finished(driver, worker, 2) == 2
    assert [(one.id, one.problem) for one in await driver.fsck()] == [(digest.decode(), "is missing or damaged")]
    assert await driver.fsck() == ()
    assert foreign.hget(key, digest) == b"%d" % (2 * 1000003 + 271828)
    assert await remove_finished(driver, worker, 5) == 2
    assert not foreign.exists(key, key.replace("uses", "shape"), key.replace("uses", "queues"))


async def test_a_shape_of_which_more_records_are_removed_than_were_counted_is_kept(
    driver: RedisDriver, foreign: Any, prefix: str
) -> None:
    await driver.enqueue([record(name) for name in "abc"])
    key, digest = uses_of(foreign, prefix)
    foreign.hincrby(key, digest, -2 * 1000003)
    worker = Worker(driver)
    assert await remove_finished(driver, worker, 2) == 2
    assert await remove_finished(driver, worker, 2) == 1
    assert [one.id for one in await driver.fsck()] == [digest.decode()]
    assert not foreign.exists(key)


@pytest.mark.parametrize("excess", [-1, 1])
async def test_fsck_corrects_a_number_of_records_that_is_wrong(
    driver: RedisDriver, foreign: Any, prefix: str, excess: int
) -> None:
    await driver.enqueue([record("a"), record("b")])
    key, digest = uses_of(foreign, prefix)
    foreign.hincrby(key, digest, excess * 1000003)
    assert [(one.id, one.problem) for one in await driver.fsck()] == [(digest.decode(), f"is wrong by {excess}")]
    assert await driver.fsck() == ()
    assert foreign.hget(key, digest) == b"%d" % (2 * 1000003 + 271828)


@pytest.mark.parametrize("number", [b"junk", b"0"])
@pytest.mark.parametrize("move", [add_one, remove_one])
async def test_fsck_corrects_no_number_of_records_that_changes_meanwhile(
    driver: RedisDriver, foreign: Any, prefix: str, number: bytes, move: Callable[[RedisDriver], Awaitable[object]]
) -> None:
    """A record comes or goes between counting and storing the number."""
    await driver.enqueue([record() for _ in range(20)])
    key, digest = uses_of(foreign, prefix)
    foreign.hset(key, digest, number)
    recount = Scripts.recount

    async def move_first(self: Scripts, *words: Any, counted: int) -> Any:
        await move(driver)
        return await recount(self, *words, counted=counted)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scripts, "recount", move_first)
        for _ in range(2):
            assert [one.problem for one in await driver.fsck()] == ["is missing or damaged"]
    await driver.fsck()
    assert await driver.fsck() == ()


async def test_fsck_that_ends_early_corrects_nothing(driver: RedisDriver, foreign: Any, prefix: str) -> None:
    """It has not counted all records."""
    await driver.enqueue([record(f"a{number}") for number in range(600)])
    key, digest = uses_of(foreign, prefix)
    foreign.hset(key, digest, 0)
    assert len(await driver.fsck(limit=1)) == 1
    assert foreign.hget(key, digest) == b"0"
    await driver.fsck()
    assert foreign.hget(key, digest) == b"%d" % (600 * 1000003 + 271828)


async def test_a_worker_that_has_read_a_changed_shape_runs_its_records_once_it_is_repaired(
    driver: RedisDriver, foreign: Any, prefix: str
) -> None:
    other = RedisDriver.from_url(shared_url(), prefix=prefix)
    await other.open()
    await driver.enqueue([record("a"), record("b")])
    foreign.hset(f"{{{prefix}}}:1:shape", shape_of(record())[0], b"0 0 0 0 q\nanother\n{}")
    worker = Worker(other)
    assert [one.name for one in await worker.take(1)] == ["another"]
    await driver.enqueue([record("c")])
    assert [one.name for one in await worker.take(5)] == ["send_email"] * 2
    await other.close()


async def test_a_record_that_was_set_aside_for_its_shape_runs_after_an_equal_call_and_a_requeue(
    driver: RedisDriver, foreign: Any, prefix: str
) -> None:
    await driver.enqueue([record("a")])
    foreign.hdel(f"{{{prefix}}}:1:shape", shape_of(record())[0])
    worker = Worker(driver)
    (damaged,) = (await worker.step(want=1)).damaged
    assert damaged.damage == (
        "its name, queue and limits are missing; enqueue a job with the same ones, then requeue this one"
    )
    assert await requeue_one(driver, "a") == "damaged"
    await driver.enqueue([record("b")])
    assert await requeue_one(driver, "a") == "requeued"
    assert {one.id for one in await worker.take(5)} == {"a", "b"}
    assert await driver.fsck() == ()


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
            await cancel_one(driver, "goes")
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
