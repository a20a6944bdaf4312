"""Lanes as `jobs.inspect` returns them, and why their jobs wait in words."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from flowli_core import Jobs, Limit, Overview, job
from flowli_core._jobs.lanes import describe_block, explain_wait, overdue_lanes
from flowli_core._jobs.workers import WorkerRecord
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.lanes import Lane, StoredLane
from flowli_core.testing import ManualClock, drain
from tests.conformance.builders import step
from tests.support.laned import LanedDriver, lanes_of

CLOCK = ManualClock()
NOW = CLOCK.now()
FULL, RATED, READY, _ = lanes_of(CLOCK)
WORKER = WorkerRecord(name="host:1", seen=NOW, is_alive=True, queues=("default",), jobs=frozenset())


@job()
async def crawl() -> None: ...


class CrawlJobs(Jobs[None]):
    crawl = crawl


async def test_a_lane_is_listed_with_its_places_and_a_job_with_its_lane() -> None:
    driver = MemoryDriver(clock=ManualClock())

    @job(str, limit=Limit(name="site", concurrency=1, by=lambda input: input))
    async def fetch(input: str) -> None: ...

    class FetchJobs(Jobs[None]):
        fetch_page = fetch

    async with FetchJobs(context=None, driver=driver) as jobs:
        await jobs.fetch_page.enqueue_many(["a", "a", "b"])
        last = await jobs.fetch_page.enqueue("a")
        await driver.step(step(queues=("default",), want=10))
        assert await jobs.inspect.get_lanes() == (
            StoredLane(
                queue="default",
                limit="site",
                value="a",
                waiting=2,
                active=1,
                concurrency=1,
                next_turn=None,
                blocked="concurrency",
            ),
        )
        found = await jobs.fetch_page.get(last.id)
        assert found is not None
        assert (found.limit, found.lane) == ("site", "a")
        assert explain_wait(found, await jobs.inspect.get_overview()) == "its lane has no free place: 1 of 1 running"


@pytest.mark.parametrize(
    ("index", "block", "text"),
    [
        (0, "concurrency", "its lane has no free place: 2 of 2 running"),
        (1, "rate 100/1m", "its lane has used its rate 100/1m; the next start is allowed in 12 s"),
        (2, "", "3 jobs wait in its lane, whose next turn is now"),
        (3, "", "1 job waits in its lane, whose next turn is in 5 min 0 s"),
    ],
)
async def test_it_is_said_why_a_queued_job_waits_in_its_lane(index: int, block: str, text: str) -> None:
    """A scheduled job waits for its time, and a finished one for nothing."""
    driver = LanedDriver()
    lane = lanes_of(driver.clock)[index]
    driver.lane = Lane(lane.limit, lane.value)
    driver.show(replace(FULL, queue="other"), *lanes_of(driver.clock))
    assert describe_block(lane) == block
    async with CrawlJobs(context=None, driver=driver) as jobs:
        queued = await jobs.crawl.enqueue()
        later = await jobs.crawl.delay("1h")
        overview = await jobs.inspect.get_overview()

        async def explain(job_id: str) -> str | None:
            record = await jobs.inspect.get_job(job_id)
            assert record is not None
            return explain_wait(record, overview)

        assert (await explain(queued.id), await explain(later.id)) == (text, None)
        driver.show(replace(lane, queue="other"))
        overview = await jobs.inspect.get_overview()
        assert await explain(queued.id) is None
        driver.show(replace(lane, queue="other"), count=2)
        overview = await jobs.inspect.get_overview()
        assert await explain(queued.id) == "in its lane, which is not among the deepest, so what blocks it is not known"
        await drain(jobs)
        assert await explain(queued.id) is None


@pytest.mark.parametrize(
    ("after", "queue", "paused", "is_alive", "is_overdue"),
    [
        (60, "default", False, True, False),
        (61, "default", False, True, True),
        (61, "other", False, True, False),
        (61, "default", True, True, False),
        (61, "default", False, False, False),
    ],
)
def test_a_lane_is_overdue_if_its_turn_is_due_for_a_minute_and_its_queue_is_served(
    after: int, queue: str, *, paused: bool, is_alive: bool, is_overdue: bool
) -> None:
    """A lane that waits for a place, its rate or its due time is not, however long that takes."""
    lanes = tuple(replace(lane, queue=queue) for lane in (FULL, READY, replace(RATED, next_turn=NOW)))
    overview = Overview(
        now=NOW + timedelta(seconds=after), lanes=lanes, lane_count=3, paused={"default": NOW} if paused else {}
    )
    found = overdue_lanes(overview, [replace(WORKER, is_alive=is_alive)])
    assert [lane.value for lane in found] == (["key-2"] if is_overdue else [])
