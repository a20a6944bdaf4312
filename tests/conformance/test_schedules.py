"""A schedule changes only at the revision that was read, and together with the records of its ticks."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from flowli_core.durations import ZERO
from flowli_core.stored import ScheduleByKey, SchedulesAfter, SchedulesDue, StoredSchedule
from tests.conformance.builders import HOUR, LEASE, PATIENCE, Worker, ids, record, soon, step, stored, waiting_step
from tests.support.store import due_schedules, find_schedule, page_schedules, put

if TYPE_CHECKING:
    from datetime import datetime

    from flowli_core.driver import Driver
    from flowli_core.testing import ManualClock

SECOND = timedelta(seconds=1)


def schedule(
    key: str = "digest", *, next_tick: datetime | None, queue: str = "q", spec: bytes = b"{}"
) -> StoredSchedule:
    """Make a schedule that is not stored yet."""
    return StoredSchedule(key=key, queue=queue, spec=spec, next_tick=next_tick)


async def current(driver: Driver, key: str = "digest") -> StoredSchedule:
    """Return a schedule that must be stored."""
    found = await find_schedule(driver, key)
    assert found is not None
    return found


async def test_a_schedule_is_stored_as_it_is_given(driver: Driver, clock: ManualClock) -> None:
    """Everything comes back unchanged, whatever its key and its bytes contain."""
    given = StoredSchedule(
        key="Zürich: «daily» {x}*",
        queue="mail:slow",
        spec=b'{"a": 1}\n second line \xff',
        next_tick=clock.now() + HOUR,
        last_tick=clock.now() - HOUR,
        paused=True,
        last_record_id="id-1",
    )
    assert await put(driver, given)
    now, (found,) = await driver.schedules(ScheduleByKey(given.key))
    assert now == clock.now()
    assert replace(found, revision=0) == given
    over = replace(found, next_tick=None, last_tick=None, paused=False, last_record_id=None)
    assert await put(driver, over)
    assert replace(await current(driver, given.key), revision=found.revision) == over


async def test_a_revision_is_at_least_the_time_in_microseconds(driver: Driver, clock: ManualClock) -> None:
    """So a store that has lost its last change, and stores another, does not give that the same revision."""
    assert await put(driver, schedule(next_tick=None))
    first = await current(driver)
    assert first.revision >= clock.now().timestamp() * 1_000_000
    clock.advance("1ms")
    assert await put(driver, first)
    assert (await current(driver)).revision >= clock.now().timestamp() * 1_000_000


async def remove(driver: Driver, revision: int) -> bool:
    """Remove the schedule if it still has this revision."""
    return await driver.put_schedule("digest", None, revision=revision)


async def test_there_is_no_schedule_before_it_is_put_or_after_it_is_removed(driver: Driver, clock: ManualClock) -> None:
    """Each query returns the store's time, and nothing."""
    queries = (ScheduleByKey("digest"), SchedulesDue(10), SchedulesAfter(limit=10))
    assert [await driver.schedules(query) for query in queries] == [(clock.now(), [])] * 3
    await put(driver, schedule(next_tick=clock.now()))
    assert await remove(driver, (await current(driver)).revision)
    assert [await driver.schedules(query) for query in queries] == [(clock.now(), [])] * 3


async def test_a_schedule_that_was_changed_since_it_was_read_is_not_removed(driver: Driver, clock: ManualClock) -> None:
    """A removal compares the revision, like a change."""
    await put(driver, schedule(next_tick=clock.now()))
    seen = await current(driver)
    await put(driver, replace(seen, spec=b"new"))
    assert not await remove(driver, seen.revision)
    assert not await remove(driver, 0)
    assert (await current(driver)).spec == b"new"
    assert await remove(driver, (await current(driver)).revision)
    assert not await remove(driver, seen.revision)


async def test_only_one_of_several_creates_a_schedule(driver: Driver, clock: ManualClock) -> None:
    """The others get False, and their records are not stored."""
    tries = [
        put(driver, schedule(next_tick=clock.now() + HOUR, spec=b"%d" % number), [record(f"r{number}")])
        for number in range(5)
    ]
    assert sorted(await asyncio.gather(*tries)) == [False] * 4 + [True]
    assert (await driver.overview()).counts.queued == 1


async def test_only_one_of_several_fires_a_tick(driver: Driver, clock: ManualClock) -> None:
    """The records of a tick are stored once, however many have seen that it was due."""
    await put(driver, schedule(next_tick=clock.now()))
    (seen,) = await due_schedules(driver, 10)
    moved = replace(seen, next_tick=clock.now() + HOUR, last_tick=seen.next_tick)
    answers = await asyncio.gather(*[put(driver, moved, [record(f"tick-{n}")]) for n in range(5)])
    assert sorted(answers) == [False] * 4 + [True]
    assert (await driver.overview()).counts.queued == 1
    after = await current(driver)
    assert (after.next_tick, after.last_tick) == (clock.now() + HOUR, clock.now())
    assert (await stored(driver, after.last_record_id or "")).state == "queued"
    assert await driver.schedules(SchedulesDue(10)) == (clock.now(), [])


async def test_a_removed_schedule_is_not_restored_by_a_late_change(driver: Driver, clock: ManualClock) -> None:
    """Nor does that change replace a new schedule with the same key: no revision is used twice."""
    await put(driver, schedule(next_tick=clock.now()))
    seen = await current(driver)
    assert await remove(driver, seen.revision)
    assert not await put(driver, seen, [record()])
    await put(driver, schedule(next_tick=clock.now(), spec=b"new"))
    assert not await put(driver, seen, [record()])
    assert (await current(driver)).spec == b"new"
    assert (await driver.overview()).counts.queued == 0


async def test_the_last_record_is_the_last_that_was_accepted(driver: Driver, clock: ManualClock) -> None:
    """A record whose id is stored or whose key is held does not count."""
    await put(driver, schedule(next_tick=clock.now()))
    assert await put(driver, await current(driver), [record("a"), record("b", key="k")])
    assert (await current(driver)).last_record_id == "b"
    assert await put(driver, await current(driver), [record("a"), record("c", key="k")])
    assert (await current(driver)).last_record_id == "b"
    assert await put(driver, await current(driver), [record("d"), record("e", key="k")])
    assert (await current(driver)).last_record_id == "d"
    assert (await driver.overview()).counts.queued == 3


async def test_due_schedules_are_listed_earliest_first(driver: Driver, clock: ManualClock) -> None:
    """Schedules with a later tick or none are left out, and at most `limit` are returned."""
    for key, seconds in (("late", 2), ("early", 1), ("later", 3), ("future", 4)):
        await put(driver, schedule(key, next_tick=clock.now() + seconds * SECOND))
    await put(driver, schedule("over", next_tick=None))
    clock.advance("3s")
    due = await due_schedules(driver, 10)
    assert [one.key for one in due] == ["early", "late", "later"]
    due = await due_schedules(driver, 2)
    assert [one.key for one in due] == ["early", "late"]


async def test_schedules_are_listed_by_key(driver: Driver, clock: ManualClock) -> None:
    """They are listed page by page, in the order of code points, also those without a tick."""
    keys = ["a", "a b", "aa", "b", "z", "Ä", "Ω"]
    for key in reversed(keys):
        await put(driver, schedule(key, next_tick=None if key == "b" else clock.now()))
    found: list[str] = []
    while page := await page_schedules(driver, limit=2, after=found[-1] if found else None):
        found += [one.key for one in page]
    assert found == sorted(keys)


async def test_a_step_returns_the_time_until_the_next_tick(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """It is also part of `next_due` until it is due."""
    assert (await worker.step()).next_tick is None
    await put(driver, schedule("later", next_tick=clock.now() + HOUR, queue="elsewhere"))
    await put(driver, schedule("sooner", next_tick=clock.now() + SECOND, queue="elsewhere"))
    await put(driver, schedule("over", next_tick=None))
    answer = await worker.step()
    assert (answer.next_tick, answer.next_due) == (SECOND, SECOND)
    clock.advance("1500ms")
    answer = await worker.step()
    assert (answer.next_tick, answer.next_due) == (ZERO, None)
    await put(driver, replace(await current(driver, "sooner"), next_tick=None))
    answer = await worker.step()
    assert (answer.next_tick, answer.next_due) == (HOUR - 1.5 * SECOND, HOUR - 1.5 * SECOND)


async def test_a_step_reports_that_the_store_forgot_the_worker(driver: Driver) -> None:
    """A first step does not; a later one does if the step before it is not known."""
    assert not (await driver.step(step(sequence=1))).forgot
    assert not (await driver.step(step(sequence=2))).forgot
    assert not (await driver.step(step(sequence=2))).forgot
    assert (await driver.step(step(sequence=4))).forgot
    assert (await driver.step(step("another", sequence=7))).forgot
    assert not (await driver.step(step("another", sequence=8))).forgot


async def test_the_records_of_a_tick_can_be_reserved(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """They are like all other records."""
    await put(driver, schedule(next_tick=clock.now()))
    due = [record("second", due=clock.now() - SECOND), record("first", due=clock.now() - HOUR)]
    assert await put(driver, await current(driver), [*due, record("other", queue="q2", meta=b"1")])
    assert set(ids(await worker.take(10))) == {"first", "second"}
    assert ids(await Worker(driver, "w2", queues=("q2",)).take(10)) == ["other"]


async def test_an_earlier_tick_wakes_a_waiter(live_driver: Driver) -> None:
    """Otherwise an idle runner would learn of it only with its next step."""
    worker = Worker(live_driver)
    now = (await worker.step()).now
    waiting = asyncio.create_task(live_driver.step(waiting_step()))
    await asyncio.sleep(0)
    await put(live_driver, schedule(next_tick=now + timedelta(seconds=1)))
    async with asyncio.timeout(PATIENCE / 2):
        await waiting


async def test_the_records_of_a_tick_wake_a_waiter(live_driver: Driver) -> None:
    """Like records that are enqueued."""
    worker = Worker(live_driver)
    now = (await worker.step(lease=LEASE)).now
    await put(live_driver, schedule(next_tick=now + HOUR, queue="elsewhere"))
    waiting = asyncio.create_task(live_driver.step(waiting_step()))
    await asyncio.sleep(0)
    await put(live_driver, await current(live_driver), [record()])
    assert len((await soon(waiting)).reserved) == 1


async def test_a_clock_that_is_set_back_fires_no_tick_again(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """The next tick does not move."""
    await put(driver, schedule(next_tick=clock.now()))
    tick = clock.now()
    await put(driver, replace(await current(driver), next_tick=tick + SECOND), [record("t0")])
    await worker.step()  # so that the store has seen this time
    clock.back("1h")
    answer = await worker.step(want=5)
    assert ids(answer.reserved) == ["t0"]
    assert answer.next_tick == HOUR + SECOND
    assert await due_schedules(driver, 5) == []
