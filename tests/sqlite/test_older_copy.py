"""A file that was replaced by an older copy, as when a backup is restored."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.driver import Released
from flowli_core.drivers.sqlite import SqliteDriver
from flowli_core.testing import ManualClock
from tests.conformance.builders import DONE, Worker, ack, record, stored

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("behind", [timedelta(0), timedelta(hours=1)])
async def test_a_token_that_an_older_copy_does_not_know_is_not_used_again(
    path: Path, tmp_path: Path, behind: timedelta
) -> None:
    """A worker from before the restore cannot release a job that another runs now, even if the clock was set back."""
    clock = ManualClock()
    driver = SqliteDriver(path, clock=clock)
    await driver.open()
    await driver.enqueue([record("a"), record("b")])
    early = Worker(driver, "early")
    assert await early.settle(await early.take_one()) == "ok"
    with sqlite3.connect(path) as source, sqlite3.connect(tmp_path / "copy") as copy:
        source.backup(copy)
    source.close()
    copy.close()
    clock.advance("1s")
    a = await Worker(driver, "A").take_one()
    await driver.close()
    (tmp_path / "copy").rename(path)
    await driver.open()
    clock.advance("1s")
    clock.back(behind)
    b_worker = Worker(driver, "B")
    b = await b_worker.take_one()
    assert (a.id, b.id) == ("b", "b")
    assert b.token > a.token
    assert (await Worker(driver, "A").step(ack(a, Released()))).acks == ("lost",)
    assert await b_worker.settle(b, DONE) == "ok"
    assert (await stored(driver, "b")).worker == "B"
    await driver.close()
