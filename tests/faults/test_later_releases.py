"""Schedules and jobs that a later release has stored, beside those of a worker of this release."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flowli_core._schedules.spec import tick_id
from flowli_core.drivers.redis import RedisDriver
from flowli_core.stored import StoredSchedule
from tests.faults.scene import Scene, scene, stopped
from tests.redis.server import Server
from tests.support.figures import note_figures
from tests.support.store import find, put, requeue_one

OFFERS = int(os.environ.get("FLOWLI_LATER_OFFERS", "3"))
"""A parked job is offered to the worker so many times, once in 30 seconds."""

LATER = b'{"v":99}'
SPECS = (LATER, b"{")
"""The stored form of a schedule of a later release, and of a damaged one."""

PARKED = 5


async def store_from_a_later_release(place: Scene, driver: RedisDriver, schedules: int) -> list[str]:
    """Store schedules that are due, and jobs, that only a later release can read. Return the ids of the jobs."""
    due = datetime.now(UTC) - timedelta(minutes=1)
    for number in range(schedules):
        schedule = StoredSchedule(
            key=f"later-{number}", queue="default", spec=SPECS[number % 2], next_tick=due + timedelta(seconds=number)
        )
        assert await put(driver, schedule)
    ids = [(await place.jobs.quick.delay("1s", number)).id for number in range(PARKED)]
    for record_id in ids:
        assert await requeue_one(driver, record_id, attempts=LATER) == "requeued"
    return ids


@pytest.mark.faults
@pytest.mark.parametrize("schedules", [1, 33])
async def test_what_a_later_release_has_stored_delays_no_tick_and_fails_no_job(
    tmp_path: Path, server: Server, schedules: int
) -> None:
    """A schedule fires each second. The jobs of the later release wait, and `flowli status` names them."""
    driver = RedisDriver.from_url(server.url, prefix="later")
    await driver.open()
    async with scene(tmp_path, server.url, "later") as place:
        parked = await store_from_a_later_release(place, driver, schedules)
        await place.jobs.quick.schedule("sound", every="1s", input=1)
        log = tmp_path / "stderr"
        async with place.worker() as worker, asyncio.timeout(OFFERS * 40):
            while log.read_text().count(parked[-1]) < OFFERS:  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.1)
            assert await stopped(worker) == 0
        schedule = await place.jobs.inspect.get_schedule("sound")
        assert schedule is not None
        assert schedule.last_tick is not None
        runs = [record_id for _, record_id, _ in place.folder.runs()]
        ticks = {tick_id("sound", schedule.last_tick - timedelta(seconds=number)) for number in range(len(runs))}
        assert ticks == set(runs), "one tick after the other has fired, and no other job has run"
        assert len(runs) > 30 * (OFFERS - 1)
        for record_id in parked:
            record = await place.job(record_id)
            assert (record.state, record.attempts_made, record.failure_count) == ("scheduled", 0, 0)
            stored = await find(driver, record_id)
            assert stored is not None
            assert stored.attempts == LATER
        (found,) = (await place.command("status", "--json")).json["parked"]
        assert (found["name"], found["count"]) == ("quick", PARKED)
        assert "later release" in found["reason"]
    await driver.close()
    note_figures(
        f"{schedules} schedules of a later release or damaged: {len(runs)} ticks of the sound one, none missing; "
        f"{PARKED} jobs of a later release offered {OFFERS} times: no attempt used, named by flowli status"
    )
