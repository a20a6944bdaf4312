"""Text of jobs cannot become markup of a page, or change the direction of its text."""

from __future__ import annotations

import pytest

from flowli_core import Jobs, current_job, job
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import drain
from tests.dashboard.visitor import visiting

ATTACK = "</pre><script>alert(1)</script><img src=x onerror='alert(2)'>\" '\u202etxt.exe"


class Attack(ValueError):
    pass


Attack.__qualname__ = ATTACK


@job(str, meta=str)
async def attacked(input: str) -> str:
    current_job().progress(1, 2, ATTACK)
    current_job().log(ATTACK)
    if input.startswith("fail"):
        raise Attack(ATTACK)
    return input


class AttackedJobs(Jobs[None]):
    attacked = attacked


@pytest.mark.parametrize(
    "path", ["/", "/jobs?state=failed", "/job?id=fails", "/job?id=works", "/schedules", "/workers"]
)
async def test_stored_text_is_shown_as_text(path: str) -> None:
    async with AttackedJobs(context=None, driver=MemoryDriver()) as jobs, visiting(jobs) as visitor:
        await jobs.attacked.options(id="works", key=ATTACK[:5]).enqueue(ATTACK, meta=ATTACK)
        await jobs.attacked.options(id="fails").enqueue("fail" + ATTACK, meta=ATTACK)
        await jobs.attacked.schedule("key <script>alert(1)</script>", cron="0 0 * * *", input=ATTACK, meta=ATTACK)
        await drain(jobs)
        page = await visitor.visit(path)
    assert page.status == 200
    assert "<script>alert" not in page.source
    assert "<img src=x" not in page.source
    assert "\u202e" not in page.source
    if path == "/job?id=fails":
        assert ATTACK.replace("\u202e", "\\u202e") in page.text


@pytest.mark.parametrize("path", ["/jobs", "/job", "/schedules", "/workers", "/", "/lost"])
async def test_parameters_are_shown_as_text(path: str) -> None:
    names = (
        "state",
        "name",
        "queue",
        "error",
        "older_than",
        "cursor",
        "id",
        "last",
        "notice",
        "notice_count",
        "action",
    )
    async with AttackedJobs(context=None, driver=MemoryDriver()) as jobs, visiting(jobs) as visitor:
        for name in names:
            page = await visitor.visit(path, **{name: ATTACK})
            assert page.status in (200, 400, 404), name
            assert "<script>alert" not in page.source, name
            assert "\u202e" not in page.source, name
