"""Damaged records and schedules, as a driver reports them: the others run, and each is shown with what is damaged."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from flowli_core import Hooks, JobEvent, LastError, RunCounts, StoreDamaged, ValidationError
from flowli_core.driver import Damaged
from flowli_core.stored import Found, StoredSchedule
from tests.support.running import Work
from tests.support.store import find_schedule, put

if TYPE_CHECKING:
    from flowli_core.driver import Step, StepAnswer
    from flowli_core.stored import RecordById, RecordsInState

DAMAGE = "its head cannot be read"


async def test_a_record_that_was_set_aside_is_logged_and_the_others_run(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work()
    events: list[JobEvent] = []
    step = work.driver.step

    async def answer_with_damage(sent: Step) -> StepAnswer:
        answer = await step(sent)
        damaged = (Damaged(id="bad", queue="mail", damage=DAMAGE),) if sent.sequence == 1 else ()
        return replace(answer, damaged=damaged)

    monkeypatch.setattr(work.driver, "step", answer_with_damage)
    await work.add(1)
    assert await work.run(hooks=Hooks(on_job_failed=events.append)) == RunCounts(completed=1)
    assert "job bad in queue mail is damaged and was set aside as failed: its head cannot be read" in caplog.text
    (event,) = events
    assert (event.id, event.name, event.queue) == ("bad", "", "mail")
    assert isinstance(event.error, StoreDamaged)


async def test_a_damaged_record_is_shown_with_what_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work()
    (sound, bad) = await work.add(1, 2)
    records = work.driver.records

    async def read_with_damage(query: RecordById | RecordsInState) -> Found:
        found = await records(query)
        return Found(
            [replace(one, name="", input=b"", damage=DAMAGE) if one.id == bad else one for one in found.records]
        )

    monkeypatch.setattr(work.driver, "records", read_with_damage)
    page = await work.jobs.inspect.find("queued")
    assert {one.id: one.damage for one in page.items} == {sound: None, bad: DAMAGE}
    shown = await work.job(bad)
    assert shown.last_error == LastError("StoreDamaged", f"this job cannot run, because {DAMAGE}")
    with pytest.raises(ValidationError, match=f"{bad} is damaged: {DAMAGE}"):
        await work.jobs.act.get(bad)


async def test_a_damaged_schedule_can_be_removed_or_declared_anew_but_not_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = Work()
    damaged = StoredSchedule(key="k", queue="", spec=b"", next_tick=None, damage=DAMAGE)
    await put(work.driver, damaged)
    for change in (work.jobs.control.pause, work.jobs.control.resume, work.jobs.control.trigger):
        with pytest.raises(StoreDamaged, match=f"'k' cannot be changed, only removed or declared again: {DAMAGE}"):
            await change("k")
    shown = await work.jobs.inspect.get_schedule("k")
    assert shown is not None
    assert not shown.readable
    await work.jobs.act.schedule(every="1h", key="k", input=1)
    stored = await find_schedule(work.driver, "k")
    assert stored is not None
    assert stored.damage is None
    assert stored.next_tick is not None
    assert await work.jobs.control.unschedule("k")
