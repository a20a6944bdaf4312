"""Lanes in Redis: the keys that they leave behind, and what a step and fsck do if these are damaged."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from flowli_core.driver import Released, Retried
from flowli_core.lanes import Lane, Rate
from tests.conformance.builders import BROKEN, DONE, Worker, record
from tests.support.store import cancel_one, requeue_one

if TYPE_CHECKING:
    from flowli_core.drivers.redis import RedisDriver
    from flowli_core.new_records import NewRecord

ONE = Lane("api", "a", concurrency=1)
TWO_IN_A_MINUTE = Lane("mail", "b", rate=Rate(2, timedelta(minutes=1)))


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
