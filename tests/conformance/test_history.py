"""The numbers of enqueued and finished jobs, by minute, by hour, and in total."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.driver import Cancelled, Outcome, Released, Retried
from flowli_core.durations import ZERO
from flowli_core.history import (
    DURATION_BUCKETS,
    HOURS_KEPT,
    MINUTES_KEPT,
    MOST_HISTORY_JOBS,
    OTHERS,
    HistoryEntry,
    HistoryQuery,
    Resolution,
    bucket_of,
)
from flowli_core.stored import StoredSchedule
from tests.conformance.builders import (
    BROKEN,
    DONE,
    HOUR,
    LEASE,
    Worker,
    ack,
    finish,
    lose,
    record,
    soon,
    stored,
    waiting_step,
)
from tests.support.store import cancel_one, find_schedule, put, requeue_one

if TYPE_CHECKING:
    from flowli_core.driver import Driver
    from flowli_core.testing import ManualClock

AGAIN = Retried(ZERO, b'{"failures":1}')
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
ALL = 1_000
"""More periods than are kept."""


async def read(
    driver: Driver,
    resolution: Resolution = "total",
    periods: int = ALL,
    *,
    before: datetime | None = None,
    name: str | None = None,
    queue: str | None = None,
) -> list[HistoryEntry]:
    """Return the entries of the history."""
    query = HistoryQuery(resolution=resolution, periods=periods, before=before, name=name, queue=queue)
    return (await driver.history(query))[1]


def numbers(entry: HistoryEntry) -> dict[str, int]:
    """Return the numbers of an entry that are not zero, and how many durations it counts."""
    assert len(entry.waits) == len(entry.runs) == DURATION_BUCKETS
    found = {one.name: getattr(entry, one.name) for one in fields(entry) if one.type == "int" or one.type is int}
    found |= {"waits": sum(entry.waits), "runs": sum(entry.runs)}
    return {name: number for name, number in found.items() if number}


async def total(driver: Driver) -> dict[str, int]:
    """Return the numbers of the only entry of the total. Check that the minutes and the hours have the same sums."""
    (entry,) = await read(driver)
    for resolution in ("minute", "hour"):
        sums: Counter[str] = Counter()
        for part in await read(driver, resolution):
            sums.update(numbers(part))
        assert sums == numbers(entry), resolution
    return numbers(entry)


def one_in(bucket: int) -> tuple[int, ...]:
    """Return a histogram of one duration."""
    return tuple([int(place == bucket) for place in range(DURATION_BUCKETS)])


@pytest.mark.parametrize("resolution", ["minute", "hour", "total"])
async def test_a_new_store_has_no_history(driver: Driver, clock: ManualClock, resolution: Resolution) -> None:
    """The answer has the time of the store and no entries."""
    assert await driver.history(HistoryQuery(resolution=resolution, periods=ALL)) == (clock.now(), [])


async def test_an_entry_names_its_job_queue_and_period(driver: Driver, clock: ManualClock) -> None:
    """A period starts with its minute or hour, and a total in 1970."""
    clock.advance(timedelta(minutes=90, seconds=3))
    await driver.enqueue([record(name="a job: \N{SNOWMAN}", queue="a queue")])
    found = [(await read(driver, resolution))[0] for resolution in ("minute", "hour", "total")]
    assert [(one.name, one.queue, one.enqueued) for one in found] == [("a job: \N{SNOWMAN}", "a queue", 1)] * 3
    minute = clock.now() - 3 * SECOND
    assert [one.start for one in found] == [minute, minute - 30 * MINUTE, datetime(1970, 1, 1, tzinfo=minute.tzinfo)]


async def test_each_accepted_record_counts_once(driver: Driver) -> None:
    """An enqueue that is sent again counts nothing, and neither does a record whose key is held."""
    batch = [record("a", key="k"), record("b"), record("c", key="k"), record("b")]
    await driver.enqueue(batch)
    await driver.enqueue(batch)
    assert await total(driver) == {"enqueued": 2}


async def test_a_record_whose_id_is_still_taken_counts_once(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """Its first record has been removed, so the second is a duplicate."""
    await driver.enqueue([record("a", keep_id=HOUR)])
    await worker.settle(await worker.take_one())
    clock.advance(SECOND)
    assert await driver.purge("completed", older_than=ZERO, limit=1) == 1
    await driver.enqueue([record("a", keep_id=HOUR)])
    assert (await total(driver))["enqueued"] == 1


async def test_a_record_that_is_due_later_counts_when_it_is_accepted(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """It does not count again when it becomes due or is reserved."""
    await driver.enqueue([record(due=HOUR)])
    start = clock.now()
    assert await total(driver) == {"enqueued": 1}
    clock.advance(HOUR)
    await worker.take_one()
    (entry,) = await read(driver, "minute")
    assert (entry.start, numbers(entry)) == (start, {"enqueued": 1})


async def test_the_record_of_a_tick_counts_as_enqueued(driver: Driver, clock: ManualClock) -> None:
    """It counts only if the schedule is stored with it, and once."""
    new = StoredSchedule(key="s", queue="q", spec=b"{}", next_tick=clock.now())
    assert await put(driver, new, [record("tick", queue="q2")])
    assert not await put(driver, new, [record("refused")])
    found = await find_schedule(driver, "s")
    assert found is not None
    assert await put(driver, found, [record("tick", queue="q2")])
    assert await total(driver) == {"enqueued": 1}
    assert [one.queue for one in await read(driver)] == ["q2"]


@pytest.mark.parametrize(
    ("outcome", "counted"),
    [(DONE, "completed"), (BROKEN, "failed"), (AGAIN, "retried"), (Cancelled(), "cancelled")],
)
async def test_an_attempt_counts_by_its_outcome(driver: Driver, outcome: Outcome, counted: str) -> None:
    """The time before it and its duration are counted too."""
    await finish(driver, "a", outcome)
    assert await total(driver) == {"enqueued": 1, counted: 1, "waits": 1, "runs": 1}


@pytest.mark.parametrize("delay", [ZERO, SECOND])
async def test_a_released_record_counts_as_nothing(driver: Driver, delay: timedelta) -> None:
    """It was no attempt."""
    await finish(driver, "a", Released(delay))
    assert await total(driver) == {"enqueued": 1}


@pytest.mark.parametrize(
    ("outcome", "counted"),
    [
        (DONE, {"completed": 1, "waits": 1, "runs": 1}),
        (BROKEN, {"failed": 1, "waits": 1, "runs": 1}),
        (AGAIN, {"cancelled": 1, "waits": 1, "runs": 1}),
        (Cancelled(), {"cancelled": 1, "waits": 1, "runs": 1}),
        (Released(), {"cancelled": 1}),
    ],
)
async def test_a_cancelled_active_record_counts_by_the_state_in_which_it_finishes(
    driver: Driver, worker: Worker, outcome: Outcome, counted: dict[str, int]
) -> None:
    """The request counts as nothing. An attempt that would be retried, and is cancelled, is not retried."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    await cancel_one(driver, "a")
    assert await total(driver) == {"enqueued": 1}
    await worker.settle(held, outcome)
    assert await total(driver) == {"enqueued": 1, **counted}


@pytest.mark.parametrize("due", [ZERO, HOUR])
async def test_a_cancelled_waiting_record_counts_once(driver: Driver, due: timedelta) -> None:
    """It has not run, so there are no durations."""
    await driver.enqueue([record("a", due=due)])
    for _ in range(2):
        await cancel_one(driver, "a")
    assert await total(driver) == {"enqueued": 1, "cancelled": 1}


async def test_the_durations_of_an_attempt_are_counted_in_their_buckets(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """A record waits from its due time until its handler starts, and runs from then until it is settled."""
    await driver.enqueue([record(due=5 * SECOND)])
    clock.advance(15 * SECOND)
    held = await worker.take_one()
    started = clock.now() + SECOND
    clock.advance(4 * SECOND)
    await worker.settle(held, started_at=started)
    (entry,) = await read(driver)
    assert (entry.waits, entry.runs) == (one_in(bucket_of(11_000)), one_in(bucket_of(3_000)))


async def test_without_a_start_the_durations_count_from_the_reservation(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    await driver.enqueue([record()])
    clock.advance(2 * SECOND)
    held = await worker.take_one()
    clock.advance(timedelta(milliseconds=1))
    await worker.settle(held)
    (entry,) = await read(driver)
    assert (entry.waits, entry.runs) == (one_in(bucket_of(2_000)), one_in(1))


async def test_the_attempts_of_one_step_have_their_own_durations(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    await driver.enqueue([record("a"), record("b")])
    held, start = await worker.take(2), clock.now()
    clock.advance(4 * SECOND)
    await worker.step(ack(held[0], started_at=start), ack(held[1], started_at=start + 3 * SECOND))
    (entry,) = await read(driver)
    assert (entry.runs[bucket_of(4_000)], entry.runs[bucket_of(1_000)]) == (1, 1)


@pytest.mark.parametrize(
    ("milliseconds", "bucket"),
    [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (1023, 10), (1024, 11), (2**26 - 1, 26), (2**26, 27), (2**30, 27)],
)
async def test_a_bucket_ends_before_the_next_power_of_two(
    driver: Driver, worker: Worker, clock: ManualClock, milliseconds: int, bucket: int
) -> None:
    """The last bucket holds whatever takes longer."""
    assert bucket_of(milliseconds) == bucket
    await driver.enqueue([record()])
    clock.advance(timedelta(milliseconds=milliseconds))
    held = await worker.take_one(lease=timedelta(days=30))
    clock.advance(timedelta(milliseconds=milliseconds))
    await worker.settle(held)
    (entry,) = await read(driver)
    assert (entry.waits, entry.runs) == (one_in(bucket), one_in(bucket))


@pytest.mark.parametrize("start", [-MINUTE, MINUTE])
async def test_a_duration_is_never_negative(
    driver: Driver, worker: Worker, clock: ManualClock, start: timedelta
) -> None:
    """A start before the due time, or after now, makes it zero."""
    await driver.enqueue([record()])
    held = await worker.take_one()
    await worker.settle(held, started_at=clock.now() + start)
    (entry,) = await read(driver)
    assert (entry.waits if start < ZERO else entry.runs) == one_in(0)
    assert await total(driver) == {"enqueued": 1, "completed": 1, "waits": 1, "runs": 1}


async def test_the_next_attempt_waits_from_its_own_due_time(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """The delay of a retry is not part of the wait."""
    await driver.enqueue([record()])
    await worker.settle(await worker.take_one(), Retried(HOUR, b"{}"))
    clock.advance(HOUR + SECOND)
    await worker.settle(await worker.take_one())
    (entry,) = await read(driver)
    assert (entry.waits[0], entry.waits[bucket_of(1_000)]) == (1, 1)


async def test_a_step_that_is_sent_again_counts_nothing(driver: Driver, worker: Worker) -> None:
    """Each of its acks counted the first time."""
    await driver.enqueue([record(name) for name in "abcd"])
    held = await worker.take(4)
    await worker.step(ack(held[0]), ack(held[1], BROKEN), ack(held[2], AGAIN), ack(held[3], Cancelled()))
    expected = {"enqueued": 4, "completed": 1, "failed": 1, "retried": 1, "cancelled": 1, "waits": 4, "runs": 4}
    assert await total(driver) == expected
    for _ in range(3):
        await worker.again()
    assert await total(driver) == expected


async def test_a_duplicate_ack_counts_nothing(driver: Driver, worker: Worker) -> None:
    """It may come in the same step or in another."""
    await driver.enqueue([record()])
    held = await worker.take_one()
    assert (await worker.step(ack(held), ack(held))).acks == ("ok", "duplicate")
    assert await worker.settle(held) == "duplicate"
    assert await total(driver) == {"enqueued": 1, "completed": 1, "waits": 1, "runs": 1}


async def test_a_lost_ack_counts_nothing(driver: Driver, worker: Worker, other: Worker, clock: ManualClock) -> None:
    """The outcome of the other worker counts. A recovery stays counted, even if it is taken back."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    clock.advance(LEASE)
    again = await other.take_one()
    assert await worker.settle(held, BROKEN) == "lost"
    assert (await stored(driver, "a")).recoveries == 0
    assert await total(driver) == {"enqueued": 1, "recovered": 1}
    await other.settle(again)
    assert await total(driver) == {"enqueued": 1, "recovered": 1, "completed": 1, "waits": 1, "runs": 1}


async def test_an_expired_lease_counts_as_recovered_once(driver: Driver, clock: ManualClock) -> None:
    """It counts when it is recovered."""
    await driver.enqueue([record("a"), record("b")])
    assert len((await lose(driver, clock, want=2)).recovered) == 2
    await Worker(driver, "another").step()
    assert await total(driver) == {"enqueued": 2, "recovered": 2}


async def test_an_expired_lease_of_the_same_worker_counts_too(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """Such a recovery does not count against the record, but the lease has expired."""
    await driver.enqueue([record("a")])
    await worker.take_one()
    clock.advance(LEASE)
    await worker.step()
    assert (await stored(driver, "a")).recoveries == 0
    assert await total(driver) == {"enqueued": 1, "recovered": 1}


async def test_a_recovery_that_finishes_a_record_counts_as_that_too(driver: Driver, clock: ManualClock) -> None:
    """One record fails because its workers were lost, the other was to be cancelled."""
    await driver.enqueue([record("fails", name="fails", max_recoveries=0)])
    await lose(driver, clock)
    await driver.enqueue([record("cancelled", name="cancelled")])
    assert len(await Worker(driver, "a worker that dies").take()) == 1
    await cancel_one(driver, "cancelled")
    clock.advance(LEASE)
    await Worker(driver, "another").step()
    assert {one.name: numbers(one) for one in await read(driver)} == {
        "cancelled": {"enqueued": 1, "recovered": 1, "cancelled": 1},
        "fails": {"enqueued": 1, "recovered": 1, "failed": 1},
    }


async def test_a_waiting_step_counts_what_it_recovers(driver: Driver, clock: ManualClock) -> None:
    await driver.enqueue([record("a")])
    await Worker(driver, "a worker that dies").take_one()
    clock.advance(LEASE)
    assert len((await soon(driver.step(waiting_step()))).recovered) == 1
    assert await total(driver) == {"enqueued": 1, "recovered": 1}


async def test_a_record_that_is_requeued_counts_when_it_finishes_again(driver: Driver, worker: Worker) -> None:
    """It is not enqueued again."""
    await finish(driver, "a", BROKEN)
    await requeue_one(driver, "a")
    await worker.settle(await worker.take_one())
    assert await total(driver) == {"enqueued": 1, "failed": 1, "completed": 1, "waits": 2, "runs": 2}


async def test_the_numbers_stay_when_records_are_removed(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    await finish(driver, "a", DONE)
    clock.advance(SECOND)
    assert await driver.purge("completed", older_than=ZERO, limit=1) == 1
    await worker.step()
    assert await total(driver) == {"enqueued": 1, "completed": 1, "waits": 1, "runs": 1}


async def test_jobs_and_queues_are_counted_apart(driver: Driver) -> None:
    """Entries are ordered by name and queue. The query may name one of them, or both."""
    for name, queue, number in (("b", "q1", 1), ("a", "q2", 2), ("a", "q1", 3), ("b", "q0", 4)):
        await driver.enqueue([record(name=name, queue=queue) for _ in range(number)])

    async def found(name: str | None = None, queue: str | None = None) -> list[tuple[str, str, int]]:
        expected = [
            (one.name, one.queue, one.enqueued)
            for one in await read(driver)
            if name in {None, one.name} and queue in {None, one.queue}
        ]
        for resolution in ("minute", "hour", "total"):
            entries = await read(driver, resolution, name=name, queue=queue)
            assert [(one.name, one.queue, one.enqueued) for one in entries] == expected
        return expected

    assert await found() == [("a", "q1", 3), ("a", "q2", 2), ("b", "q0", 4), ("b", "q1", 1)]
    assert await found(name="a") == [("a", "q1", 3), ("a", "q2", 2)]
    assert await found(queue="q1") == [("a", "q1", 3), ("b", "q1", 1)]
    assert await found(name="b", queue="q0") == [("b", "q0", 4)]
    assert await found(name="nobody") == await found(queue="") == []


@pytest.mark.parametrize(("resolution", "length"), [("minute", MINUTE), ("hour", HOUR)])
async def test_a_period_is_found_by_its_start(
    driver: Driver, clock: ManualClock, resolution: Resolution, length: timedelta
) -> None:
    """`periods` counts back from the last period that starts before `before`. A period without entries counts too."""
    start = clock.now()
    for name, after in (("first", 1), ("second", 2), ("fourth", 0)):
        await driver.enqueue([record(name=name)])
        clock.advance(after * length)

    async def names(periods: int, before: datetime | None = None) -> list[str]:
        entries = await read(driver, resolution, periods, before=before)
        assert [one.start for one in entries] == sorted([one.start for one in entries])
        return [one.name for one in entries]

    assert await names(1) == ["fourth"]
    assert await names(2) == ["fourth"]
    assert await names(3) == ["second", "fourth"]
    assert await names(4) == await names(ALL) == ["first", "second", "fourth"]
    assert await names(1, start + 3 * length) == []
    assert await names(2, start + 3 * length) == ["second"]
    assert await names(1, start + 2 * length) == ["second"]
    assert await names(1, start + length + SECOND) == ["second"]
    assert await names(1, start + length) == ["first"]
    assert await names(ALL, start) == []
    assert await names(ALL, start + 10 * length) == ["first", "second", "fourth"]
    assert await names(6, start + 10 * length) == []


async def test_a_total_has_neither_periods_nor_an_end(driver: Driver, clock: ManualClock) -> None:
    await finish(driver, "a", DONE)
    clock.advance(timedelta(days=1))
    await finish(driver, "b", BROKEN)
    before = datetime(1970, 1, 1, tzinfo=clock.now().tzinfo)
    assert await read(driver, periods=1, before=before) == await read(driver)
    assert [numbers(one) for one in await read(driver)] == [
        {"enqueued": 2, "completed": 1, "failed": 1, "waits": 2, "runs": 2}
    ]


@pytest.mark.parametrize(("resolution", "kept"), [("minute", MINUTES_KEPT), ("hour", HOURS_KEPT)])
async def test_a_period_is_kept_long_enough_and_not_much_longer(
    driver: Driver, worker: Worker, clock: ManualClock, resolution: Resolution, kept: timedelta
) -> None:
    """The others are removed by the steps that follow. A total stays."""
    start = clock.now()
    await driver.enqueue([record(name="old", due=timedelta(days=30))])
    clock.advance(kept)
    await driver.enqueue([record(name="new", due=timedelta(days=30))])
    await worker.step()
    assert [one.name for one in await read(driver, resolution)] == ["old", "new"]
    clock.advance(kept / 4)
    await driver.enqueue([record(name="newer", due=timedelta(days=30))])
    for _ in range(3):
        await worker.step()
    assert [one.name for one in await read(driver, resolution)] == ["new", "newer"]
    assert await read(driver, resolution, before=start + HOUR) == []
    assert sorted([one.name for one in await read(driver)]) == ["new", "newer", "old"]


async def test_a_clock_that_is_set_back_counts_everything_once(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """The minutes that are to come again keep what was counted in them."""
    start = clock.now()
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    clock.advance(10 * MINUTE)
    await driver.enqueue([record("b"), record("c")])
    clock.back(5 * MINUTE)
    await worker.settle(held)
    await worker.again()
    assert await read(driver, "minute", 1, before=clock.now()) == []
    entries = await read(driver, "minute", before=start + HOUR)
    assert [(one.start - start, one.enqueued, one.completed) for one in entries] == [
        (ZERO, 1, 0),
        (5 * MINUTE, 0, 1),
        (10 * MINUTE, 2, 0),
    ]
    assert [one.start - start for one in await read(driver, "minute")] == [ZERO, 5 * MINUTE]
    clock.advance(5 * MINUTE)
    await driver.enqueue([record("d")])
    (last,) = await read(driver, "minute", 1)
    assert (last.start - start, last.enqueued) == (10 * MINUTE, 3)
    assert (await total(driver))["enqueued"] == 4


async def test_pairs_of_job_and_queue_beyond_the_limit_are_counted_together(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """A period counts the first ones apart. They stay apart, and the next period starts anew."""
    known = [record(name=f"job {number:03d}") for number in range(MOST_HISTORY_JOBS)]
    await driver.enqueue(known)
    await driver.enqueue([record(name=name, queue=queue) for name in ("x", "y", "job 001") for queue in ("q2", "q3")])
    await driver.enqueue([record(name="job 001")])
    held = await worker.take(MOST_HISTORY_JOBS + 1)
    await worker.step(*[ack(one) for one in held])
    for resolution in ("minute", "hour", "total"):
        entries = await read(driver, resolution)
        assert len(entries) == MOST_HISTORY_JOBS + 1
        first, *_ = entries
        assert (first.name, first.queue, first.enqueued) == (OTHERS, OTHERS, 6)
        assert {one.name: one.completed for one in entries} == {
            OTHERS: 0,
            **{one.name: 1 + (one.name == "job 001") for one in known},
        }
    clock.advance(MINUTE)
    await driver.enqueue([record(name="x", queue="q2"), record(name="job 002")])
    assert [(one.name, one.queue) for one in await read(driver, "minute", 1)] == [("job 002", "q"), ("x", "q2")]
    assert {one.name: one.enqueued for one in await read(driver) if one.enqueued > 1} == {
        OTHERS: 7,
        "job 001": 2,
        "job 002": 2,
    }
