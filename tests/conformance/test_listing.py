"""Listing the records in a state, and counting records."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.driver import Cancelled, Completed, Failed, Released, Retried
from flowli_core.durations import ZERO
from flowli_core.limits import Keep
from flowli_core.stored import FINISHED, STATES, Position, QueueCounts, StateCounts, position
from tests.conformance.builders import (
    BROKEN,
    DONE,
    LEASE,
    Worker,
    ack,
    assert_consistent,
    everything,
    finish,
    ids,
    record,
    stored,
)
from tests.support.store import cancel_one, read_page, requeue_one

if TYPE_CHECKING:
    from flowli_core.driver import Driver, Outcome
    from flowli_core.stored import FinishedState, State
    from flowli_core.testing import ManualClock

ENDS: dict[FinishedState, Outcome] = {"completed": DONE, "failed": BROKEN, "cancelled": Cancelled()}


async def fill(driver: Driver, state: State, names: str, clock: ManualClock) -> None:
    """Bring records into a state, finished or due one millisecond after the other."""
    if state in FINISHED:
        for name in names:
            await finish(driver, name, ENDS[state])
            clock.advance("1ms")
        return
    for number, name in enumerate(names):
        due = timedelta(hours=1, milliseconds=number) if state == "scheduled" else ZERO
        await driver.enqueue([record(name, due=due)])
        if state != "scheduled":
            clock.advance("1ms")
    if state == "active":
        await Worker(driver, "filler").take(len(names), lease=timedelta(days=1))


@pytest.mark.parametrize("state", STATES)
async def test_every_state_is_listed_newest_first(driver: Driver, clock: ManualClock, state: State) -> None:
    """The pages follow each other without a gap or a repetition; the last one is empty."""
    await fill(driver, state, "abcde", clock)
    pages: list[list[str]] = []
    after: Position | None = None
    while page := await read_page(driver, state, limit=2, after=after):
        pages.append(ids(page))
        after = position(page[-1])
    assert pages == [["e", "d"], ["c", "b"], ["a"]]


@pytest.mark.parametrize("state", STATES)
async def test_a_record_is_listed_in_its_own_state_only(driver: Driver, clock: ManualClock, state: State) -> None:
    """The listings of the other states are empty."""
    await fill(driver, state, "ab", clock)
    assert {one: len(await everything(driver, one)) for one in STATES} == {one: 2 * (one == state) for one in STATES}


@pytest.mark.parametrize("state", STATES)
async def test_a_listing_has_complete_records(driver: Driver, clock: ManualClock, state: State) -> None:
    """They equal the records that are looked up by id."""
    await fill(driver, state, "ab", clock)
    assert await read_page(driver, state, limit=5) == [await stored(driver, "b"), await stored(driver, "a")]


@pytest.mark.parametrize("state", ["queued", "completed", "failed", "cancelled"])
async def test_records_of_one_moment_are_listed_by_id(driver: Driver, state: State) -> None:
    """Ids break the tie, so a page may end between two records of the same millisecond."""
    for name in "badc":
        if state == "queued":
            await driver.enqueue([record(name)])
        else:
            assert state in FINISHED
            await finish(driver, name, ENDS[state])
    assert ids(await everything(driver, state, limit=1)) == ["d", "c", "b", "a"]


async def test_active_records_are_listed_by_id(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """Renewing leases does not change their order."""
    await driver.enqueue([record("b")])
    await worker.take_one(lease=timedelta(hours=2))
    clock.advance("1s")
    await driver.enqueue([record("c"), record("a")])
    await worker.take(2)
    assert ids(await everything(driver, "active", limit=1)) == ["c", "b", "a"]


@pytest.mark.parametrize("state", STATES)
async def test_pages_are_stable_while_records_are_added(driver: Driver, clock: ManualClock, state: State) -> None:
    """Newer records are not on later pages, so no record is shown twice or left out."""
    await fill(driver, state, "abcd", clock)
    first = await read_page(driver, state, limit=2)
    if state == "scheduled":
        clock.advance("10ms")
    await fill(driver, state, "efg", clock)
    second = await read_page(driver, state, limit=5, after=position(first[-1]))
    assert ids(first) + ids(second) == ["d", "c", "b", "a"]


@pytest.mark.parametrize("state", FINISHED)
async def test_pages_are_stable_while_records_are_removed(
    driver: Driver, clock: ManualClock, state: FinishedState
) -> None:
    """A page continues where the last one ended, also if the last record of that page is gone."""
    await fill(driver, state, "abcde", clock)
    first = await read_page(driver, state, limit=2)
    await requeue_one(driver, "d")
    await requeue_one(driver, "e")
    second = await read_page(driver, state, limit=2, after=position(first[-1]))
    assert (ids(first), ids(second)) == (["e", "d"], ["c", "b"])


async def test_a_listing_spans_all_queues(driver: Driver, clock: ManualClock) -> None:
    """Records of all queues are listed in one order."""
    for name, queue in (("a", "q1"), ("b", "q2"), ("c", "q1")):
        await driver.enqueue([record(name, queue=queue)])
        clock.advance("1ms")
    assert ids(await read_page(driver, "queued", limit=10)) == ["c", "b", "a"]


async def test_a_suspect_is_listed_like_any_other(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A waiting suspect is queued or scheduled."""
    await driver.enqueue([record("a", max_recoveries=1)])
    await worker.take_one()
    clock.advance(LEASE)
    await worker.step()
    assert ids(await everything(driver, "queued")) == ["a"]
    await worker.settle(await worker.take_one(), Released(LEASE))
    assert ids(await everything(driver, "scheduled")) == ["a"]
    assert (await driver.overview()).counts.scheduled == 1


@pytest.mark.parametrize("state", STATES)
async def test_an_empty_state_has_an_empty_page(driver: Driver, state: State) -> None:
    """Listing nothing is no error."""
    assert await read_page(driver, state, limit=10) == []


async def test_a_position_needs_no_record(driver: Driver, clock: ManualClock) -> None:
    """A page may begin behind a position that no record has."""
    await fill(driver, "queued", "abc", clock)
    found = await stored(driver, "b")
    page = await read_page(driver, "queued", limit=10, after=Position(found.scheduled_for, "bb"))
    assert ids(page) == ["b", "a"]
    assert await read_page(driver, "queued", limit=10, after=Position(found.created_at - LEASE, "z")) == []


async def test_an_empty_store_counts_nothing(driver: Driver) -> None:
    """A queue without records has no counts."""
    assert (await driver.overview()).counts == QueueCounts()


async def test_counts_are_by_state_and_queue(driver: Driver, clock: ManualClock) -> None:
    """Each queue that holds any record has counts of its own; their sums are those of the store."""
    await driver.enqueue([record(queue="a"), record(queue="a", due=LEASE), record(queue="b", due=LEASE)])
    await finish(driver, "x", DONE, queue="c")
    await driver.enqueue([record(queue="c"), record(queue="d")])
    await Worker(driver, queues=("d",)).take()
    assert (await driver.overview()).counts == QueueCounts(
        queued=2,
        scheduled=2,
        active=1,
        completed=1,
        by_queue={
            "a": StateCounts(queued=1, scheduled=1),
            "b": StateCounts(scheduled=1),
            "c": StateCounts(queued=1, completed=1),
            "d": StateCounts(active=1),
        },
    )


async def test_counts_follow_the_time(driver: Driver, clock: ManualClock) -> None:
    """A scheduled record counts as queued as soon as it is due."""
    await driver.enqueue([record(due=timedelta(seconds=5))])
    clock.advance("4999ms")
    assert (await driver.overview()).counts == QueueCounts(scheduled=1, by_queue={"q": StateCounts(scheduled=1)})
    clock.advance("1ms")
    assert (await driver.overview()).counts == QueueCounts(queued=1, by_queue={"q": StateCounts(queued=1)})


async def test_counts_agree_with_the_listings_after_every_transition(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """Each record is counted once, in its state."""

    async def holds() -> None:
        clock.advance("1ms")
        await assert_consistent(driver)

    await driver.enqueue([record(name, max_recoveries=1, key=name) for name in "abcdefgh"])
    await driver.enqueue([record("i", due=LEASE), record("j", queue="elsewhere"), record("a"), record("x", key="b")])
    await holds()
    batch = await worker.take(8)
    await holds()
    outcomes: list[Outcome] = [DONE, BROKEN, Cancelled()]
    outcomes += [Retried(LEASE, b"{}"), Retried(ZERO, b"{}"), Released(), Released(LEASE)]
    for held, outcome in zip(batch, outcomes, strict=False):
        assert await worker.settle(held, outcome) == "ok"
        assert await worker.settle(held, outcome) == "duplicate"
        await holds()
    for _ in range(2):
        clock.advance(LEASE)
        await worker.step(want=2)
        await holds()
        await worker.again()
        await holds()
    clock.advance(LEASE)
    await worker.step()
    await holds()
    for name in "abcdefghij":
        await cancel_one(driver, name)
        await holds()
        await requeue_one(driver, name)
        await holds()
    await worker.step(*[ack(one, Failed(b"{}")) for one in await worker.take(3)], keep=Keep(failed=1))
    await holds()
    clock.advance("1d")
    await worker.step(*[ack(one, Completed(b"1")) for one in await worker.take(10)])
    await holds()
    await driver.purge("completed", older_than=ZERO, limit=2)
    await holds()


@pytest.mark.parametrize("state", STATES)
async def test_a_listing_without_payloads_has_everything_else(driver: Driver, clock: ManualClock, state: State) -> None:
    await fill(driver, state, "abc", clock)
    await driver.enqueue([record("with all", due=timedelta(hours=2), meta=b'"m"', key="k with spaces")])
    whole = await read_page(driver, state, limit=10)
    assert whole
    assert await read_page(driver, state, limit=10, payloads=False) == [
        replace(one, input=b"", meta=None, result=None) for one in whole
    ]


async def test_the_records_of_many_queues_are_listed_in_their_order_and_counted(
    driver: Driver, clock: ManualClock
) -> None:
    """There are more queues than one call of a server reads."""
    names = [f"{number:04}" for number in range(600)]
    for start in range(0, len(names), 200):
        some = names[start : start + 200]
        await driver.enqueue([record(f"{name} later", queue=name[::-1], due=LEASE * (int(name) + 1)) for name in some])
    await driver.enqueue([record(f"{name} now", queue=name[::-1]) for name in names[::2]])
    overview = await driver.overview()
    assert (overview.counts.scheduled, overview.counts.queued) == (600, 300)
    assert overview.counts.by_queue.keys() == {name[::-1] for name in names}
    assert overview.oldest.keys() == {name[::-1] for name in names[::2]}
    assert ids(await everything(driver, "scheduled", limit=250)) == [f"{name} later" for name in reversed(names)]
    assert ids(await everything(driver, "queued", limit=7)) == [f"{name} now" for name in reversed(names[::2])]


async def test_records_that_are_due_at_one_moment_are_listed_once_each(driver: Driver, clock: ManualClock) -> None:
    moment = clock.now() + LEASE
    names = [f"{number:03}" for number in range(400)]
    for start in (200, 0):
        await driver.enqueue([record(name, due=moment) for name in names[start : start + 200]])
    await driver.enqueue([record("earlier", due=LEASE / 2), record("later", due=LEASE * 2)])
    assert ids(await everything(driver, "scheduled", limit=60)) == ["later", *reversed(names), "earlier"]
