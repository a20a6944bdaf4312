"""Damaged counts: they are computed again, also if a damaged value adds up to the right number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.builders import Worker, record

if TYPE_CHECKING:
    import sqlite3

    from flowli_core.drivers.sqlite import SqliteDriver


@pytest.mark.parametrize("number", ["x'00ff'", "'x'", "0.0"])
async def test_a_count_of_no_records_that_is_no_number_is_computed_again(
    driver: SqliteDriver, foreign: sqlite3.Connection, number: str
) -> None:
    await driver.enqueue([record("a"), record("b")])
    worker = Worker(driver)
    await worker.settle(await worker.take_one())
    foreign.execute(f"UPDATE counts SET n = {number} WHERE state = 'active'")  # noqa: S608 - from the list above
    counts = (await driver.overview()).counts
    assert (counts.active, counts.queued, counts.completed) == (0, 1, 1)
