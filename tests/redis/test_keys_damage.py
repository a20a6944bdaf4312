"""Damage around idempotency keys: no record waits for ever behind another, and fsck finds and mends what is left."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core import StoreDamaged
from flowli_core.driver import Retried
from flowli_core.drivers.redis._scripts import Scripts
from tests.conformance.builders import BROKEN, HOUR, Worker, ack, everything, ids, record, stored
from tests.redis.server import fresh_prefix
from tests.redis.test_keys import enqueue, replacing, unique
from tests.support.store import cancel_one

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flowli_core.driver import Reserved
    from flowli_core.drivers.redis import RedisDriver


@pytest.fixture
def prefix(foreign: Any) -> Iterator[str]:
    """Return a prefix that the test may damage. Its keys are removed at the end, before they are inspected."""
    prefix = fresh_prefix()
    yield prefix
    if keys := foreign.keys(f"{{{prefix}}}*"):
        foreign.delete(*keys)


@pytest.fixture
def key(prefix: str) -> Callable[[str], str]:
    """Return the function that returns the full name of a key."""
    return lambda name: f"{{{prefix}}}:1:{name}"


@pytest.fixture
async def worker(driver: RedisDriver) -> Worker:
    return Worker(driver)


async def put_behind(driver: RedisDriver, worker: Worker, *, max_recoveries: int = 0) -> Reserved:
    """Reserve a, and put b behind it."""
    await driver.enqueue([record("a", key="k", max_recoveries=max_recoveries)])
    held = await worker.take_one()
    assert await enqueue(driver, replacing("b")) == [("b", "accepted", "queued")]
    return held


async def test_a_finished_record_that_is_damaged_is_waited_for_no_longer(
    driver: RedisDriver, worker: Worker, key: Any, foreign: Any
) -> None:
    """Its key cannot be read, so all records behind others are searched."""
    held = await put_behind(driver, worker)
    foreign.hset(key("record"), "a", b"junk")
    assert ids((await worker.step(ack(held), want=1)).reserved) == ["b"]
    assert foreign.exists(key("behind")) == 0


@pytest.mark.parametrize("holder", [{}, {"k": "nobody"}])
async def test_a_lost_holder_leaves_nobody_behind(
    driver: RedisDriver, worker: Worker, key: Any, foreign: Any, holder: dict[str, str]
) -> None:
    """The key is held by nobody, or by another record."""
    held = await put_behind(driver, worker)
    foreign.delete(key("holder"))
    for name, value in holder.items():
        foreign.hset(key("holder"), name, value)
    assert ids((await worker.step(ack(held), want=1)).reserved) == ["b"]


@pytest.mark.parametrize("lost", ["record", "token and record"])
async def test_a_lost_record_is_waited_for_no_longer(
    driver: RedisDriver, worker: Worker, key: Any, foreign: Any, lost: str
) -> None:
    """Once its lease has expired, it is recovered, or removed."""
    await put_behind(driver, worker)
    foreign.hdel(key("record"), "a")
    if lost == "token and record":
        foreign.hdel(key("token"), "a")
    foreign.zadd(key("lease"), {"a": 1})
    assert [*ids(await worker.take()), *ids(await worker.take())] == ["b"]


async def test_a_record_that_is_set_aside_is_waited_for_no_longer(
    driver: RedisDriver, worker: Worker, key: Any, foreign: Any
) -> None:
    """A step finds that the record, which waits for its retry, cannot be read."""
    held = await put_behind(driver, worker, max_recoveries=3)
    await worker.settle(held, Retried(timedelta(0), b"{}"))
    foreign.hset(key("record"), "a", b"junk")
    answer = await worker.step(want=5)
    found = ids(answer.reserved)
    assert [one.id for one in answer.damaged] == ["a"]
    found += ids((await worker.step(want=5)).reserved)
    assert found == ["b"]


async def test_a_lost_record_that_waits_for_a_retry_is_waited_for_no_longer(
    driver: RedisDriver, worker: Worker, key: Any, foreign: Any
) -> None:
    """The step that passes over it does not say that nothing is due."""
    held = await put_behind(driver, worker, max_recoveries=3)
    await worker.settle(held, Retried(timedelta(0), b"{}"))
    foreign.hdel(key("record"), "a")
    answer = await worker.step(want=1)
    assert (answer.reserved, answer.next_due) == ((), timedelta(0))
    assert foreign.exists(key("wake:q")) == 1
    assert ids((await worker.step(want=1)).reserved) == ["b"]


async def test_a_damaged_record_behind_another_is_set_aside_in_its_turn(
    driver: RedisDriver, worker: Worker, key: Any, foreign: Any
) -> None:
    """The active record finishes, and the step that would reserve the damaged one sets it aside."""
    held = await put_behind(driver, worker)
    foreign.hset(key("record"), "b", b"junk")
    answer = await worker.step(ack(held), want=1)
    assert (answer.acks, [one.id for one in answer.damaged]) == (("ok",), ["b"])
    assert ids(await everything(driver, "failed")) == ["b"]


async def test_a_damaged_record_behind_another_can_be_cancelled(
    driver: RedisDriver, worker: Worker, key: Any, foreign: Any
) -> None:
    await put_behind(driver, worker)
    foreign.hset(key("record"), "b", b"junk")
    assert await cancel_one(driver, "b") == "finished"
    assert foreign.exists(key("behind"), key("held:q")) == 0


async def test_a_damaged_holder_is_replaced(driver: RedisDriver, worker: Worker, key: Any, foreign: Any) -> None:
    """The new record can be read, and is created now."""
    await driver.enqueue([record("a", key="k", due=HOUR)])
    foreign.hset(key("record"), "a", b"junk")
    assert await enqueue(driver, replacing("b", input=b"2")) == [("a", "replaced", "queued")]
    (held,) = await worker.take(2)
    assert (held.id, held.input) == ("a", b"2")


@pytest.mark.parametrize(("waits_for", "problem"), [("", "is missing"), ("nobody", "has finished or is missing")])
async def test_fsck_mends_a_record_that_is_behind_none(
    driver: RedisDriver, key: Any, foreign: Any, waits_for: str, problem: str
) -> None:
    """It waits in its queue afterwards."""
    worker = Worker(driver)
    held = await put_behind(driver, worker)
    assert await driver.fsck() == ()
    foreign.hdel(key("behind"), "b")
    if waits_for:
        foreign.hset(key("behind"), "b", waits_for)
    await worker.settle(held, BROKEN)
    assert await worker.take() == ()
    (finding,) = await driver.fsck()
    assert (finding.key, finding.id) == (key("behind"), "b")
    assert problem in finding.problem
    assert ids(await worker.take()) == ["b"]
    assert await driver.fsck() == ()
    assert foreign.exists(key("behind"), key("held:q")) == 0


async def test_fsck_leaves_a_record_behind_one_that_it_waits_for_again(
    driver: RedisDriver, worker: Worker, key: Any, foreign: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finding is checked again when it is mended."""
    held = await put_behind(driver, worker)
    foreign.hdel(key("behind"), "b")
    admit = Scripts.admit

    async def admit_later(self: Scripts, record_id: str) -> Any:
        foreign.hset(key("behind"), "b", "a")
        return await admit(self, record_id)

    monkeypatch.setattr(Scripts, "admit", admit_later)
    assert {one.id for one in await driver.fsck()} == {"a", "b"}
    assert await worker.take() == ()
    assert ids((await worker.step(ack(held), want=1)).reserved) == ["b"]


async def test_fsck_removes_what_belongs_to_no_held_record(
    driver: RedisDriver, worker: Worker, key: Any, foreign: Any
) -> None:
    """A record that is behind another stays."""
    await put_behind(driver, worker)
    await driver.enqueue([record("c")])
    foreign.hset(key("behind"), mapping={"nobody": "a", "c": "a"})
    found = {(one.key, one.id) for one in await driver.fsck()}
    assert found == {(key("behind"), "nobody"), (key("behind"), "c")}
    assert foreign.hgetall(key("behind")) == {b"b": b"a"}
    assert ids(await worker.take(5)) == ["c"]


async def test_fsck_finds_a_kept_key_that_no_record_holds(driver: RedisDriver, key: Any, foreign: Any) -> None:
    foreign.zadd(key("unique"), {"k": 1e15})
    (finding,) = await driver.fsck()
    assert (finding.key, finding.id) == (key("unique"), "k")
    assert await enqueue(driver, unique("a")) == [("a", "accepted", "queued")]


@pytest.mark.parametrize("until", [float("inf"), float("-inf"), 0.5])
async def test_the_time_of_a_kept_key_may_be_any_number(
    driver: RedisDriver, worker: Worker, key: Any, foreign: Any, until: float
) -> None:
    """A key of an unfinished record is not released, whatever is stored of it."""
    await driver.enqueue([unique("a")])
    foreign.zadd(key("unique"), {"k": until, "other": until})
    await worker.step()
    assert await enqueue(driver, unique("b")) == [("a", "existing", "queued")]
    await worker.settle(await worker.take_one())
    assert await enqueue(driver, unique("b")) == [("a", "existing", "completed")]


@pytest.mark.parametrize("name", ["behind", "held:p", "due:p", "suspect:p", "recoveries", "attempts", "queues"])
async def test_a_key_of_another_type_keeps_a_record_as_it_is(
    driver: RedisDriver, key: Any, foreign: Any, name: str
) -> None:
    """A call that would replace it changes nothing, and names the key."""
    await driver.enqueue([record("a", key="k", due=HOUR), record("other", queue="p")])
    before = await stored(driver, "a")
    kept = foreign.exists(key(name)) and foreign.rename(key(name), key("kept"))
    foreign.set(key(name), "x")
    with pytest.raises(StoreDamaged, match=name):
        await driver.enqueue([replacing("b", queue="p")])
    foreign.delete(key(name))
    if kept:
        foreign.rename(key("kept"), key(name))
    assert await stored(driver, "a") == before
    assert await driver.fsck() == ()


async def test_a_record_that_another_waits_for_can_be_lost_with_its_worker(
    driver: RedisDriver, worker: Worker, key: Any, foreign: Any
) -> None:
    """A damaged record whose lease has expired is set aside, and the other goes on."""
    await put_behind(driver, worker)
    foreign.hset(key("record"), "a", b"junk")
    foreign.hset(key("token"), "a", b"junk")
    foreign.zadd(key("lease"), {"a": 1})
    answer = await Worker(driver, "other").step(want=1)
    assert ([one.id for one in answer.damaged], ids(answer.reserved)) == (["a"], ["b"])
