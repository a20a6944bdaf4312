"""Each page shows what the store holds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from flowli_core import JobRecord, Jobs, Runner
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import ManualClock, drain
from tests.dashboard.shop import ShopJobs, clean_up
from tests.dashboard.visitor import Visitor, visiting
from tests.support.running import Rival, running, until

QUEUES = tuple(f"queue-{number:03}" for number in range(120))


class CleanJobs(Jobs[None]):
    clean_up = clean_up


class QueuesJobs(CleanJobs):
    queues = (*QUEUES, "zzz")


PAGES = ("/", "/jobs", "/schedules", "/workers")


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_of_an_empty_store_says_that_there_is_nothing(jobs: ShopJobs, path: str) -> None:
    async with visiting(jobs) as visitor:
        page = await visitor.visit(path)
    assert page.status == 200
    assert "No " in page.text or "no " in page.text


async def test_the_overview_says_that_all_is_well_when_a_worker_is_alive_and_nothing_waits() -> None:
    async with CleanJobs(context=None, driver=MemoryDriver()) as jobs, running(Runner(jobs)), visiting(jobs) as visitor:

        async def is_alive() -> bool:
            return bool(await jobs.inspect.get_workers())

        await until(is_alive)
        assert "All is well" in (await visitor.visit("/")).text


async def test_the_overview_says_that_no_worker_is_alive(visitor: Visitor, clock: ManualClock) -> None:
    clock.advance("2m")
    page = await visitor.visit("/")
    assert "No worker is alive, so no job runs." in page.text
    assert "<title>(2) Overview" in page.source


async def test_the_overview_says_where_the_jobs_are_if_nothing_keeps_them(visitor: Visitor) -> None:
    page = await visitor.visit("/")
    assert "Store, persistence: the memory of this process; no other process sees these jobs" in page.text


async def test_a_job_is_opened_by_its_id(visitor: Visitor) -> None:
    page = await visitor.visit("/jobs")
    assert page.form("Open").action == "/admin/jobs/job"
    assert (await visitor.visit("/job", id=" failed\n")).status == 200


async def test_the_overview_counts_the_jobs_of_each_queue(visitor: Visitor) -> None:
    page = await visitor.visit("/")
    assert "1 queued 1 scheduled 0 active" in page.text
    assert page.links["mail"] == "/admin/jobs/jobs?state=queued&queue=mail"


@pytest.mark.parametrize("state", ["queued", "scheduled", "completed", "failed", "cancelled"])
async def test_the_jobs_page_lists_the_jobs_of_a_state(visitor: Visitor, state: str) -> None:
    page = await visitor.visit("/jobs", state=state)
    assert page.links[state] == f"/admin/jobs/job?id={state}"


async def test_the_jobs_page_begins_with_the_failed_jobs(visitor: Visitor) -> None:
    assert "ConnectionError" in (await visitor.visit("/jobs")).text


async def test_a_state_that_does_not_exist_is_an_invalid_request(visitor: Visitor) -> None:
    page = await visitor.visit("/jobs", state="lost")
    assert page.status == 400
    assert "state must be" in page.text


async def test_pages_of_a_list_stay_put_while_jobs_are_added(jobs: ShopJobs, clock: ManualClock) -> None:
    for number in range(60):
        clock.advance("1s")
        await jobs.send_email.options(id=f"job{number}").enqueue(to="a@example.com")
    async with visiting(jobs) as visitor:
        first = await visitor.visit("/jobs", state="queued")
        assert "job59" in first.links
        assert "job9" not in first.links
        await jobs.send_email.options(id="new").enqueue(to="a@example.com")
        second = await visitor.visit(first.links["Older"].removeprefix("/admin/jobs"))
    assert [text for text in second.links if text.startswith("job")] == [f"job{number}" for number in range(9, -1, -1)]


async def test_the_page_of_a_job_shows_its_input_result_and_log(visitor: Visitor) -> None:
    page = await visitor.visit("/job", id="completed")
    assert '"to": "ada@example.com"' in page.text
    assert '"sent to ada@example.com"' in page.text
    assert "connecting for ada@example.com" in page.text
    assert "1 of 4" in page.text


async def test_the_page_of_a_failed_job_shows_its_errors_and_its_timeline(visitor: Visitor) -> None:
    page = await visitor.visit("/job", id="failed")
    assert "the server refused bounce@example.com" in page.text
    assert "Traceback (most recent call last)" in page.source
    assert "attempt 1 failed" in page.text
    assert "attempt 2 failed" in page.text


async def test_a_job_that_does_not_exist_has_a_page_that_says_so(visitor: Visitor) -> None:
    page = await visitor.visit("/job", id="lost")
    assert page.status == 404
    assert "There is no job with this id." in page.text


async def test_the_schedules_page_shows_rules_in_words_and_the_next_runs(jobs: ShopJobs) -> None:
    await drain(jobs)
    async with visiting(jobs) as visitor:
        page = await visitor.visit("/schedules")
    assert "every day at 03:00" in page.text
    assert "every 15 minutes" in page.text
    assert page.text.count("2026-01-0") >= 10


async def test_the_page_of_a_damaged_record_says_what_cannot_be_read(
    busy: ShopJobs, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = await busy.inspect.get_job("completed")
    assert record is not None
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    damaged = replace(record, name="", input=None, damage="its input is not JSON", created_at=epoch, max_attempts=None)

    async def get_job(inspect: object, record_id: str) -> JobRecord:
        return damaged

    monkeypatch.setattr(type(busy.inspect), "get_job", get_job)
    page = await visitor.visit("/job", id="completed")
    assert "This record is damaged: its input is not JSON. Its stored data is kept." in page.text


async def test_the_timeline_of_a_job_has_its_attempts_and_its_end(visitor: Visitor) -> None:
    failed = (await visitor.visit("/job", id="failed")).text
    order = ["enqueued", "attempt 1 failed", "attempt 2 failed", "failed 2026-01-01 00:00:10 UTC"]
    positions = [failed.index(text, failed.index("Timeline")) for text in order]
    assert positions == sorted(positions)
    completed = (await visitor.visit("/job", id="completed")).text
    assert "attempt 1 started" in completed
    assert "it ran for" in completed
    assert "due 2026-01-01 01:00" in (await visitor.visit("/job", id="scheduled")).text


async def test_a_running_job_shows_its_worker_and_lease(jobs: ShopJobs, driver: MemoryDriver) -> None:
    await jobs.clean_up.options(id="running").enqueue()
    await Rival(driver).step()
    async with visiting(jobs) as visitor:
        job = (await visitor.visit("/job", id="running")).text
        workers = (await visitor.visit("/workers")).text
    assert "Worker rival Running for 0 ms Lease expires in 30 s" in job
    assert "rival last seen now" in workers
    assert "clean_up running 0 ms in 30 s" in workers


async def test_the_overview_shows_paused_and_busy_queues_and_all_if_asked() -> None:
    async with QueuesJobs(context=None, driver=MemoryDriver()) as jobs, visiting(jobs) as visitor:
        for queue in QUEUES:
            await jobs.clean_up.options(queue=queue).enqueue()
        await jobs.control.pause_queue("zzz")
        page = await visitor.visit("/")
        assert "zzz" in page.links
        assert "21 more with fewer waiting and running jobs" in page.text
        page = await visitor.visit(page.links["show all queues"].removeprefix("/admin/jobs"))
    assert set(QUEUES) <= page.links.keys()
    assert "show all queues" not in page.links
