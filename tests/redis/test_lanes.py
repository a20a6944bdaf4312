"""Lanes in Redis: the keys that they leave behind, and what a step and fsck do if these are damaged."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core.driver import Released, Retried
from flowli_core.errors import StoreDamaged
from flowli_core.lanes import Lane, Rate
from tests.conformance.builders import BROKEN, DONE, Worker, ids, record
from tests.redis.server import spoil
from tests.support.store import cancel_one, requeue_one

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowli_core.drivers.redis import RedisDriver
    from flowli_core.new_records import NewRecord

ONE = Lane("api", "a", concurrency=1)
A = "api\na"
LANE = ("lanes", f"q\n{A}")


def in_lane(record_id: str, lane: Lane = ONE, **options: Any) -> NewRecord:
    """Make a record of a lane."""
    return replace(record(record_id, **options), lane=lane)


def keys_of(foreign: Any, prefix: str) -> set[str]:
    """Return the names of the keys of a prefix."""
    return {key.decode().removeprefix(f"{{{prefix}}}:1:") for key in foreign.keys(f"{{{prefix}}}*")}


async def test_lanes_without_records_leave_only_the_numbers_of_their_limits(
    driver: RedisDriver, prefix: str, foreign: Any
) -> None:
    """Whatever has become of the records. The starts of a rate expire."""
    worker = Worker(driver)
    await driver.enqueue([record("plain")])
    await worker.settle((await worker.take(1))[0], DONE)
    before = keys_of(foreign, prefix)
    lane = Lane("mail", "b", concurrency=5, rate=Rate(10, timedelta(minutes=1)))
    names = ["1 cancelled", "2 done", "3 broken", "4 suspect", "5 retried", "6 released"]
    await driver.enqueue([in_lane(name, lane, max_recoveries=0 if name == "4 suspect" else 3) for name in names])
    await driver.enqueue([in_lane("later", lane, queue="p", due=timedelta(hours=1))])
    assert await cancel_one(driver, "1 cancelled") == "cancelled"
    done, broken = await worker.take(10, suspect=False)
    await worker.settle(done, DONE)
    await worker.settle(broken, BROKEN)
    (suspect,) = await worker.take(10)
    await worker.settle(suspect, DONE)
    retried, released = await worker.take(10)
    await worker.settle(retried, Retried(timedelta(hours=1), b"{}"))
    await worker.settle(released, Released())
    (again,) = await worker.take(10)
    assert again.id == "6 released"
    assert await requeue_one(driver, "5 retried") == "requeued"
    assert await cancel_one(driver, "5 retried") == "cancelled"
    assert await cancel_one(driver, "later") == "cancelled"
    assert await driver.fsck() == ()
    await worker.settle(again, DONE)
    left = {name for name in keys_of(foreign, prefix) - before if re.match("held|lane|waits|turn|places|starts", name)}
    assert left == {"starts:mail\nb"}
    assert 0 < foreign.pttl(f"{{{prefix}}}:1:starts:mail\nb") <= 120_000


DAMAGES: list[tuple[str, Callable[[Any, Callable[[str], str]], object], set[tuple[str, str]]]] = [
    ("a place of no record", lambda r, k: r.sadd(k(f"places:{A}"), "nobody"), {(f"places:{A}", "nobody")}),
    ("a place of a finished record", lambda r, k: r.sadd(k(f"places:{A}"), "done"), {(f"places:{A}", "done")}),
    ("an active record without a place", lambda r, k: r.srem(k(f"places:{A}"), "1"), {(f"places:{A}", "1"), LANE}),
    (
        "a held record that is not in its lane",
        lambda r, k: r.zrem(k(f"lane:q\n{A}"), "2"),
        {(f"lane:q\n{A}", "2"), LANE},
    ),
    ("an entry that is not held", lambda r, k: r.zadd(k(f"lane:q\n{A}"), {"x": 0}), {(f"lane:q\n{A}", "x"), LANE}),
    ("a wrong depth", lambda r, k: r.zadd(k("lanes"), {f"q\n{A}": -7}), {LANE}),
    ("no depth", lambda r, k: r.zrem(k("lanes"), f"q\n{A}"), {(f"lane:q\n{A}", "2"), (f"lane:q\n{A}", "3")}),
    ("no turn", lambda r, k: r.zrem(k("turn:q"), "mail\nb"), {("lanes", "q\nmail\nb")}),
    ("a turn of no lane", lambda r, k: r.zadd(k("turn:q"), {"mail\nc": 1}), {("turn:q", "mail\nc")}),
    ("a queue that does not wait", lambda r, k: r.srem(k(f"waits:{A}"), "q"), {LANE}),
    ("a suspect by mistake", lambda r, k: r.sadd(k("lane_suspects"), "2"), {("lane_suspects", "2")}),
    ("a suspect that does not exist", lambda r, k: r.sadd(k("lane_suspects"), "nobody"), {("lane_suspects", "nobody")}),
]


@pytest.mark.parametrize(("damage", "expected"), [pytest.param(do, found, id=name) for name, do, found in DAMAGES])
async def test_damaged_lanes_are_found_and_mended(
    driver: RedisDriver,
    prefix: str,
    foreign: Any,
    damage: Callable[[Any, Callable[[str], str]], object],
    expected: set[tuple[str, str]],
) -> None:
    """All records of the lanes run afterwards, in their order, and no more at once than they may."""
    root = f"{{{prefix}}}:1:"
    worker = Worker(driver)
    await driver.enqueue([in_lane("done")])
    await worker.settle((await worker.take(1))[0], DONE)
    await driver.enqueue([in_lane("1"), in_lane("2"), in_lane("3"), in_lane("4", Lane("mail", "b"))])
    (held,) = await worker.take(1)
    damage(foreign, lambda name: root + name)
    found = await driver.fsck()
    assert {(one.key.removeprefix(root), one.id) for one in found} == expected
    assert await driver.fsck() == ()
    assert ids(await worker.take(9)) == ["4"]
    for name in ("1", "2", "3"):
        assert held.id == name
        await worker.settle(held, DONE)
        held = next(iter(await worker.take(9)), held)
    assert (await driver.overview()).lanes == ()


async def test_a_damaged_limit_has_one_place_until_a_record_is_enqueued_with_it(
    driver: RedisDriver, prefix: str, foreign: Any
) -> None:
    worker, two = Worker(driver), Lane("api", "a", concurrency=2)
    for damaged in ("junk", "0 - -", "2 5 -", "- - 1000", "- 0 1000", "2 - - -"):
        await driver.enqueue([in_lane(f"1 {damaged}", two), in_lane(f"2 {damaged}", two), in_lane(f"3 {damaged}", two)])
        foreign.hset(f"{{{prefix}}}:1:limits", "api", damaged)
        held = await worker.take(9)
        assert ids(held) == [f"1 {damaged}"]
        (lane,) = (await driver.overview()).lanes
        assert (lane.concurrency, lane.rate, lane.blocked) == (1, None, "concurrency")
        await driver.enqueue([in_lane(f"4 {damaged}", two)])
        held += await worker.take(9)
        assert ids(held) == [f"1 {damaged}", f"2 {damaged}"]
        while held:
            for one in held:
                await worker.settle(one, DONE)
            held = await worker.take(9)


async def test_an_entry_that_is_not_held_does_not_stop_its_lane(driver: RedisDriver, prefix: str, foreign: Any) -> None:
    worker = Worker(driver)
    await driver.enqueue([in_lane("1")])
    foreign.zadd(f"{{{prefix}}}:1:lane:q\n{A}", {"0": 0, "00": 0})
    assert ids(await worker.take(1)) == ["1"]


async def test_no_more_starts_are_kept_than_a_rate_counts(driver: RedisDriver, prefix: str, foreign: Any) -> None:
    worker, lane = Worker(driver), Lane("mail", "b", rate=Rate(3, timedelta(milliseconds=1)))
    await driver.enqueue([in_lane(str(number), lane) for number in range(9)])
    left = 9
    while left:
        left -= len(await worker.take(9))
    assert foreign.llen(f"{{{prefix}}}:1:starts:mail\nb") == 3


@pytest.mark.parametrize("name", [f"places:{A}", f"lane:q\n{A}", f"waits:{A}", "turn:q", "held:q", "lanes", "limits"])
async def test_a_key_of_another_type_loses_no_record(driver: RedisDriver, prefix: str, foreign: Any, name: str) -> None:
    """Whatever a step has done before it met the key, the record runs once the key is restored."""
    worker, key, aside = Worker(driver), f"{{{prefix}}}:1:{name}", f"{{{prefix}}}:1:scratch"
    await driver.enqueue([in_lane("1"), in_lane("2")])
    (held,) = await worker.take(1)
    if foreign.exists(key):
        foreign.rename(key, aside)
    foreign.set(key, "x")
    with pytest.raises(StoreDamaged):
        await worker.settle(held, DONE)
    foreign.delete(key)
    if foreign.exists(aside):
        foreign.rename(aside, key)
    again = await worker.again()
    assert again.acks == ("ok",)
    await driver.fsck()
    assert ids(await worker.take(1)) == ["2"]


async def test_a_lane_that_a_call_has_changed_before_learns_of_its_new_limit(driver: RedisDriver) -> None:
    """The first record of the call leaves the lane, and the second one brings the new concurrency."""
    worker = Worker(driver)
    await driver.enqueue([in_lane("1"), in_lane("2", key="k"), in_lane("3")])
    await worker.take(1)
    moved = replace(in_lane("4", Lane("mail", "b"), key="k"), on_conflict="replace")
    between = replace(in_lane("5", Lane("mail", "b"), key="k5"), on_conflict="replace")
    await driver.enqueue([moved, between, in_lane("6", Lane("api", "a", concurrency=2))])
    assert sorted(ids(await worker.take(9))) == ["2", "3", "5"]


async def test_a_lane_of_a_paused_queue_wakes_nobody(driver: RedisDriver, prefix: str, foreign: Any) -> None:
    await driver.pause_queue("q", paused=True)
    await driver.enqueue([in_lane("1")])
    assert not foreign.exists(f"{{{prefix}}}:1:wake:q")
    await driver.pause_queue("q", paused=False)
    assert foreign.exists(f"{{{prefix}}}:1:wake:q")


async def test_a_damaged_record_does_not_stop_its_lane(driver: RedisDriver, prefix: str, foreign: Any) -> None:
    """It frees its place, whatever of it cannot be read, and whether it waits or is active."""
    worker, token = Worker(driver), f"{{{prefix}}}:1:token"
    await driver.enqueue([in_lane(name) for name in "1234"])
    spoil("1")
    answer = await worker.step(want=9)
    assert ([one.id for one in answer.damaged], ids(answer.reserved)) == (["1"], ["2"])
    spoil("2")
    assert await worker.settle(answer.reserved[0], DONE) == "ok"
    assert ids(await worker.take(9, lease=timedelta(0))) == ["3"]
    foreign.hset(token, "3", "junk")
    answer = await worker.step(want=9, lease=timedelta(0))
    assert ([one.id for one in answer.recovered], ids(answer.reserved)) == (["3"], ["4"])
    spoil("4")
    answer = await worker.step(want=9)
    assert ([one.id for one in answer.damaged], ids(answer.reserved)) == (["4"], ["3"])


async def test_a_record_that_is_in_a_lane_by_mistake_runs_once(driver: RedisDriver, prefix: str, foreign: Any) -> None:
    """It is set aside, because its record says that it is in no lane."""
    worker, root = Worker(driver), f"{{{prefix}}}:1:"
    await driver.enqueue([record("plain"), in_lane("1"), in_lane("2")])
    foreign.hset(root + "record", "1", foreign.hget(root + "record", "plain"))
    answer = await worker.step(want=9)
    assert ([one.id for one in answer.damaged], sorted(ids(answer.reserved))) == (["1"], ["2", "plain"])
    spoil("1")


@pytest.mark.parametrize("max_recoveries", [3, 0])
@pytest.mark.parametrize("due", ["inf", "1e300"])
async def test_a_damaged_due_time_does_not_stop_a_lane(
    driver: RedisDriver, prefix: str, foreign: Any, due: str, max_recoveries: int
) -> None:
    """Also that of a suspect, which a step looks for until no lane has a turn."""
    worker = Worker(driver)
    await driver.enqueue([in_lane("1", max_recoveries=max_recoveries), in_lane("2")])
    foreign.zadd(f"{{{prefix}}}:1:held:q", {"1": due})
    (held,) = await worker.take(9)
    assert held.id == "1"
    await worker.settle(held, DONE)
    assert ids(await worker.take(9)) == ["2"]


async def test_a_place_of_an_active_record_of_another_lane_is_found(
    driver: RedisDriver, prefix: str, foreign: Any
) -> None:
    worker, places = Worker(driver), f"{{{prefix}}}:1:places:{A}"
    await driver.enqueue([in_lane("other", Lane("mail", "b"))])
    await worker.take(1)
    await driver.enqueue([in_lane("1")])
    foreign.sadd(places, "other")
    assert [(one.key, one.id) for one in await driver.fsck()] == [(places, "other")]
    assert ids(await worker.take(1)) == ["1"]
