"""The history of jobs can be inspected: numbers and durations by minute, by hour and by job."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowli_core import Durations, History, HistoryNumbers, Jobs, ValidationError
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.history import DURATION_BUCKETS, MOST_HISTORY_JOBS, HistoryEntry, HistoryQuery, bucket_of
from flowli_core.testing import ManualClock, drain
from tests.conformance.builders import record
from tests.support.mailing import START, AppJobs

MINUTE, HOUR, MS = timedelta(minutes=1), timedelta(hours=1), timedelta(milliseconds=1)


def counts(numbers: HistoryNumbers) -> dict[str, int]:
    """Return the numbers that are not zero."""
    names = ("enqueued", "completed", "failed", "cancelled", "retried", "recovered")
    return {name: getattr(numbers, name) for name in names if getattr(numbers, name)}


def histogram(*durations: timedelta) -> Durations:
    """Count durations."""
    buckets = [bucket_of(duration // MS) for duration in durations]
    return Durations(tuple([buckets.count(bucket) for bucket in range(DURATION_BUCKETS)]))


async def test_a_history_has_the_numbers_of_each_minute(jobs: AppJobs, clock: ManualClock) -> None:
    """The last point is the current minute, and minutes without jobs have a point too."""
    clock.advance("30s")
    await jobs.send.enqueue(to="somebody")
    await jobs.slow.enqueue("text")
    clock.advance("2m")
    await drain(jobs)
    await jobs.send.enqueue(to="nobody")
    found = await jobs.inspect.history("4m")
    assert (found.now, found.resolution) == (clock.now(), MINUTE)
    assert [one.start for one in found.points] == [START + minutes * MINUTE for minutes in (-1, 0, 1, 2)]
    assert [counts(one) for one in found.points] == [{}, {"enqueued": 2}, {}, {"enqueued": 1, "completed": 2}]
    assert found.points[3].waits == histogram(2 * MINUTE, 2 * MINUTE)
    assert [(one.job, one.queue, counts(one)) for one in found.by_job] == [
        ("mail/slow", "slow", {"enqueued": 1, "completed": 1}),
        ("send", "default", {"enqueued": 2, "completed": 1}),
    ]
    assert counts(found.total) == {"enqueued": 3, "completed": 2}
    assert (found.total.waits, found.total.runs.count) == (found.points[3].waits, 2)


async def test_a_history_can_be_that_of_a_job_or_of_a_queue(jobs: AppJobs) -> None:
    await jobs.send.enqueue(to="somebody")
    await jobs.send.options(queue="bulk").enqueue(to="somebody")
    await jobs.slow.enqueue("text")

    async def found(**only: str) -> list[tuple[str, str]]:
        history = await jobs.inspect.history(**only)
        assert history.total.enqueued == history.points[-1].enqueued == len(history.by_job)
        return [(one.job, one.queue) for one in history.by_job]

    assert await found() == [("mail/slow", "slow"), ("send", "bulk"), ("send", "default")]
    assert await found(job="send") == [("send", "bulk"), ("send", "default")]
    assert await found(queue="bulk") == [("send", "bulk")]
    assert await found(job="send", queue="default") == [("send", "default")]
    assert await found(job="unknown") == []


@pytest.mark.parametrize(
    ("last", "resolution", "points"),
    [
        ("1ms", MINUTE, 1),
        ("1m", MINUTE, 1),
        ("61s", MINUTE, 2),
        (HOUR, MINUTE, 60),
        ("3h", MINUTE, 180),
        (3 * HOUR + MS, HOUR, 4),
        ("1d", HOUR, 24),
        ("7d", HOUR, 168),
    ],
)
async def test_a_long_history_has_points_by_hour(
    jobs: AppJobs, clock: ManualClock, last: str | timedelta, resolution: timedelta, points: int
) -> None:
    """Up to three hours are shown by minute."""
    clock.advance("630s")
    found = await jobs.inspect.history(last)
    assert (found.resolution, len(found.points)) == (resolution, points)
    assert found.points[-1].start <= found.now < found.points[-1].start + resolution
    starts = [one.start for one in found.points]
    assert {after - before for before, after in pairwise(starts)} <= {resolution}


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ("0s", "last must be longer than zero, got '0s'"),
        ("8d", "last must be at most 7d, got 8d"),
        ("an hour", "last is not a duration: 'an hour'"),
        (60, "last must be a duration, got int"),
    ],
)
async def test_a_wrong_span_is_refused(jobs: AppJobs, last: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        await jobs.inspect.history(last)


@pytest.mark.parametrize("name", ["", "a b", 3])
async def test_a_name_that_no_job_can_have_is_refused(jobs: AppJobs, name: Any) -> None:
    with pytest.raises(ValidationError, match=r"^job "):
        await jobs.inspect.history(job=name)
    with pytest.raises(ValidationError, match=r"^queue "):
        await jobs.inspect.history(queue=name)


class NotingDriver(MemoryDriver):
    """A driver that notes how many entries each call returned."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.read: list[int] = []

    async def history(self, query: HistoryQuery) -> tuple[datetime, list[HistoryEntry]]:
        """Return the entries, and note their number."""
        now, found = await super().history(query)
        self.read.append(len(found))
        return now, found


@pytest.mark.parametrize(("pairs", "most_calls"), [(0, 2), (5, 2), (20, 5), (MOST_HISTORY_JOBS + 9, 61)])
async def test_a_long_history_is_read_in_parts(clock: ManualClock, pairs: int, most_calls: int) -> None:
    """No call reads more than about a thousand entries, and few jobs need few calls."""
    driver = NotingDriver(clock)
    jobs = Jobs[None](context=None, driver=driver)
    for _ in range(30):
        await driver.enqueue([record(name=f"job-{number}") for number in range(pairs)])
        clock.advance(5 * MINUTE)
    found: History = await jobs.inspect.history("3h")
    assert found.total.enqueued == 30 * pairs
    assert [one.enqueued for one in found.points if one.enqueued] == [pairs] * (30 if pairs else 0)
    assert len(found.by_job) == min(pairs, MOST_HISTORY_JOBS + 1)
    assert max(driver.read) <= 1_000
    assert len(driver.read) <= most_calls


async def test_points_can_be_added_up(jobs: AppJobs, clock: ManualClock) -> None:
    """The sum of all points is the total."""
    for _ in range(3):
        await jobs.send.enqueue(to="somebody")
        clock.advance("1m")
        await drain(jobs)
    found = await jobs.inspect.history("10m")
    assert sum(found.points, HistoryNumbers()) == sum(found.by_job, HistoryNumbers()) == found.total
    assert (found.points[-1] + found.points[-2]).waits == histogram(MINUTE, MINUTE)
    assert sum((), HistoryNumbers()) == (await jobs.inspect.history(job="unknown")).total


def test_a_quantile_of_nothing_is_none() -> None:
    assert Durations().quantile(0.5) is None
    assert Durations().count == 0


@pytest.mark.parametrize(
    ("given", "q", "expected"),
    [
        ([0.0], 1, 1.0),
        ([0.0], 0.5, 0.5),
        ([5.0] * 4, 0, 4.0),
        ([5.0] * 4, 0.5, 6.0),
        ([5.0] * 4, 1, 8.0),
        ([1.0, 1.0, 1.0, 600.0], 0.75, 2.0),
        ([1.0, 1.0, 1.0, 600.0], 0.875, 768.0),
        ([2.0**30] * 3, 0.5, 2.0**26),
    ],
)
def test_a_quantile_is_interpolated_within_its_bucket(given: list[float], q: float, expected: float) -> None:
    """The last bucket has no end, so its start is returned."""
    assert histogram(*[one * MS for one in given]).quantile(q) == expected * MS


@given(st.lists(st.integers(1, 2**26 - 1), min_size=1), st.floats(0, 1))
def test_a_quantile_is_in_the_bucket_of_the_true_one(milliseconds: list[int], q: float) -> None:
    found = histogram(*[one * MS for one in milliseconds]).quantile(q)
    assert found is not None
    true = sorted(milliseconds)[max(-int(-q * len(milliseconds) // 1) - 1, 0)]
    low = 2 ** (bucket_of(true) - 1)
    assert low * MS <= found <= 2 * low * MS


@pytest.mark.parametrize("q", [-0.1, 1.1, float("nan"), 95])
def test_a_quantile_is_a_share(q: float) -> None:
    with pytest.raises(ValidationError, match=r"q must be from 0 to 1, got "):
        Durations().quantile(q)
