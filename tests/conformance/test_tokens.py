"""Tokens and revisions that are not used again, and tokens that only one worker may use."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from flowli_core.driver import HeartbeatAnswer, Released
from flowli_core.stored import StoredSchedule
from tests.conformance.builders import HOUR, LEASE, Worker, ack, ids, lease_of, record, stored
from tests.support.store import find_schedule, put

if TYPE_CHECKING:
    from flowli_core.driver import Driver
    from flowli_core.testing import ManualClock

MINUTE = 60_000_000
"""The microseconds of a minute."""


async def test_a_worker_cannot_settle_what_another_has_reserved(driver: Driver, worker: Worker, other: Worker) -> None:
    """Even under the right token: a store that has lost its last writes may have issued it to both."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    before = await stored(driver, "a")
    assert await other.settle(held) == "lost"
    assert await stored(driver, "a") == before
    assert await worker.settle(held) == "ok"


async def test_a_worker_cannot_renew_a_lease_of_another(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """It learns that it does not hold the record, and the lease ends when it would have ended."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    assert await driver.heartbeat("another", [lease_of(held)], HOUR) == HeartbeatAnswer(frozenset("a"))
    clock.advance(LEASE)
    assert [one.id for one in (await Worker(driver, "heir").step()).recovered] == ["a"]


async def test_a_worker_cannot_renew_its_lease_under_an_earlier_token(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """It has reserved the record again, so a heartbeat that is late renews nothing."""
    await driver.enqueue([record("a")])
    early = await worker.take_one()
    await worker.step(ack(early, Released()))
    await worker.take_one()
    clock.advance("20s")
    assert (await driver.heartbeat("w", [lease_of(early)], LEASE)).lost == {"a"}
    clock.advance("10s")
    assert [one.id for one in (await Worker(driver, "heir").step()).recovered] == ["a"]


async def test_a_step_sent_again_returns_nothing_of_another_worker(
    driver: Driver, worker: Worker, other: Worker
) -> None:
    """The batches of two workers are apart."""
    await driver.enqueue([record("a"), record("b")])
    assert ids(await worker.take()) == ["a"]
    assert ids(await other.take()) == ["b"]
    assert ids((await worker.again()).reserved) == ["a"]


async def test_a_token_is_greater_than_the_last_that_the_worker_knows(driver: Driver, worker: Worker) -> None:
    """The store may have lost that one, and its clock may be behind."""
    await driver.enqueue([record("a"), record("b")])
    known = (await worker.take_one()).token + 10 * MINUTE
    worker.last = replace(worker.last, last_token=known)
    assert (await worker.take_one()).token == known + 1


async def test_tokens_are_skipped_if_the_clock_was_set_back(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """Those of a minute, because the store may have lost that many. Then they go on one by one."""
    await driver.enqueue([record(name) for name in "abcd"])
    first = await worker.take_one()
    clock.back(HOUR)
    second, third = [await worker.take_one() for _ in range(2)]
    assert second.token > first.token + MINUTE
    assert third.token == second.token + 1
    clock.advance(2 * HOUR)
    assert (await worker.take_one()).token == clock.now().timestamp() * 1_000_000


async def test_tokens_are_skipped_if_a_heartbeat_is_the_first_call_after_the_clock_was_set_back(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """It also takes the time of the last write back."""
    await driver.enqueue([record("a"), record("b")])
    first = await worker.take_one()
    clock.back(HOUR)
    await driver.heartbeat("w", [lease_of(first)], LEASE)
    assert (await worker.take_one()).token > first.token + MINUTE


async def test_revisions_are_skipped_if_the_clock_was_set_back(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """So a change that was decided at a lost revision is not stored."""
    await worker.step()
    given = StoredSchedule(key="digest", queue="q", spec=b"{}", next_tick=None)
    assert await put(driver, given)
    first = await find_schedule(driver, "digest")
    clock.advance("1ms")
    await worker.step(*[ack(held) for held in await worker.take()])
    clock.back(timedelta(seconds=1))
    assert first is not None
    assert await put(driver, first)
    second = await find_schedule(driver, "digest")
    assert second is not None
    assert second.revision > first.revision + MINUTE
