"""Each button of a page does what its label says, and the page after it says what was done."""

from __future__ import annotations

import logging

import pytest

from flowli_core import Runner, StoreUnavailable
from flowli_core.dashboard import _changes
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import drain
from tests.dashboard.shop import ShopJobs
from tests.dashboard.visitor import Form, Visitor, visiting
from tests.support.faulty import FaultyDriver
from tests.support.running import Rival


async def state(jobs: ShopJobs, record_id: str) -> str:
    """Return the state of a job."""
    record = await jobs.inspect.get_job(record_id)
    assert record is not None
    return record.state


async def test_requeue_queues_a_failed_job_again(busy: ShopJobs, visitor: Visitor) -> None:
    page = await visitor.press(await visitor.visit("/job", id="failed"), "Requeue")
    assert "The job is queued again." in page.text
    assert await state(busy, "failed") == "queued"


async def test_run_now_queues_a_scheduled_job(busy: ShopJobs, visitor: Visitor) -> None:
    await visitor.press(await visitor.visit("/job", id="scheduled"), "Run now")
    assert await state(busy, "scheduled") == "queued"


async def test_cancel_cancels_a_waiting_job(busy: ShopJobs, visitor: Visitor) -> None:
    page = await visitor.press(await visitor.visit("/job", id="queued"), "Cancel")
    assert "The job is cancelled." in page.text
    assert await state(busy, "queued") == "cancelled"


async def test_cancel_asks_the_worker_of_a_running_job(jobs: ShopJobs, driver: MemoryDriver) -> None:
    await jobs.clean_up.options(id="running").enqueue()
    await Rival(driver).step()
    async with visiting(jobs) as visitor:
        page = await visitor.press(await visitor.visit("/job", id="running"), "Cancel")
    assert "Its worker cancels it at the next heartbeat." in page.text
    assert "cancel requested" in page.text


async def test_an_action_on_a_job_that_has_changed_says_that_nothing_was_done(visitor: Visitor, busy: ShopJobs) -> None:
    before = await visitor.visit("/job", id="queued")
    await busy.control.cancel("queued")
    page = await visitor.press(before, "Cancel")
    assert "The job had finished already. Nothing was done." in page.text


async def test_schedules_are_paused_resumed_triggered_and_removed(jobs: ShopJobs) -> None:
    await drain(jobs)
    async with visiting(jobs) as visitor:
        page = await visitor.press(await visitor.visit("/schedules"), "Pause")
        assert "The schedule is paused." in page.text
        assert "digest paused" in page.text
        page = await visitor.press(page, "Resume")
        assert "The schedule is resumed." in page.text
        page = await visitor.press(page, "Trigger now")
        assert "A job of the schedule is queued now." in page.text
        assert (await jobs.inspect.get_queue_counts()).queued == 1
        page = await visitor.press(page, "Remove")
        assert "The schedule is removed." in page.text
    assert await jobs.inspect.get_schedule("digest") is None


async def test_an_action_on_a_schedule_that_is_gone_says_so(jobs: ShopJobs) -> None:
    await drain(jobs)
    async with visiting(jobs) as visitor:
        before = await visitor.visit("/schedules")
        await jobs.control.unschedule("digest")
        for label in ("Pause", "Trigger now", "Remove"):
            assert "It does not exist any more." in (await visitor.press(before, label)).text


async def test_a_queue_is_paused_and_resumed(busy: ShopJobs, visitor: Visitor) -> None:
    page = await visitor.press(await visitor.visit("/"), "Pause")
    assert "The queue is paused. Running jobs go on." in page.text
    assert "The queue mail has been paused for 0 s." in page.text
    assert (await Runner(busy).run_once()).completed == 0
    page = await visitor.press(page, "Resume")
    assert "The queue is resumed." in page.text
    assert (await Runner(busy).run_once()).completed == 1


async def test_an_action_that_does_not_exist_is_not_found(visitor: Visitor) -> None:
    form = (await visitor.visit("/job", id="failed")).form("Requeue")
    answer = await visitor.submit(Form("/admin/jobs/actions/drop", "post", form.fields))
    assert answer.status == 404


async def test_an_action_fails_while_the_store_is_unreachable(caplog: pytest.LogCaptureFixture) -> None:
    driver = FaultyDriver(MemoryDriver())
    async with ShopJobs(context=None, driver=driver) as jobs, visiting(jobs) as visitor:
        await jobs.clean_up.options(id="waiting").enqueue()
        form = (await visitor.visit("/job", id="waiting")).form("Cancel")
        driver.fail("cancel", error=StoreUnavailable("the server is down"))
        answer = await visitor.submit(form)
    assert answer.status == 503
    assert "the server is down" in answer.text
    assert "The action may have been done in part." in answer.text
    assert 'http-equiv="refresh"' not in answer.source
    assert "which failed: the server is down" in caplog.text


async def test_an_action_that_is_interrupted_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    driver = FaultyDriver(MemoryDriver())
    async with ShopJobs(context=None, driver=driver) as jobs, visiting(jobs) as visitor:
        await jobs.clean_up.enqueue()
        confirm = await visitor.visit("/confirm", action="cancel-all", state="queued")
        driver.fail("cancel", error=RuntimeError("a bug"))
        with pytest.raises(RuntimeError, match="a bug"):
            await visitor.press(confirm, "Cancel 1 queued job")
    assert "dashboard: 127.0.0.1 asked to cancel all queued jobs, which was interrupted" in caplog.messages


async def test_purge_removes_a_finished_job(busy: ShopJobs, visitor: Visitor) -> None:
    page = await visitor.submit((await visitor.visit("/job", id="failed")).form("Purge"), back="/jobs")
    assert "The job is removed." in (await visitor.follow(page)).text
    assert await busy.inspect.get_job("failed") is None


async def test_purge_leaves_a_job_that_was_requeued_meanwhile(busy: ShopJobs, visitor: Visitor) -> None:
    form = (await visitor.visit("/job", id="failed")).form("Purge")
    await busy.control.requeue("failed")
    assert "The job has changed meanwhile." in (await visitor.follow(await visitor.submit(form))).text
    assert await state(busy, "failed") == "queued"


async def test_requeue_all_asks_first_and_names_the_number_of_jobs(busy: ShopJobs, visitor: Visitor) -> None:
    page = await visitor.visit("/jobs", state="failed", error="ConnectionError")
    confirm = await visitor.visit(page.links["Requeue all…"].removeprefix("/admin/jobs"))
    assert "Requeue 1 failed job with ConnectionError?" in confirm.text
    assert await state(busy, "failed") == "failed"
    done = await visitor.press(confirm, "Requeue 1 failed job with ConnectionError")
    assert "Jobs queued again: 1." in done.text
    assert await state(busy, "failed") == "queued"


async def test_purge_all_removes_the_jobs_of_a_filter(busy: ShopJobs, visitor: Visitor) -> None:
    page = await visitor.visit("/jobs", state="failed", name="send_email")
    confirm = await visitor.visit(page.links["Purge all…"].removeprefix("/admin/jobs"))
    assert "This cannot be undone." in confirm.text
    done = await visitor.press(confirm, "Purge 1 failed job of send_email")
    assert "Jobs removed: 1." in done.text
    assert await busy.inspect.get_job("failed") is None
    assert await state(busy, "completed") == "completed"


async def test_cancel_all_cancels_the_waiting_jobs_of_a_queue(
    busy: ShopJobs, visitor: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "flowli")
    await busy.clean_up.options(id="other").enqueue()
    page = await visitor.visit("/jobs", state="queued", queue="mail")
    assert "other" not in page.links
    confirm = await visitor.visit(page.links["Cancel all…"].removeprefix("/admin/jobs"))
    await visitor.press(confirm, "Cancel 1 queued job in the queue mail")
    assert (await state(busy, "queued"), await state(busy, "other")) == ("cancelled", "queued")
    said = "dashboard: 127.0.0.1 asked to cancel all queued jobs in the queue mail: cancelled_all: 1 changed, 0 skipped"
    assert said in caplog.messages


async def test_a_change_of_many_jobs_that_takes_too_long_stops_and_can_be_repeated(
    jobs: ShopJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    await jobs.clean_up.enqueue_many([None] * 130)
    monkeypatch.setattr(_changes, "BULK_SECONDS", -1.0)
    async with visiting(jobs) as visitor:
        confirm = await visitor.visit("/confirm", action="cancel-all", state="queued")
        page = await visitor.press(confirm, "Cancel 130 queued jobs")
        assert "to be cancelled by their workers: 100." in page.text
        assert "Repeat it to go on." in page.text
        monkeypatch.undo()
        page = await visitor.press(page, "Cancel 30 queued jobs")
        assert "No queued jobs." in page.text
    assert (await jobs.inspect.get_queue_counts()).cancelled == 130


async def test_a_confirmation_needs_a_known_action_and_valid_filters(visitor: Visitor) -> None:
    assert (await visitor.visit("/confirm", action="drop-all")).status == 404
    assert (await visitor.visit("/confirm", action="purge-all", state="failed", older_than="soon")).status == 400
    page = await visitor.visit("/jobs", state="failed", older_than="soon")
    assert page.status == 400
    assert "older_than is not a duration" in page.text
