"""Lanes in the file: places that another process frees, rows that are damaged, and what many lanes cost."""

from __future__ import annotations

import re
import sqlite3
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.drivers.sqlite._sql import SQL
from flowli_core.durations import ZERO
from flowli_core.lanes import Lane, Rate
from flowli_core.stored import RecordById
from flowli_core.testing import ManualClock
from tests.conformance.builders import DONE, Worker, fresh_id, ids, record, soon, waiting_step

if TYPE_CHECKING:
    from flowli_core.drivers.sqlite import SqliteDriver

_TABLES = ("lane", "lane_start")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def find_problems(driver: SqliteDriver) -> str:
    """Return what the check of the file says about stored numbers, or nothing if they are right."""
    (check,) = [one for one in await driver.diagnose() if one.name == "fsck"]
    return check.value if check.verdict == "bad" else ""


async def drain(worker: Worker) -> list[str]:
    """Run the records that are due one by one, with idle steps between, which mend what is damaged."""
    done: list[str] = []
    for _ in range(12):
        taken = await worker.take(1)
        await worker.step()
        for held in taken:
            done.append(held.id)
            await worker.settle(held, DONE)
    return done


async def test_a_place_that_another_process_frees_wakes_a_waiting_step(
    driver: SqliteDriver, elsewhere: SqliteDriver
) -> None:
    worker, lane = Worker(driver), Lane("crawl", "x", 1)
    await driver.enqueue([record("a", lane=lane), record("b", lane=lane, queue="other")])
    held = await worker.take_one()
    waiting = waiting_step("other")
    assert await worker.settle(held, DONE) == "ok"
    assert ids((await soon(elsewhere.step(waiting))).reserved) == ["b"]


@pytest.mark.parametrize("value", ["NULL", "'soon'", "x'00'", "-1", "0", "1.5", "4611686018427387904"])
@pytest.mark.parametrize("column", ["waiting", "at", "suspect"])
async def test_a_damaged_row_of_a_lane_stops_no_record(
    driver: SqliteDriver, foreign: sqlite3.Connection, clock: ManualClock, column: str, value: str
) -> None:
    worker, lane = Worker(driver), Lane("crawl", "x", 1)
    await driver.enqueue([record("a", lane=lane), record("b", lane=lane), record("c")])
    foreign.execute("PRAGMA writable_schema = on")
    foreign.execute("UPDATE sqlite_schema SET sql = replace(sql, ' NOT NULL', '') WHERE type = 'table'")
    foreign.execute("PRAGMA writable_schema = reset")
    foreign.execute(f"UPDATE lane SET {column} = {value}")  # noqa: S608 - from the lists above
    clock.advance(timedelta(milliseconds=1))
    assert sorted(await drain(worker)) == ["a", "b", "c"]
    assert await find_problems(driver) == ""
    assert foreign.execute("SELECT count(*) FROM lane").fetchone() == (0,)


async def test_a_missing_row_of_a_lane_is_found_and_stored_again(
    driver: SqliteDriver, foreign: sqlite3.Connection
) -> None:
    await driver.enqueue([record("a", lane=Lane("crawl", "x", 1))])
    foreign.execute("DELETE FROM lane")
    assert await find_problems(driver) == "1 lanes are wrong"
    assert await drain(Worker(driver)) == ["a"]


async def test_a_lane_that_waits_for_a_place_that_nobody_holds_goes_on(
    driver: SqliteDriver, foreign: sqlite3.Connection
) -> None:
    await driver.enqueue([record("a", lane=Lane("crawl", "x", 1))])
    foreign.execute("UPDATE lane SET at = NULL")
    assert await find_problems(driver) == "1 lanes are wrong"
    assert await drain(Worker(driver)) == ["a"]
    assert await find_problems(driver) == ""


@pytest.mark.parametrize(
    "change",
    [
        "concurrency = 'x'",
        "count = -1",
        "count = 'x'",
        "period = x'00'",
        "name = 'other'",
        "concurrency = 0",
        "concurrency = -1",
        "period = 100000000000000000",
        "count = 1 << 40",
    ],
)
async def test_a_limit_that_cannot_be_read_lets_one_record_run_at_a_time(
    driver: SqliteDriver, foreign: sqlite3.Connection, change: str
) -> None:
    """Until a record is enqueued with it again."""
    worker, lane = Worker(driver), Lane("crawl", "x", 3, Rate(100, timedelta(seconds=1)))
    await driver.enqueue([record(name, lane=lane) for name in "abcd"])
    foreign.execute(f"UPDATE lane_limit SET {change}")  # noqa: S608 - from the list above
    assert ids(await worker.take(10)) == ["a"]
    await driver.enqueue([record("e", lane=lane)])
    assert ids(await worker.take(10)) == ["b", "c"]


@pytest.mark.parametrize("change", ["at = 'soon'", "at = 1e300", "until = 'never'", "until = NULL"])
async def test_damaged_starts_are_forgotten(
    driver: SqliteDriver, foreign: sqlite3.Connection, clock: ManualClock, change: str
) -> None:
    worker, lane = Worker(driver), Lane("crawl", "x", None, Rate(1, timedelta(seconds=1)))
    await driver.enqueue([record("a", lane=lane), record("b", lane=lane)])
    await worker.settle(await worker.take_one(), DONE)
    foreign.execute("PRAGMA writable_schema = on")
    foreign.execute("UPDATE sqlite_schema SET sql = replace(sql, ' NOT NULL', '') WHERE type = 'table'")
    foreign.execute("PRAGMA writable_schema = reset")
    foreign.execute(f"UPDATE lane_start SET {change}")  # noqa: S608 - from the list above
    clock.advance(timedelta(seconds=1))
    assert await drain(worker) == ["b"]


async def test_a_record_of_a_lane_that_is_set_aside_leaves_it(
    driver: SqliteDriver, foreign: sqlite3.Connection
) -> None:
    foreign.execute("PRAGMA ignore_check_constraints = on")
    await driver.enqueue([record(name, lane=Lane("crawl", "x", 1)) for name in "ab"])
    foreign.execute("UPDATE record SET name = x'00' WHERE id = 'a'")
    assert await drain(Worker(driver)) == ["b"]
    assert foreign.execute("SELECT count(*) FROM lane").fetchone() == (0,)
    assert await find_problems(driver) == ""


@pytest.mark.parametrize("text", ["'garbage'", "''", "char(10)", "char(10) || 'crawl'", "12", "x'0A'", "x'0AFF0A'"])
async def test_a_record_whose_lane_cannot_be_read_stops_nothing(
    driver: SqliteDriver, foreign: sqlite3.Connection, clock: ManualClock, text: str
) -> None:
    """The first idle step sets it aside. Until then it is in no lane that is listed."""
    await driver.enqueue([record(name, lane=Lane("crawl", "x", 1)) for name in "abc"])
    foreign.execute(f"UPDATE record SET lane = {text} WHERE id = 'a'")  # noqa: S608 - from the list above
    foreign.execute(f"UPDATE lane SET lane = {text}")  # noqa: S608
    assert (await driver.overview()).lane_count <= 2
    assert await drain(Worker(driver)) == ["b", "c"]
    (damaged,) = (await driver.records(RecordById("a"))).records
    assert (damaged.state, damaged.damage) == ("failed", "its lane cannot be read")
    assert (await driver.overview()).lanes == ()
    assert await find_problems(driver) == ""


@pytest.mark.parametrize(
    "change", ["DELETE FROM record WHERE id = 'a'", "UPDATE record SET lease_end = 'x' WHERE id = 'a'"]
)
async def test_a_place_whose_record_is_gone_is_free(
    driver: SqliteDriver, foreign: sqlite3.Connection, change: str
) -> None:
    """The other record of the lane goes on, so nothing else would find that one of its two places is free."""
    worker, other = Worker(driver), Worker(driver, "other")
    await driver.enqueue([record(name, lane=Lane("crawl", "x", 2)) for name in "abc"])
    assert ids(await worker.take(5)) == ["a", "b"]
    foreign.execute("PRAGMA ignore_check_constraints = on")
    foreign.execute(change)
    assert await find_problems(driver) in {"1 lanes are wrong", ""}
    for _ in range(3):
        await other.step()
    assert ids(await other.take(5)) == ["c"]
    assert await find_problems(driver) == ""


async def test_a_step_looks_at_few_lanes_after_the_clock_was_set_back(driver: SqliteDriver, clock: ManualClock) -> None:
    """Every lane that waits for its rate has a turn then, in which it finds out that it has none."""
    rate, worker = Rate(1, timedelta(hours=1)), Worker(driver)
    for which in ("first", "second"):
        await driver.enqueue(
            [record(f"{which} {number}", lane=Lane("crawl", str(number), None, rate)) for number in range(450)]
        )
    for _ in range(5):
        for held in await worker.take(100):
            await worker.settle(held, DONE)
    assert (await worker.step()).next_due == timedelta(hours=1)
    clock.back("1m")
    steps = 1
    while (await worker.step(want=100)).next_due == ZERO:
        steps += 1
    assert steps == 3


async def test_idle_steps_mend_lanes_a_few_at_a_time(driver: SqliteDriver, foreign: sqlite3.Connection) -> None:
    rate, worker = Rate(1, timedelta(hours=1)), Worker(driver)
    for _ in range(2):
        await driver.enqueue(
            [record(fresh_id(), lane=Lane("crawl", f"{number:03}", None, rate)) for number in range(450)]
        )
    for _ in range(5):
        for held in await worker.take(100):
            await worker.settle(held, DONE)
    turns: list[int] = []
    for _ in range(2):
        foreign.execute("UPDATE lane SET at = NULL")
        for _ in range(4):
            await worker.step()
            turns.append(foreign.execute("SELECT count(*) FROM lane WHERE at IS NOT NULL").fetchone()[0])
    assert turns == [200, 400, 450, 450] * 2


async def test_the_numbers_of_a_limit_are_written_only_if_they_differ(
    driver: SqliteDriver, foreign: sqlite3.Connection
) -> None:
    await driver.enqueue([record("a", lane=Lane("crawl", "x", 1))])
    foreign.execute("CREATE TRIGGER written BEFORE INSERT ON lane_limit BEGIN SELECT raise(ABORT, 'written'); END")
    await driver.enqueue([record("b", lane=Lane("crawl", "x", 1))])
    assert ids(await Worker(driver).take(5)) == ["a"]


async def test_the_starts_of_a_lane_are_removed_after_its_period(
    driver: SqliteDriver, foreign: sqlite3.Connection, clock: ManualClock
) -> None:
    worker = Worker(driver)
    await driver.enqueue([record("a", lane=Lane("crawl", "x", 1, Rate(5, timedelta(seconds=1))))])
    held = await worker.take_one()
    assert foreign.execute("SELECT count(*) FROM lane_start").fetchone() == (1,)
    clock.advance(timedelta(seconds=1))
    await worker.settle(held, DONE)
    assert [foreign.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in _TABLES] == [0, 0]  # noqa: S608


def test_a_step_reads_few_lanes() -> None:
    """The statements of a step and of an overview find lanes by an index, and sort none."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(SQL["schema"])
    for name in (
        "find_lines",
        "count_places",
        "find_first",
        "find_turns",
        "find_first_due_of_lane",
        "find_nth_last_start",
        "set_turn",
        "leave_lane",
        "forget_lane",
        "forget_starts",
        "list_lanes",
        "find_first_due",
    ):
        parameters = dict.fromkeys(re.findall(r":([a-z_]+)", SQL[name]))
        plan = [step[3] for step in connection.execute("EXPLAIN QUERY PLAN " + SQL[name], parameters)]
        allowed = ["SCAN lane USING INDEX lane_waiting"] if name == "list_lanes" else []
        assert [step for step in plan if re.match(r"SCAN (lane|record|stored)", step)] == allowed, name
        assert not [step for step in plan if "TEMP B-TREE" in step and name != "find_turns"], (name, plan)
    connection.close()
