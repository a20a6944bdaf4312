"""Damaged jobs and schedules in commands and in the router: each is shown, and no request or command fails for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient

from flowli_core import Jobs, Runner, job
from flowli_core.cli._common.operation import RegistryLoader
from flowli_core.cli._main import flowli
from flowli_core.drivers.redis import RedisDriver
from flowli_fastapi import jobs_router
from tests.redis.server import fresh_prefix, shared_url

if TYPE_CHECKING:
    from collections.abc import Iterator

DAMAGE = "the head of its record cannot be read"


@job(int)
async def count(input: int) -> None:
    """Do nothing."""


class Counting(Jobs[None]):
    count = count


@pytest.fixture
def prefix(foreign: Any) -> Iterator[str]:
    """Return a prefix that the test may damage. Its keys are removed at the end, before they are inspected."""
    prefix = fresh_prefix()
    yield prefix
    foreign.delete(*foreign.keys(f"{{{prefix}}}*"))


def registry(prefix: str) -> Counting:
    return Counting(context=None, driver=RedisDriver.from_url(shared_url(), prefix=prefix))


async def spoil(prefix: str, foreign: Any) -> None:
    """Store two jobs and two schedules, damage one of each, and run the jobs."""
    async with registry(prefix) as jobs:
        for name in ("bad", "sound"):
            await jobs.count.options(id=name).enqueue(1)
            await jobs.count.schedule(every="1h", key=name, input=1)
        foreign.hset(f"{{{prefix}}}:1:record", "bad", b"\x1b[31m")
        foreign.hset(f"{{{prefix}}}:1:schedule", "bad", b"\x1b[31m")
        await Runner(jobs).run_once()


async def test_commands_show_what_is_damaged(prefix: str, foreign: Any) -> None:
    await spoil(prefix, foreign)

    async def output(*words: str, code: int = 0) -> str:
        done = await asyncio.to_thread(CliRunner().invoke, flowli, words, obj=RegistryLoader(lambda: registry(prefix)))
        assert done.exit_code == code, done.output
        return done.output

    assert f"StoreDamaged: this job cannot run, because {DAMAGE}" in await output("jobs", "list")
    assert DAMAGE in await output("jobs", "show", "bad")
    assert f'"damage": "{DAMAGE}"' in await output("jobs", "show", "bad", "--json")
    assert "sound" in await output("jobs", "list", "completed")
    assert "bad is damaged, so it cannot run" in await output("jobs", "requeue", "bad", code=1)
    listed = await output("schedules", "list")
    assert "unreadable" in listed
    assert "sound" in listed
    assert "the head of the schedule cannot be read" in await output("schedules", "pause", "bad", code=1)
    assert "bad" in await output("status")
    found = await output("doctor", code=1)
    assert f"was set aside: {DAMAGE}" in found
    assert await output("schedules", "remove", "bad") == "removed\n"
    assert await output("jobs", "purge", "failed", "--yes") == "1 removed\n"


async def test_the_router_shows_what_is_damaged(prefix: str, foreign: Any) -> None:
    await spoil(prefix, foreign)
    async with registry(prefix) as jobs:
        app = FastAPI()
        app.include_router(jobs_router(allow_anonymous=True, jobs=lambda: jobs))
        async with AsyncClient(transport=ASGITransport(app=app), base_url="http://test") as client:
            (listed,) = (await client.get("/jobs", params={"state": "failed"})).json()["items"]
            shown = await client.get("/jobs/bad")
            schedules = (await client.get("/jobs/schedules")).json()["items"]
    assert (shown.status_code, shown.json()) == (200, listed)
    assert (listed["id"], listed["damage"], listed["last_error"]) == ("bad", DAMAGE, {"type": "StoreDamaged"})
    assert {one["key"]: one["readable"] for one in schedules} == {"bad": False, "sound": True}


async def test_a_job_whose_queue_has_lost_its_index_runs_after_a_requeue(foreign: Any, prefix: str) -> None:
    """fsck names it. Its attempts begin anew."""
    async with Counting(context=None, driver=(driver := RedisDriver.from_url(shared_url(), prefix=prefix))) as jobs:
        receipt = await jobs.count.enqueue(1)
        foreign.delete(f"{{{prefix}}}:1:due:default")
        assert (receipt.id, "is in no index") in [(one.id, one.problem) for one in await driver.fsck()]
        assert await jobs.control.requeue(receipt.id) == "requeued"
        assert (await Runner(jobs).run_once()).completed == 1
