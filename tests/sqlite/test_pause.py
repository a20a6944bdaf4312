"""Paused queues in a file: other processes see them, and damaged rows pause nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from flowli_core.drivers.sqlite import SqliteDriver
from tests.conformance.builders import Worker, ids, record, soon, waiting_step

if TYPE_CHECKING:
    import sqlite3


async def test_another_driver_sees_a_pause_at_its_next_step(driver: SqliteDriver, elsewhere: SqliteDriver) -> None:
    """Its waiting steps are woken when the queue is resumed."""
    await driver.enqueue([record("a")])
    await driver.pause_queue("q", paused=True)
    assert await Worker(elsewhere).take() == ()
    waiting = asyncio.create_task(elsewhere.step(waiting_step()))
    await asyncio.sleep(0.1)  # a wake-up would have arrived
    assert not waiting.done()
    await driver.pause_queue("q", paused=False)
    assert ids((await soon(waiting)).reserved) == ["a"]


VALUES = ("'soon'", "-1", "1e300", "9223372036854775807", "x'00'")


@pytest.mark.parametrize("since", VALUES)
async def test_a_damaged_time_pauses_nothing_and_is_dropped(
    driver: SqliteDriver, foreign: sqlite3.Connection, since: str
) -> None:
    """The queue can be paused again."""
    await driver.enqueue([record("a")])
    await driver.pause_queue("q", paused=True)
    foreign.execute("PRAGMA ignore_check_constraints = on")
    foreign.execute(f"UPDATE paused_queue SET since = {since}")  # noqa: S608 - from the list above
    assert (await driver.overview()).paused == {}
    assert ids(await Worker(driver).take()) == ["a"]
    assert await driver.pause_queue("q", paused=True)
    assert set((await driver.overview()).paused) == {"q"}


@pytest.mark.parametrize("name", ["x'71'", "CAST(x'ff' AS TEXT)", "7"])
async def test_a_damaged_name_pauses_nothing(driver: SqliteDriver, foreign: sqlite3.Connection, name: str) -> None:
    """Neither steps nor the overview fail for it."""
    await driver.enqueue([record("a")])
    await driver.pause_queue("q", paused=True)
    foreign.execute("PRAGMA ignore_check_constraints = on")
    foreign.execute(f"UPDATE paused_queue SET queue = {name}")  # noqa: S608 - from the list above
    assert set((await driver.overview()).paused) <= {"7"}
    assert ids(await Worker(driver).take()) == ["a"]
