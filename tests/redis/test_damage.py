"""Damaged stores: sound records still run, and the damage does not spread."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core import StoreDamaged
from flowli_core.driver import Completed, Retried
from flowli_core.drivers.redis._packing import DIGEST
from flowli_core.reports import Report
from flowli_core.stored import STATES, StoredSchedule
from flowli_core.targets import Target
from tests.conformance.builders import DONE, LEASE, Worker, ack, everything, ids, lease_of, record, stored
from tests.redis.server import fresh_prefix
from tests.support.store import cancel_one, due_schedules, find_schedule, page_schedules, put, requeue_one

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flowli_core.drivers.redis import RedisDriver


async def test_an_orphan_in_an_index_is_removed(driver: RedisDriver, prefix: str, foreign: Any) -> None:
    """An id whose record is missing hides no records behind it, and does not count as due afterwards."""
    worker = Worker(driver)
    await driver.enqueue([record("a"), record("later", due=timedelta(hours=1))])
    foreign.zadd(f"{{{prefix}}}:1:due:q", {"nobody": 1})
    answer = await worker.step(want=5)
    assert ids(answer.reserved) == ["a"]
    assert answer.next_due == LEASE


async def test_only_its_holder_releases_an_idempotency_key(driver: RedisDriver, prefix: str, foreign: Any) -> None:
    """If another record holds the key by now, finishing the first does not release it."""
    worker = Worker(driver)
    await driver.enqueue([record("a", key="k"), record("b")])
    held = {one.id: one for one in await worker.take(2)}
    holder = f"{{{prefix}}}:1:holder"
    foreign.hset(holder, "k", "b")
    assert await worker.settle(held["a"]) == "ok"
    assert foreign.hget(holder, "k") == b"b"
    foreign.hdel(holder, "k")
    assert await worker.settle(held["b"]) == "ok"


BLOB = {
    "cut": b"junk",
    "empty": b"",
    "of one byte": b"\xff",
    "with a wrong length": b"x" * DIGEST + b"1 \n99999\n{}",
    "with a negative length": b"x" * DIGEST + b"1 \n-1\n{}",
    "with a negative expiry": b"x" * DIGEST + b"1 \n- -1\n{}",
    "with an expiry that is too long": b"x" * DIGEST + b"1 \n2 1234567890123456\n{}",
    "with a wrong length and an expiry": b"x" * DIGEST + b"1 \n1-2 1\n{}",
}


UNREADABLE_SHAPE = "its name, queue and limits cannot be read; enqueue a job with the same ones, then requeue this one"


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


@pytest.mark.parametrize("blob", BLOB.values(), ids=BLOB)
async def test_a_damaged_record_is_set_aside(
    driver: RedisDriver, key: Callable[[str], str], foreign: Any, blob: bytes
) -> None:
    """It is failed and keeps its data, its key is free, and it can be purged. The others are reserved."""
    await driver.enqueue([record("a", key="k"), record("b"), record("c")])
    foreign.hset(key("record"), "a", blob)
    answer = await Worker(driver).step(want=5)
    assert ids(answer.reserved) == ["b", "c"]
    assert [(one.id, one.queue, one.damage) for one in answer.damaged] == [
        ("a", "q", "the head of its record cannot be read")
    ]
    assert (await Worker(driver, "other").step(want=5)).damaged == ()
    (found,) = await everything(driver, "failed")
    assert (found.id, found.queue, found.damage) == ("a", "q", "the head of its record cannot be read")
    assert foreign.hget(key("record"), "a") == blob
    assert (await driver.overview()).counts.failed == 1
    assert await requeue_one(driver, "a") == "damaged"
    assert await cancel_one(driver, "a") == "finished"
    answers = await driver.enqueue([record("a"), record("d", key="k")])
    assert [(one.id, one.disposition) for one in answers] == [("a", "duplicate"), ("d", "accepted")]
    assert await driver.purge("failed", older_than=timedelta(milliseconds=-1), limit=5) == 1
    assert (await driver.overview()).counts.failed == 0


async def test_a_listing_goes_on_behind_damaged_records(driver: RedisDriver, key: Any, foreign: Any) -> None:
    """They are listed in their order, with what is damaged; entries without a record and invalid ids are left out."""
    due = timedelta(hours=1)
    await driver.enqueue([record(name, due=due) for name in "abcdef"])
    for name in "bd":
        foreign.hset(key("record"), name, b"junk")
    foreign.hdel(key("record"), "e")
    foreign.zadd(key("due:q"), {b"\xff": 4e15, "g": float("inf"), "h": 0.5})
    foreign.zadd(key("due:q"), {f"missing {number}": 3e15 for number in range(120)})
    for limit in (1, 2, 10):
        found = await everything(driver, "scheduled", limit=limit)
        assert [(one.id, one.damage is None) for one in found] == [
            ("f", True),
            ("d", False),
            ("c", True),
            ("b", False),
            ("a", True),
        ]


async def test_a_cancelled_damaged_record_is_set_aside(driver: RedisDriver, key: Any, foreign: Any) -> None:
    await driver.enqueue([record("a", due=timedelta(hours=1))])
    foreign.hset(key("record"), "a", b"junk")
    assert await cancel_one(driver, "a") == "finished"
    assert ids(await everything(driver, "failed")) == ["a"]
    assert await everything(driver, "scheduled") == []


async def test_damaged_records_are_cancelled_in_one_call_wherever_they_wait(
    driver: RedisDriver, key: Any, foreign: Any
) -> None:
    """Each search of the queues is a call of its own, so that none holds up the server for long."""
    await driver.enqueue([record(name, queue=name, due=timedelta(hours=1)) for name in "abcd"])
    for name in "abd":
        foreign.hset(key("record"), name, b"junk")
    foreign.config_resetstat()
    answers = await driver.cancel([Target(id=name) for name in "abcda"])
    assert answers == ["finished", "finished", "cancelled", "finished", "finished"]
    assert foreign.info("commandstats")["cmdstat_evalsha"]["calls"] == 4
    assert [(one.id, one.queue) for one in await everything(driver, "failed")] == [("d", "d"), ("b", "b"), ("a", "a")]


async def test_a_record_whose_shape_is_damaged_runs_again_once_the_shape_is_repaired(
    driver: RedisDriver, key: Any, foreign: Any
) -> None:
    worker = Worker(driver)
    await driver.enqueue([record("a"), record("b", name="other")])
    shapes = foreign.hgetall(key("shape"))
    (digest,) = [digest for digest, text in shapes.items() if b"\nsend_email\n" in text]
    foreign.hset(key("shape"), digest, b"junk")
    answer = await worker.step(want=5)
    assert (ids(answer.reserved), [one.damage for one in answer.damaged]) == (["b"], [UNREADABLE_SHAPE])
    foreign.hset(key("shape"), digest, shapes[digest])
    assert (await stored(driver, "a")).damage == UNREADABLE_SHAPE
    assert await requeue_one(driver, "a") == "requeued"
    assert (await worker.take_one()).id == "a"


@pytest.mark.parametrize("digits", [20, 50, 55, 60, 70])
async def test_both_sides_read_the_numbers_of_a_shape_to_the_same_length(
    driver: RedisDriver, key: Any, foreign: Any, digits: int
) -> None:
    """A shape that only one of them can read would let its record be reserved and dropped again and again."""
    await driver.enqueue([record("a")])
    ((digest, text),) = foreign.hgetall(key("shape")).items()
    foreign.hset(key("shape"), digest, b"1" * digits + text[text.index(b" ") :])
    answer = await Worker(driver).step(want=1)
    assert len(answer.reserved) + len(answer.damaged) == 1


async def test_a_record_whose_shape_is_damaged_while_it_runs_is_lost_and_then_set_aside(
    driver: RedisDriver, key: Any, foreign: Any
) -> None:
    worker = Worker(driver)
    await driver.enqueue([record("a")])
    (held,) = await worker.take(lease=timedelta(milliseconds=1))
    foreign.hset(key("shape"), mapping=dict.fromkeys(foreign.hgetall(key("shape")), b"junk"))
    assert await worker.settle(held, DONE) == "lost"
    assert (await driver.overview()).counts.active == 0
    assert [one.damage for one in await everything(driver, "failed")] == [UNREADABLE_SHAPE]


async def test_a_record_in_the_index_of_another_queue_is_set_aside(driver: RedisDriver, key: Any, foreign: Any) -> None:
    await driver.enqueue([record("a", queue="p", due=timedelta(hours=1)), record("b")])
    foreign.zadd(key("due:q"), {"a": 1})
    answer = await Worker(driver).step(want=5)
    assert (ids(answer.reserved), [one.id for one in answer.damaged]) == (["b"], ["a"])


async def test_a_record_with_an_invalid_id_is_not_run(driver: RedisDriver, key: Any, foreign: Any) -> None:
    await driver.enqueue([record("b")])
    foreign.zadd(key("due:q"), {b"\xff": 2})
    foreign.hset(key("record"), b"\xff", foreign.hget(key("record"), "b"))
    assert ids(await Worker(driver).take(5)) == ["b"]
    assert ids(await everything(driver, "active")) == ["b"]


@pytest.mark.parametrize("junk", [b"", b"junk", b"\n\n\xff", b"1 2", b"1 99999999999999999999\nx\n", b"nan inf\nx\n"])
async def test_a_damaged_log_begins_again(driver: RedisDriver, key: Any, foreign: Any, junk: bytes) -> None:
    worker = Worker(driver)
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    foreign.hset(key("log"), "a", junk)
    assert (await stored(driver, "a")).name == "send_email"
    assert (await worker.step(reports=(Report("a", held.token, b"1", (b"one",), 7),))).acks == ()
    await worker.step(ack(held), reports=(Report("a", held.token, b"2", (b"two",), 8),))
    found = await stored(driver, "a")
    assert (found.state, found.progress, found.log[-2:]) == ("completed", b"2", (b"one", b"two"))


@pytest.mark.parametrize("column", ["progress", "log"])
async def test_reports_are_dropped_while_their_key_has_another_type(
    driver: RedisDriver, key: Any, foreign: Any, column: str
) -> None:
    """They must not keep a worker from settling, or from removing old records."""
    worker = Worker(driver)
    await driver.enqueue([record("a"), record("b")])
    held = await worker.take_one()
    foreign.set(key(column), "x")
    reports = (Report("a", held.token, b"1", (b"one",)),)
    assert (await driver.heartbeat("w", [lease_of(held)], LEASE, reports)).lost == frozenset()
    assert (await worker.step(ack(held), reports=reports, want=1)).acks == ("ok",)
    assert await driver.purge("completed", older_than=-LEASE, limit=10) == 1
    with pytest.raises(StoreDamaged, match=f"{column} is a string and should be a hash"):
        await driver.open()
    foreign.delete(key(column))
    await driver.open()


@pytest.mark.parametrize("column", ["token", "worker:w"])
async def test_an_active_record_whose_token_is_lost_is_recovered(
    driver: RedisDriver, key: Any, foreign: Any, column: str
) -> None:
    await driver.enqueue([record("a")])
    await Worker(driver).take(lease=timedelta(milliseconds=1))
    foreign.delete(key(column))
    await asyncio.sleep(0.002)
    answer = await Worker(driver, "other").step()
    assert [one.id for one in answer.recovered] == ["a"]
    assert ids(await Worker(driver, "third").take()) == ["a"]


async def test_each_step_searches_the_queues_for_one_record_without_a_token(
    driver: RedisDriver, key: Any, foreign: Any
) -> None:
    """The next step goes on with the others, so all are set aside."""
    await driver.enqueue([record(name) for name in "abc"])
    await Worker(driver).take(3, lease=timedelta(milliseconds=1))
    foreign.delete(key("token"))
    foreign.hset(key("record"), mapping=dict.fromkeys("abc", b"junk"))
    await asyncio.sleep(0.002)
    worker = Worker(driver, "other")
    assert [len((await worker.step()).damaged) for _ in range(4)] == [1, 1, 1, 0]
    assert ids(await everything(driver, "failed")) == ["c", "b", "a"]


@pytest.mark.parametrize("column", ["attempts", "completed", "expiry", "outcome", "due:q", "counts", "recoveries"])
async def test_a_key_of_another_type_is_named_and_loses_no_record(
    driver: RedisDriver, key: Any, foreign: Any, column: str
) -> None:
    """Once an operator has removed it, the same step does what it could not do before."""
    worker = Worker(driver)
    await driver.enqueue([record("a"), record("b")])
    done, again = await worker.take(2)
    foreign.delete(key(column))
    foreign.set(key(column), "x")
    acks = (ack(done, Completed(b"1")), ack(again, Retried(timedelta(0), b"{}")))
    with pytest.raises(StoreDamaged, match=f"{column} is a string and should be a (hash|zset)"):
        await worker.step(*acks)
    with pytest.raises(StoreDamaged, match=column):
        await driver.open()
    foreign.delete(key(column))
    await driver.open()
    assert (await worker.again()).acks == ("ok", "ok")
    found = {one.id: one.state for state in STATES for one in await everything(driver, state)}
    assert found == {"a": "completed", "b": "queued"}


async def test_records_stay_in_their_queue_if_a_key_of_another_type_prevents_reserving(
    driver: RedisDriver, key: Any, foreign: Any
) -> None:
    worker = Worker(driver)
    await driver.enqueue([record("a")])
    foreign.set(key("token"), "x")
    with pytest.raises(StoreDamaged, match="token is a string"):
        await worker.take()
    foreign.delete(key("token"))
    assert ids(await worker.take()) == ["a"]


@pytest.mark.parametrize("field", ["now", "token", "revision"])
@pytest.mark.parametrize("number", [b"junk", b"-1", b"9" * 400, b"nan", b"99999999999999"])
async def test_a_damaged_number_is_replaced(
    driver: RedisDriver, key: Any, foreign: Any, field: str, number: bytes
) -> None:
    """Steps go on, tokens grow, and nothing is due before its time."""
    worker = Worker(driver)
    await driver.enqueue([record("a"), record("later", due=timedelta(hours=1))])
    first = await worker.take_one()
    foreign.hset(key("serial"), field, number)
    await driver.enqueue([record("b")])
    second = await worker.take_one()
    assert second.id == "b"
    assert second.token > first.token
    assert (await worker.step()).recovered == ()
    assert await worker.settle(first) == "ok"


async def test_the_damaged_step_of_a_worker_does_not_stop_it(driver: RedisDriver, key: Any, foreign: Any) -> None:
    worker = Worker(driver)
    await driver.enqueue([record("a"), record("b")])
    held = await worker.take_one()
    await worker.step(ack(held))
    foreign.hset(key("worker:w"), "acks", b"x")
    assert (await worker.again()).acks == ("duplicate",)
    foreign.hset(key("worker:w"), "sequence", b"9" * 15)
    assert ids(await worker.take()) == ["b"]


async def test_a_damaged_count_goes_on_from_the_next_record(driver: RedisDriver, key: Any, foreign: Any) -> None:
    worker = Worker(driver)
    await driver.enqueue([record("a"), record("b")])
    foreign.hset(key("counts"), mapping={"active q": b"junk", "completed q": b"9" * 30})
    for held in await worker.take(2):
        assert await worker.settle(held) == "ok"
    assert (await driver.overview()).counts.completed == 2


async def test_a_record_is_listed_only_in_its_own_state(driver: RedisDriver, key: Any, foreign: Any) -> None:
    await driver.enqueue([record("a", due=timedelta(hours=1)), record("b", due=timedelta(hours=1))])
    foreign.zadd(key("completed"), {"a": 5, "b": 6, "gone": 7})
    assert await everything(driver, "completed", limit=1) == []
    assert ids(await everything(driver, "scheduled", limit=1)) == ["b", "a"]


async def test_a_record_whose_outcome_is_damaged_is_purged_and_counted(
    driver: RedisDriver, key: Any, foreign: Any
) -> None:
    worker = Worker(driver)
    await driver.enqueue([record("a"), record("b")])
    for held in await worker.take(2):
        await worker.settle(held)
    foreign.hset(key("outcome"), "a", b"junk")
    assert ids(await everything(driver, "completed")) == ["b", "a"]
    assert await driver.purge("completed", older_than=timedelta(milliseconds=-1), limit=5) == 2
    assert (await driver.overview()).counts.completed == 0
    assert foreign.hlen(key("record")) == 0


async def test_the_end_of_a_retention_removes_no_unfinished_record(driver: RedisDriver, key: Any, foreign: Any) -> None:
    worker = Worker(driver)
    await driver.enqueue([record("active"), record("later", due=timedelta(hours=1))])
    held = await worker.take_one()
    foreign.zadd(key("expiry"), {"active": 1, "later": 1})
    await worker.step()
    assert foreign.zcard(key("expiry")) == 0
    assert await worker.settle(held) == "ok"
    assert ids(await everything(driver, "scheduled")) == ["later"]


HEADS = (
    b"",
    b"junk",
    b"1 2 3",
    b"\xff 0 - - - q\n{}",
    b"1 0 nan - - q\n{}",
    b"1 0 12-3 - - q\n{}",
    b"9" * 30 + b" 0 1 - - q\n",
)


@pytest.mark.parametrize("head", HEADS)
async def test_a_damaged_schedule_stops_itself_alone(driver: RedisDriver, key: Any, foreign: Any, head: bytes) -> None:
    """It loses its tick, is listed as damaged, and can be stored anew or removed."""
    for name in ("bad", "sound", "worse"):
        await put(driver, StoredSchedule(key=name, queue="q", spec=b"{}", next_tick=datetime(2020, 1, 1, tzinfo=UTC)))
    foreign.hset(key("schedule"), mapping={"bad": head, "worse": head})
    assert [one.key for one in await due_schedules(driver, 5)] == ["sound"]
    assert foreign.zrange(key("tick"), 0, -1) == [b"sound"]
    listed = await page_schedules(driver, limit=5)
    damage = "the head of the schedule cannot be read"
    assert [(one.key, one.damage) for one in listed] == [("bad", damage), ("sound", None), ("worse", damage)]
    bad = await find_schedule(driver, "bad")
    assert bad is not None
    assert (bad.next_tick, bad.spec) == (None, b"")
    assert await put(driver, replace(bad, queue="q", spec=b"{}", damage=None))
    assert await driver.put_schedule("worse", None, revision=listed[2].revision)
    assert [(one.key, one.damage) for one in await page_schedules(driver, limit=5)] == [("bad", None), ("sound", None)]


async def test_schedules_whose_keys_are_no_text_hide_no_others(driver: RedisDriver, key: Any, foreign: Any) -> None:
    for name in ("a", "z"):
        await put(driver, StoredSchedule(key=name, queue="q", spec=b"{}", next_tick=None))
    foreign.zadd(key("schedules"), {b"b\xff": 0, b"c\xff": 0, "nobody": 0})
    foreign.hset(key("schedule"), mapping=dict.fromkeys([b"b\xff", b"c\xff"], b"junk"))
    found: list[str] = []
    after: str | None = None
    while page := await page_schedules(driver, limit=1, after=after):
        after = page[-1].key
        found += [one.key for one in page]
    assert found == ["a", "z"]


@pytest.mark.faults
async def test_a_record_of_more_than_64_mib_is_set_aside_and_not_read(
    driver: RedisDriver, key: Any, foreign: Any
) -> None:
    await driver.enqueue([record("a"), record("b")])
    foreign.hset(key("record"), "a", foreign.hget(key("record"), "a") + b"x" * 64 * 1024 * 1024)
    assert [one.damage is None for one in await everything(driver, "queued")] == [True, False]
    answer = await Worker(driver).step(want=5)
    assert (ids(answer.reserved), [one.id for one in answer.damaged]) == (["b"], ["a"])
