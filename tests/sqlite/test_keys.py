"""Records that wait behind the active holder of their key, and keys that completed records keep, in the file."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.new_records import NewRecord
from flowli_core.testing import ManualClock
from tests.conformance.builders import HOUR, Worker, ack, assert_consistent, ids, record, soon, stored, waiting_step

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator

    from flowli_core.driver import Reserved
    from flowli_core.drivers.sqlite import SqliteDriver


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def driver(driver: SqliteDriver) -> AsyncIterator[SqliteDriver]:
    yield driver
    await assert_consistent(driver)


@pytest.fixture
def foreign(foreign: sqlite3.Connection) -> sqlite3.Connection:
    foreign.execute("PRAGMA ignore_check_constraints = on")
    return foreign


def newer(record_id: str, *, queue: str = "q") -> NewRecord:
    """Make a record that replaces the holder of the key "k"."""
    return NewRecord(id=record_id, name="n", queue=queue, input=b"2", key="k", on_conflict="replace")


async def hold(driver: SqliteDriver, worker: Worker) -> Reserved:
    """Store and reserve the record "a", and store "b", which waits behind it."""
    await driver.enqueue([record("a", key="k")])
    held = await worker.take_one()
    await driver.enqueue([newer("b")])
    return held


async def complete_unique(driver: SqliteDriver, worker: Worker) -> None:
    """Complete the record "a", which keeps its key for an hour."""
    await driver.enqueue([NewRecord(id="a", name="n", queue="q", input=b"1", key="k", unique_for=HOUR)])
    await worker.settle(await worker.take_one())


async def find_problems(driver: SqliteDriver) -> str:
    """Return what the check of the file says about stored numbers, or nothing if they are right."""
    (check,) = [one for one in await driver.diagnose() if one.name == "fsck"]
    return check.value if check.verdict == "bad" else ""


async def test_the_end_of_a_record_wakes_another_process_for_the_one_behind(
    driver: SqliteDriver, elsewhere: SqliteDriver
) -> None:
    """The other process waits for the queue of that one."""
    worker = Worker(driver)
    await driver.enqueue([record("a", key="k")])
    held = await worker.take_one()
    await driver.enqueue([newer("b", queue="other")])
    waiting = waiting_step("other")
    assert await worker.settle(held) == "ok"
    assert ids((await soon(elsewhere.step(waiting))).reserved) == ["b"]


async def test_a_record_replaced_within_a_millisecond_has_another_version(
    driver: SqliteDriver, foreign: sqlite3.Connection
) -> None:
    """Watchers compare versions. The row is a new one, and what belonged to the old one is gone."""
    await driver.enqueue([record("a", key="k")])
    (before,) = foreign.execute("SELECT number FROM record").fetchone()
    await driver.enqueue([newer("b")])
    assert foreign.execute("SELECT number FROM payload").fetchall() == [(before + 1,)]
    assert (await stored(driver, "a")).input == b"2"


@pytest.mark.parametrize("value", ["999", "'x'", "1.5", "x'00'", "-1"])
async def test_a_record_behind_no_other_is_admitted_by_an_idle_step(
    driver: SqliteDriver, foreign: sqlite3.Connection, value: str
) -> None:
    """Until the holder of its key finishes, it is behind that one again."""
    worker = Worker(driver)
    held = await hold(driver, worker)
    change = f"UPDATE record SET behind = {value} WHERE id = 'b'"  # noqa: S608 - from the list above
    foreign.execute(change)
    assert await find_problems(driver) == "1 records wait for others that have finished"
    await worker.step()
    await worker.step()
    assert await find_problems(driver) == ""
    foreign.execute(change)
    assert (await worker.step(ack(held), want=5)).reserved == ()
    await worker.step()
    await worker.step()
    assert ids(await worker.take(5)) == ["b"]


async def test_a_record_that_is_set_aside_frees_the_one_behind(
    driver: SqliteDriver, foreign: sqlite3.Connection
) -> None:
    """The one that was active is damaged; whatever reads it first sets it aside."""
    worker = Worker(driver)
    held = await hold(driver, worker)
    foreign.execute("UPDATE record SET recoveries = 'x' WHERE id = 'a'")
    answer = await worker.step(ack(held), want=5)
    assert (answer.acks, [one.id for one in answer.damaged], ids(answer.reserved)) == (("lost",), ["a"], ["b"])


async def test_an_idle_step_that_sets_a_record_aside_frees_the_one_behind(
    driver: SqliteDriver, foreign: sqlite3.Connection
) -> None:
    """No call would find the damaged one by its lease."""
    await hold(driver, Worker(driver, "victim"))
    foreign.execute("UPDATE record SET lease_end = 'x' WHERE id = 'a'")
    other = Worker(driver, "other")
    assert [one.id for one in (await other.step()).damaged] == ["a"]
    assert ids(await other.take(5)) == ["b"]


async def test_a_damaged_record_behind_another_frees_its_key(driver: SqliteDriver, foreign: sqlite3.Connection) -> None:
    """It is set aside, and the active one holds the key again."""
    worker = Worker(driver)
    held = await hold(driver, worker)
    foreign.execute("UPDATE record SET due = 'x' WHERE id = 'b'")
    (answer,) = await driver.enqueue([record("c", key="k")])
    assert (answer.id, answer.disposition) == ("a", "existing")
    assert (await stored(driver, "b")).state == "failed"
    await worker.settle(held)
    assert await worker.take(5) == ()


@pytest.mark.parametrize("value", ["'x'", "1e300", "-1", "x'00'"])
async def test_a_record_whose_time_for_its_key_is_damaged_is_set_aside(
    driver: SqliteDriver, foreign: sqlite3.Connection, value: str
) -> None:
    worker = Worker(driver)
    await driver.enqueue([record("a", key="k"), record("b", key="l")])
    held = await worker.take(2)
    foreign.execute(f"UPDATE record SET unique_until = {value} WHERE id = 'a'")  # noqa: S608
    answer = await worker.step(*[ack(one) for one in held])
    assert answer.acks[1] == "ok"
    assert (await stored(driver, "a")).damage == (
        "its retention is out of range" if value == "-1" else "its retention cannot be read"
    )


@pytest.mark.parametrize(
    "change",
    ["id = CAST(x'ff' AS TEXT)", "id = x'00'", "until = 'x'", "until = 1e300", "until = 1 << 62", "key = x'6b'"],
)
async def test_a_damaged_key_that_was_kept_is_free(
    driver: SqliteDriver, foreign: sqlite3.Connection, change: str
) -> None:
    """The call that reads it stores its record, and another one that holds the key is found as before."""
    worker = Worker(driver)
    await complete_unique(driver, worker)
    foreign.execute(f"UPDATE unique_key SET {change}")  # noqa: S608 - from the list above
    (answer,) = await driver.enqueue([record("b", key="k")])
    assert answer.disposition == "accepted"
    (answer,) = await driver.enqueue([record("c", key="k")])
    assert (answer.id, answer.disposition) == ("b", "existing")


async def test_kept_keys_are_removed_when_their_time_is_over(
    driver: SqliteDriver, foreign: sqlite3.Connection, clock: ManualClock
) -> None:
    """A file does not grow with the number of keys that were used."""
    worker = Worker(driver)
    await complete_unique(driver, worker)
    clock.advance(HOUR - timedelta(milliseconds=1))
    await worker.step()
    assert foreign.execute("SELECT key, id FROM unique_key").fetchall() == [("k", "a")]
    clock.advance("1ms")
    await worker.step()
    assert foreign.execute("SELECT count(*) FROM unique_key").fetchone() == (0,)


async def test_a_record_behind_another_stays_due_when_the_clock_is_set_back(
    driver: SqliteDriver, clock: ManualClock
) -> None:
    """The record was due before, so it is due when the other one has finished."""
    worker = Worker(driver)
    held = await hold(driver, worker)
    clock.back(HOUR)
    await worker.step()
    assert (await stored(driver, "b")).state == "queued"
    assert ids((await worker.step(ack(held), want=5)).reserved) == ["b"]
