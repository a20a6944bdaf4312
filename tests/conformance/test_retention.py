"""Finished records are removed by time and number, and purging by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.driver import Cancelled
from flowli_core.durations import ZERO
from flowli_core.limits import TRIM_PER_STEP, Keep
from flowli_core.stored import FINISHED, QueueCounts
from tests.conformance.builders import (
    BROKEN,
    DONE,
    HOUR,
    Worker,
    ack,
    everything,
    finish,
    fresh_id,
    ids,
    record,
    stored,
)
from tests.support.store import find

if TYPE_CHECKING:
    from flowli_core.driver import Driver, Outcome
    from flowli_core.stored import FinishedState
    from flowli_core.testing import ManualClock

ENDS: dict[FinishedState, Outcome] = {"completed": DONE, "failed": BROKEN, "cancelled": Cancelled()}
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize("state", FINISHED)
async def test_a_finished_record_is_kept_for_its_own_time(
    driver: Driver, worker: Worker, clock: ManualClock, state: FinishedState
) -> None:
    """Each record has one retention time for completing, and another for failing or being cancelled."""
    keep = timedelta(seconds=10)
    lengths = {"completed": (keep, HOUR), "failed": (HOUR, keep), "cancelled": (HOUR, keep)}
    completed, failed = lengths[state]
    await driver.enqueue([record("a", keep_completed=completed, keep_failed=failed)])
    await worker.settle(await worker.take_one(), ENDS[state])
    clock.advance("9999ms")
    await worker.step()
    assert (await stored(driver, "a")).state == state
    clock.advance("1ms")
    await worker.step()
    assert await find(driver, "a") is None


@pytest.mark.parametrize("state", FINISHED)
async def test_a_record_that_finished_before_the_clock_was_set_back_is_kept_as_long(
    driver: Driver, worker: Worker, clock: ManualClock, state: FinishedState
) -> None:
    """Its end of retention is later than that of a record that finishes now, and yet it is sound."""
    keep = timedelta(seconds=10)
    await driver.enqueue([record("a", keep_completed=keep, keep_failed=keep)])
    await worker.settle(await worker.take_one(), ENDS[state])
    clock.back("30s")
    await Worker(driver, "first").step()
    clock.advance("20s")
    await Worker(driver, "second").step()
    clock.advance("19999ms")
    await worker.step()
    assert (await stored(driver, "a")).state == state
    clock.advance("1ms")
    await worker.step()
    assert await find(driver, "a") is None


async def test_times_differ_from_record_to_record(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A record with a long retention time neither keeps others nor goes with them."""
    seconds = [30, 10, 20]
    await driver.enqueue([record(str(keep), keep_completed=timedelta(seconds=keep)) for keep in seconds])
    await worker.step(*[ack(held) for held in await worker.take(3)])
    left: list[list[str]] = []
    for _ in range(3):
        clock.advance("10s")
        await worker.step()
        left.append(ids(await everything(driver, "completed")))
    assert left == [["30", "20"], ["30"], []]


@pytest.mark.parametrize("state", FINISHED)
async def test_the_oldest_are_removed_if_there_are_too_many(
    driver: Driver, worker: Worker, clock: ManualClock, state: FinishedState
) -> None:
    """A step keeps at most the given number of finished records of a state."""
    for name in "abcde":
        await finish(driver, name, ENDS[state])
        clock.advance("1ms")
    await worker.step(keep=replace(Keep(completed=0, failed=0, cancelled=0), **{state: 2}))
    assert ids(await everything(driver, state)) == ["e", "d"]


async def test_each_state_has_a_limit_of_its_own(driver: Driver, worker: Worker) -> None:
    """Many completed records do not remove a failed one."""
    for name, outcome in (("a", BROKEN), ("b", Cancelled()), ("c", DONE), ("d", DONE)):
        await finish(driver, name, outcome)
    await worker.step(keep=Keep(completed=1, failed=1, cancelled=1))
    assert [ids(await everything(driver, state)) for state in FINISHED] == [["d"], ["a"], ["b"]]


async def test_a_step_trims_what_it_has_just_finished(driver: Driver, worker: Worker) -> None:
    """If nothing is to be kept, a settled record is gone with its ack."""
    await driver.enqueue([record("a"), record("b", keep_completed=ZERO)])
    a, b = await worker.take(2)
    assert (await worker.step(ack(b))).acks == ("ok",)
    assert await find(driver, "b") is None
    assert (await worker.step(ack(a), keep=Keep(completed=0))).acks == ("ok",)
    assert await find(driver, "a") is None
    assert (await worker.step(ack(a))).acks == ("lost",)


async def test_trimming_is_bounded(driver: Driver, worker: Worker) -> None:
    """A step removes a limited number of records, and the next steps go on."""
    await driver.enqueue([record() for _ in range(TRIM_PER_STEP + 5)])
    await worker.step(*[ack(held) for held in await worker.take(TRIM_PER_STEP + 5)], keep=Keep(completed=10**6))
    assert (await driver.overview()).counts.completed == TRIM_PER_STEP + 5
    await worker.step(keep=Keep(completed=0))
    assert (await driver.overview()).counts.completed == 5
    await worker.step(keep=Keep(completed=0))
    assert (await driver.overview()).counts.completed == 0


async def test_unfinished_records_are_never_trimmed(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """Retention applies to finished records only."""
    await driver.enqueue([record("a", keep_completed=ZERO, keep_failed=ZERO) for _ in range(1)])
    await driver.enqueue([record("b", due=timedelta(days=30), keep_failed=ZERO), record("c", keep_failed=ZERO)])
    await worker.take_one(lease=timedelta(days=60))
    clock.advance("20d")
    await worker.step(keep=Keep(completed=0, failed=0, cancelled=0))
    assert [(await stored(driver, name)).state for name in "abc"] == ["active", "scheduled", "queued"]


async def test_nothing_is_left_after_retention(driver: Driver, clock: ManualClock) -> None:
    """However many jobs ran in however many queues, the store is empty when their time is over."""
    for number in range(30):
        outcome = list(ENDS.values())[number % 3]
        await finish(driver, fresh_id(), outcome, queue=f"queue-{number}")
    clock.advance("14d")
    await Worker(driver).step()
    assert (await driver.overview()).counts == QueueCounts()
    assert [await everything(driver, state) for state in FINISHED] == [[], [], []]


@pytest.mark.parametrize("state", FINISHED)
async def test_purging_removes_what_is_older(driver: Driver, clock: ManualClock, state: FinishedState) -> None:
    """A purge removes the records that finished in its state before a time, and no others."""
    another = ENDS[FINISHED[FINISHED.index(state) - 1]]
    for name, outcome in (("a", ENDS[state]), ("b", ENDS[state]), ("x", another)):
        await finish(driver, name, outcome)
        clock.advance("10s")
    await driver.enqueue([record("w")])
    assert await driver.purge(state, older_than=timedelta(seconds=25), limit=10) == 1
    assert await find(driver, "a") is None
    assert [await find(driver, name) is not None for name in "bxw"] == [True, True, True]


async def test_purging_is_limited(driver: Driver, clock: ManualClock) -> None:
    """A purge removes at most `limit` records, the oldest first, and returns how many."""
    for name in "cab":
        await finish(driver, name, DONE)
        clock.advance("1s")
    assert await driver.purge("completed", older_than=ZERO, limit=2) == 2
    assert ids(await everything(driver, "completed")) == ["b"]
    assert await driver.purge("completed", older_than=ZERO, limit=2) == 1
    assert await driver.purge("completed", older_than=ZERO, limit=2) == 0


async def test_purging_keeps_a_record_of_exactly_that_age(driver: Driver, clock: ManualClock) -> None:
    """Only older records are removed."""
    await finish(driver, "a", DONE)
    clock.advance("10s")
    assert await driver.purge("completed", older_than=timedelta(seconds=10), limit=10) == 0
    clock.advance("1ms")
    assert await driver.purge("completed", older_than=timedelta(seconds=10), limit=10) == 1


async def test_the_ack_of_a_removed_record_is_lost(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """Once a record is removed, nothing shows that it was settled."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    await worker.settle(held)
    clock.advance("2s")
    await driver.purge("completed", older_than=SECOND, limit=10)
    assert await worker.settle(held) == "lost"
