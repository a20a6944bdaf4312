"""The history of jobs in a file: of several processes, after the end of a minute, and with damaged rows."""

from __future__ import annotations

import sqlite3
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.drivers.sqlite import SqliteDriver
from flowli_core.history import MOST_HISTORY_JOBS, OTHERS, HistoryEntry, HistoryQuery, Resolution
from flowli_core.testing import ManualClock
from tests.conformance.builders import DONE, Worker, ack, finish, record

if TYPE_CHECKING:
    from pathlib import Path

MINUTE = timedelta(minutes=1)
RESOLUTIONS: tuple[Resolution, ...] = ("minute", "hour", "total")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def read(driver: SqliteDriver, resolution: Resolution = "total") -> list[HistoryEntry]:
    return (await driver.history(HistoryQuery(resolution=resolution, periods=100)))[1]


def count_rows(foreign: sqlite3.Connection, kind: str) -> int:
    (count,) = foreign.execute("SELECT count(*) FROM history WHERE kind = ?", (kind,)).fetchone()
    assert isinstance(count, int)
    return count


@pytest.mark.parametrize("resolution", RESOLUTIONS)
async def test_all_drivers_of_a_file_count_together(
    driver: SqliteDriver, elsewhere: SqliteDriver, clock: ManualClock, resolution: Resolution
) -> None:
    """Either may sum the minutes that have ended."""
    for number in range(6):
        await (driver, elsewhere)[number % 2].enqueue([record()])
        clock.advance(MINUTE / 2)
    for each in (driver, elsewhere):
        assert sum(entry.enqueued for entry in await read(each, resolution)) == 6


async def test_a_minute_that_ended_while_no_driver_was_open_is_summed(
    driver: SqliteDriver, path: Path, clock: ManualClock, foreign: sqlite3.Connection
) -> None:
    await finish(driver, "a", DONE)
    before = [await read(driver, resolution) for resolution in RESOLUTIONS]
    await driver.close()
    clock.advance(3 * MINUTE)
    later = SqliteDriver(path, clock=clock)
    await later.open()
    assert [await read(later, resolution) for resolution in RESOLUTIONS] == before
    await Worker(later).step()
    assert count_rows(foreign, "recent") == 0
    assert [await read(later, resolution) for resolution in RESOLUTIONS] == before
    await later.close()


async def test_drivers_of_a_file_share_the_limit_of_pairs(driver: SqliteDriver, elsewhere: SqliteDriver) -> None:
    """A pair that one of them counts apart is counted apart by the other too."""
    await driver.enqueue([record(name="first")])
    await elsewhere.enqueue([record(name="second")])
    await driver.enqueue([record(name=f"job {number}") for number in range(MOST_HISTORY_JOBS - 2)])
    for name in ("another", "first", "second"):
        await elsewhere.enqueue([record(name=name)])
    for resolution in RESOLUTIONS:
        counted = {entry.name: entry.enqueued for entry in await read(driver, resolution)}
        assert len(counted) == MOST_HISTORY_JOBS + 1
        assert "another" not in counted
        assert (counted["first"], counted["second"], counted[OTHERS]) == (2, 2, 1)


async def test_a_transaction_writes_one_row_for_many_acks(driver: SqliteDriver, foreign: sqlite3.Connection) -> None:
    """The jobs, queues, outcomes and buckets are the same."""
    await driver.enqueue([record() for _ in range(100)])
    worker = Worker(driver)
    held = await worker.take(100)
    await worker.step(*[ack(one) for one in held])
    rows = foreign.execute("SELECT metric, n FROM history ORDER BY metric").fetchall()
    assert rows == [("completed 0 0", 100), ("enqueued", 100)]


async def test_an_idle_worker_writes_nothing_to_the_history(
    driver: SqliteDriver, clock: ManualClock, foreign: sqlite3.Connection
) -> None:
    """It only sums, once, what was counted before."""
    await finish(driver, "a", DONE)
    clock.advance(MINUTE)
    worker = Worker(driver, "idle")
    await worker.step()
    before = foreign.execute("PRAGMA data_version").fetchone()
    for _ in range(3):
        clock.advance(timedelta(seconds=4))
        await worker.step()
    assert foreign.execute("PRAGMA data_version").fetchone() == before


async def test_old_counts_are_removed_a_few_at_a_time(
    driver: SqliteDriver, clock: ManualClock, foreign: sqlite3.Connection
) -> None:
    start = int(clock.now().timestamp() * 1000)
    await driver.enqueue([record()])
    rows = [("minute", start + place % 3 * 60_000, f"job {place // 3}", "q", "enqueued", 1) for place in range(12_000)]
    foreign.execute("BEGIN")
    foreign.executemany("INSERT INTO history VALUES (?, ?, ?, ?, ?, ?)", rows)
    foreign.execute("COMMIT")
    clock.advance("1d")
    counts: list[int] = []
    for _ in range(3):
        await Worker(driver).step()
        counts.append(count_rows(foreign, "minute"))
        clock.advance(MINUTE)
    assert counts == [4_000, 0, 0]


DAMAGES = [
    "n = 'x'",
    "n = x'ff'",
    "n = CAST(x'ff' AS TEXT)",
    "n = -5",
    "n = 1e300",
    "n = 9223372036854775807",
    "n = 1.5",
    "name = CAST(x'ff' AS TEXT)",
    "name = x'ff'",
    "queue = CAST(x'ff' AS TEXT)",
    "metric = CAST(x'ff' AS TEXT)",
    "metric = 'completed x y z'",
    "metric = ''",
    "start = 'x'",
    "start = -9223372036854775808",
    "start = 9223372036854775807",
    "start = 1e300",
    "kind = x'ff'",
]


@pytest.mark.parametrize("change", DAMAGES)
async def test_a_damaged_row_is_ignored(
    driver: SqliteDriver, clock: ManualClock, foreign: sqlite3.Connection, change: str
) -> None:
    """It fails no call, and affects no other count. What is counted later is right."""
    kinds = ("recent", *RESOLUTIONS)
    for _ in range(2):
        await driver.enqueue([record(name=name) for name in (*kinds, "sound")])
        clock.advance(MINUTE)
    for kind in kinds:
        changed = foreign.execute(f"UPDATE history SET {change} WHERE name = ? AND kind = ?", (kind, kind))  # noqa: S608
        assert changed.rowcount == 1
    for _ in range(2):
        for resolution in RESOLUTIONS:
            await read(driver, resolution)
        await driver.enqueue([record(name=name) for name in (*kinds, "sound")])
        clock.advance(MINUTE)
    for resolution in RESOLUTIONS:
        counted = Counter[str]()
        for entry in await read(driver, resolution):
            counted[entry.name] += entry.enqueued
        # A damaged row holds the count of one minute. A recent one, and that of the resolution, are missing here.
        assert counted["sound"] == 4
        assert all(2 <= counted[kind] <= 4 for kind in kinds), counted
        assert all(counted[kind] == 4 for kind in kinds if kind not in {"recent", resolution})


@pytest.mark.parametrize("damage", ["'x'", "-5", "1e300", "9223372036854775807"])
async def test_a_damaged_count_is_replaced(driver: SqliteDriver, foreign: sqlite3.Connection, damage: str) -> None:
    await driver.enqueue([record()])
    foreign.execute(f"UPDATE history SET n = {damage}")  # noqa: S608 - from the list above
    assert await read(driver) == []
    await driver.enqueue([record(), record()])
    assert [entry.enqueued for entry in await read(driver)] == [2]
