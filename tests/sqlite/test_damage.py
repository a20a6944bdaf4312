"""Rows that were changed as no program may change them: each affects only its own record or schedule."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.driver import Damaged, Lease
from flowli_core.drivers.sqlite import SqliteDriver
from flowli_core.drivers.sqlite._damage import CUT
from flowli_core.reports import Report
from flowli_core.stored import ScheduleByKey, SchedulesAfter, SchedulesDue, StoredSchedule
from flowli_core.testing import ManualClock
from tests.conformance.builders import (
    BROKEN,
    HOUR,
    LEASE,
    Worker,
    ack,
    assert_consistent,
    everything,
    ids,
    record,
    stored,
    waiting_step,
)
from tests.support.store import cancel_one, read_page, requeue_one

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


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


def damage(foreign: sqlite3.Connection, change: str, record_id: str = "a") -> None:
    """Change a record as no program may."""
    foreign.execute(f"UPDATE record SET {change} WHERE id = ?", (record_id,))  # noqa: S608 - from the tests below


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE log SET token = 'x', count = x'ff'",
        "UPDATE log SET token = 1e300, count = -1, lines = 5",
        "UPDATE log SET lines = CAST(x'ff0a' AS TEXT)",
        "UPDATE progress SET progress = CAST(x'ff' AS TEXT)",
        "UPDATE progress SET progress = 7.5",
        "DELETE FROM log",
    ],
)
async def test_what_was_reported_may_be_damaged(driver: SqliteDriver, foreign: sqlite3.Connection, change: str) -> None:
    """Later reports are stored, and the record is sound."""
    worker = Worker(driver)
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    await worker.step(reports=(Report("a", held.token, b"1", (b"one",)),))
    foreign.execute(change)
    assert (await stored(driver, "a")).damage is None
    await worker.step(reports=(Report("a", held.token, b"2", (b"two",), 1),))
    assert await worker.settle(held) == "ok"
    found = await stored(driver, "a")
    assert (found.state, found.damage, found.progress, found.log[-1]) == ("completed", None, b"2", b"two")


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        ("due = 'soon'", "its due time cannot be read"),
        ("due = 1e300", "its due time cannot be read"),
        ("due = 9223372036854775807", "its due time is out of range"),
        ("cancel_at = 'soon'", "its expiry or cancel request cannot be read"),
        ("cancel_at = -1", "its expiry or cancel request is out of range"),
        ("state = 'waitng'", "its state cannot be read"),
        ("state = 'active'", "its lease does not fit its state"),
        ("suspect = 7", "its recoveries do not add up"),
        ("queue = x'71'", "its queue cannot be read"),
        ("finished_at = 5", "its end time does not fit its state"),
    ],
)
async def test_a_record_that_no_step_would_find_is_set_aside_by_an_idle_one(
    driver: SqliteDriver, foreign: sqlite3.Connection, change: str, clause: str
) -> None:
    await driver.enqueue([record("a"), record("b")])
    damage(foreign, change)
    worker = Worker(driver)
    answers = [await worker.step(want=5)]
    held = answers[0].reserved
    assert "b" in ids(held)
    answers += [await worker.step(*map(ack, held)), await worker.step(), await worker.step()]
    if "a" in ids(held):  # it could be run
        assert (await stored(driver, "a")).state == "completed"
        return
    (found,) = [one for answer in answers for one in answer.damaged]
    assert (found.id, found.damage) == ("a", clause)
    shown = await stored(driver, "a")
    assert (shown.state, shown.damage) == ("failed", clause)
    assert ids(await read_page(driver, "failed", limit=5)) == ["a"]


@pytest.mark.parametrize(
    "change",
    [
        "name = x'00'",
        "name = CAST(x'ff' AS TEXT)",
        "recoveries = 'many'",
        "key = CAST(x'ff' AS TEXT)",
        "worker = x'00'",
    ],
)
async def test_a_due_record_that_cannot_be_read_leaves_the_batch_to_the_others(
    driver: SqliteDriver, foreign: sqlite3.Connection, change: str
) -> None:
    """The step reports it once, also if it is sent again."""
    await driver.enqueue([record(name) for name in "abc"])
    damage(foreign, change, "b")
    worker = Worker(driver)
    answer = await worker.step(want=3)
    assert {"a", "c"} <= set(ids(answer.reserved))
    again = await worker.again()
    assert (again.reserved, again.damaged) == (answer.reserved, ())
    settled = await worker.step(*map(ack, answer.reserved))
    reported = [one.id for one in (*answer.damaged, *settled.damaged)]
    assert reported == ([] if (await stored(driver, "b")).state == "completed" else ["b"])


@pytest.mark.parametrize("change", ["keep_completed = 'long'", "recoveries = x'01'", "state = CAST(x'ff' AS TEXT)"])
async def test_a_record_that_is_damaged_while_it_runs_does_not_keep_others_from_being_settled(
    driver: SqliteDriver, foreign: sqlite3.Connection, change: str
) -> None:
    await driver.enqueue([record("a"), record("b")])
    worker = Worker(driver)
    a, b = await worker.take(2)
    damage(foreign, change)
    assert (await driver.heartbeat("w", [Lease("a", a.token), Lease("b", b.token)], LEASE)).lost <= {"a"}
    answer = await worker.step(ack(a), ack(b))
    assert answer.acks[1] == "ok"
    assert (await stored(driver, "b")).state == "completed"


async def test_a_damaged_lease_that_has_expired_is_not_recovered_but_set_aside(
    driver: SqliteDriver, foreign: sqlite3.Connection, clock: ManualClock
) -> None:
    await driver.enqueue([record("a"), record("b")])
    await Worker(driver, "lost").take(2)
    damage(foreign, "queue = x'ff'")
    clock.advance("1h")
    answer = await Worker(driver).step(want=2)
    assert ids(answer.reserved) == [one.id for one in answer.recovered] == ["b"]
    assert answer.damaged == (Damaged(id="a", queue="", damage="its queue cannot be read"),)


async def test_a_damaged_record_is_requeued_once_it_can_be_read_again(
    driver: SqliteDriver, foreign: sqlite3.Connection
) -> None:
    await driver.enqueue([record("a", input=b"1", key="k")])
    damage(foreign, "name = x'ff'")
    assert await cancel_one(driver, "a") == "finished"
    before = foreign.execute("SELECT * FROM record").fetchall()
    assert await requeue_one(driver, "a") == "damaged"
    assert foreign.execute("SELECT * FROM record").fetchall() == before
    damage(foreign, "name = 'n'")
    assert await requeue_one(driver, "a") == "requeued"
    held = await Worker(driver).take_one()
    assert (held.name, held.input) == ("n", b"1")


async def test_the_id_of_a_damaged_record_stays_and_its_key_is_free(
    driver: SqliteDriver, foreign: sqlite3.Connection
) -> None:
    await driver.enqueue([record("a", key="k")])
    damage(foreign, "due = 'soon'")
    duplicate, new = await driver.enqueue([record("a"), record("b", key="k")])
    assert (duplicate.disposition, duplicate.state) == ("duplicate", "failed")
    assert new.disposition == "accepted"


async def test_a_finished_record_that_cannot_be_read_is_listed_and_purged(
    driver: SqliteDriver, foreign: sqlite3.Connection
) -> None:
    await driver.enqueue([record(name) for name in "abc"])
    worker = Worker(driver)
    a, b, c = await worker.take(3)
    await worker.step(ack(a), ack(b, BROKEN), ack(c))
    damage(foreign, "name = x'ff'")
    assert [(one.id, one.damage) for one in await read_page(driver, "completed", limit=5)] == [
        ("c", None),
        ("a", "its name cannot be read"),
    ]
    assert await driver.purge("completed", older_than=-HOUR, limit=10) == 2


async def test_a_damaged_schedule_is_stopped_alone_and_can_be_stored_anew(
    driver: SqliteDriver, foreign: sqlite3.Connection, clock: ManualClock
) -> None:
    schedule = StoredSchedule(key="a", queue="q", spec=b"{}", next_tick=clock.now() + timedelta(minutes=1))
    for key in "abc":
        assert await driver.put_schedule(key, replace(schedule, key=key), revision=0)
    foreign.execute("UPDATE schedule SET queue = x'ff' WHERE key = 'a'")
    foreign.execute("UPDATE schedule SET next_tick = 'soon' WHERE key = 'b'")
    clock.advance("1h")
    assert [one.key for one in (await driver.schedules(SchedulesDue(5)))[1]] == ["c"]
    listed = (await driver.schedules(SchedulesAfter(limit=5)))[1]
    assert [(one.key, one.damage, one.next_tick is None) for one in listed] == [
        ("a", "its queue cannot be read", True),
        ("b", "its next tick cannot be read", True),
        ("c", None, False),
    ]
    assert await driver.put_schedule("c", None, revision=listed[2].revision)
    assert (await Worker(driver).step()).next_tick is None
    assert await driver.put_schedule("a", schedule, revision=listed[0].revision)
    (anew,) = (await driver.schedules(ScheduleByKey("a")))[1]
    assert (anew.damage, anew.queue) == (None, "q")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE store SET token = 'x'",
        "UPDATE store SET token = 9223372036854775807",
        "UPDATE store SET now = 'x'",
        "UPDATE store SET now = 9223372036854775807",
        "UPDATE store SET revision = x'00'",
        "UPDATE store SET only = 2",
        "DELETE FROM store",
        "UPDATE counts SET n = 'many'",
        "UPDATE counts SET n = 1000000",
        "UPDATE counts SET n = -7",
        "DELETE FROM counts",
    ],
)
async def test_a_damaged_counter_is_made_anew(
    driver: SqliteDriver, foreign: sqlite3.Connection, statement: str
) -> None:
    """No finished record is removed for a wrong count, and tokens grow."""
    await driver.enqueue([record(name, keep_completed=HOUR) for name in "abcd"])
    worker = Worker(driver)
    a, b = await worker.take(2)
    await worker.step(ack(a))
    foreign.execute(statement)
    (c,) = (await worker.step(ack(b), want=1)).reserved
    assert c.token > a.token
    await worker.step(ack(c))
    assert await driver.put_schedule("s", StoredSchedule(key="s", queue="q", spec=b"{}", next_tick=None), revision=0)
    for _ in range(3):
        await worker.step()
    assert set(ids(await read_page(driver, "completed", limit=5))) == {"a", "b", "c"}
    assert (await driver.overview()).counts.queued == 1


@pytest.mark.parametrize(
    "change",
    ["sequence = 9223372036854775807", "sequence = 'x'", "token = x'00'", "acks = 'dddd'", "acks = 'x'", "seen = 'x'"],
)
async def test_a_damaged_step_of_a_worker_does_not_stop_it(
    driver: SqliteDriver, foreign: sqlite3.Connection, change: str
) -> None:
    """If the step is sent again, its acks are answered from the records."""
    await driver.enqueue([record(name) for name in "ab"])
    worker = Worker(driver)
    a, b = await worker.take(2)
    await worker.step(ack(a))
    foreign.execute(f"UPDATE worker SET {change}")  # noqa: S608 - from the list above
    again = await worker.again()
    assert again.acks in {("ok",), ("duplicate",)}
    foreign.execute(f"UPDATE worker SET {change}")  # noqa: S608
    assert (await worker.step(ack(b))).acks == ("ok",)
    assert list((await driver.overview()).workers) in ([], ["w"])


async def test_a_wait_is_not_ended_by_a_damaged_due_time(
    driver: SqliteDriver, foreign: sqlite3.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    await driver.enqueue([record("a")])
    damage(foreign, "due = 'soon'")
    answer = await driver.step(waiting_step(wait=timedelta(milliseconds=50)))
    assert [one.id for one in answer.damaged] == ["a"]
    assert "watching" not in caplog.text


async def test_doctor_names_the_damaged_records(driver: SqliteDriver, foreign: sqlite3.Connection) -> None:
    await driver.enqueue([record(name) for name in "abc"])
    damage(foreign, "due = 'soon'")
    for _ in range(2):
        (check,) = [one for one in await driver.diagnose() if one.name == "records"]
        assert (check.verdict, check.value) == ("bad", "1 cannot be read: a: its due time cannot be read")
        await Worker(driver, queues=("none",)).step()
    damage(foreign, "id = CAST(x'ff' AS TEXT)")
    (check,) = [one for one in await driver.diagnose() if one.name == "records"]
    assert check.value == "1 cannot be read: its due time cannot be read"
    foreign.execute("DELETE FROM record WHERE damage IS NOT NULL")  # no call can name it


async def test_a_damaged_time_of_the_last_write_makes_nothing_due_and_ends_no_lease(
    driver: SqliteDriver, foreign: sqlite3.Connection
) -> None:
    await driver.enqueue([record("a"), record("later", due=HOUR)])
    worker = Worker(driver)
    held = await worker.take_one()
    foreign.execute("UPDATE store SET now = 99999999999999")
    answer = await worker.step(want=5)
    assert (answer.reserved, answer.recovered) == ((), ())
    assert await worker.settle(held) == "ok"


@pytest.mark.parametrize("write", ["enqueue", "reserve", "requeue"])
async def test_a_clock_that_was_set_back_by_years_is_followed(
    driver: SqliteDriver, clock: ManualClock, write: str
) -> None:
    """It is no damage if other times are as late as that of the last write."""
    await driver.enqueue([record("a"), record("c", due=HOUR)])
    clock.advance("3000d")
    if write == "enqueue":
        await driver.enqueue([record("b")])
    elif write == "reserve":
        await Worker(driver, "lost").take(1)
    else:
        await cancel_one(driver, "a")
        await requeue_one(driver, "a")
    clock.back(timedelta(days=3000))
    due = {"enqueue": ["a", "b", "c"], "reserve": ["c"], "requeue": ["a", "c"]}[write]
    assert sorted(ids(await everything(driver, "queued"))) == due
    worker = Worker(driver)
    assert sorted(ids(await worker.take(5))) == due
    clock.advance(LEASE)
    assert sorted(ids(await worker.take(5))) == sorted({"a", *due}), "all leases have ended"


async def test_a_finished_record_with_a_lease_is_not_run_again(
    driver: SqliteDriver, foreign: sqlite3.Connection, clock: ManualClock
) -> None:
    await driver.enqueue([record("a", keep_completed=timedelta(days=9))])
    worker = Worker(driver)
    await worker.settle(await worker.take_one())
    damage(foreign, "lease_end = 5, token = 1")
    answer = await worker.step(want=5)
    assert (answer.recovered, answer.reserved, answer.next_due) == ((), (), None)
    shown = await stored(driver, "a")
    assert (shown.state, shown.damage) == ("completed", "its lease does not fit its state")


async def test_a_waiting_record_with_an_end_of_its_retention_is_not_removed(
    driver: SqliteDriver, foreign: sqlite3.Connection
) -> None:
    await driver.enqueue([record("a", due=HOUR), record("b")])
    damage(foreign, "forget_at = 5")
    worker = Worker(driver)
    await worker.settle(await worker.take_one())
    assert (await stored(driver, "a")).damage == "its end time does not fit its state"


@pytest.mark.parametrize("time", ["1e300", "9223372036854775807", "400000000000000", "-1", "'soon'"])
async def test_finished_records_whose_time_is_out_of_range_hide_no_others_once_they_are_found(
    driver: SqliteDriver, foreign: sqlite3.Connection, time: str
) -> None:
    await driver.enqueue([record(name) for name in "abcd"])
    worker = Worker(driver)
    await worker.step(*[ack(one) for one in await worker.take(4)])
    damage(foreign, f"finished_at = {time}")
    damage(foreign, f"finished_at = {time}", "c")
    await worker.step()
    assert sorted(ids(await everything(driver, "completed", limit=1))) == ["a", "b", "c", "d"]
    assert (await stored(driver, "a")).damage is not None


@pytest.mark.parametrize("time", ["1e300", "9223372036854775807", "'soon'"])
async def test_a_finished_record_whose_end_of_retention_is_out_of_range_is_removed(
    driver: SqliteDriver, foreign: sqlite3.Connection, clock: ManualClock, time: str
) -> None:
    await driver.enqueue([record("a", keep_completed=HOUR)])
    worker = Worker(driver)
    await worker.settle(await worker.take_one())
    damage(foreign, f"forget_at = {time}")
    await worker.step()
    assert (await stored(driver, "a")).state == "completed"
    clock.advance("15d")
    await worker.step()
    assert await everything(driver, "completed") == []


async def test_what_is_stored_beside_a_record_is_read_up_to_a_length(
    driver: SqliteDriver, foreign: sqlite3.Connection
) -> None:
    await driver.enqueue([record("a"), record("b", key="k")])
    worker = Worker(driver)
    await worker.settle(await worker.take_one())
    damage(foreign, f"result = zeroblob({CUT + 1}), attempts = zeroblob({CUT + 1})")
    damage(foreign, f"attempts = zeroblob({CUT + 1})", "b")
    (done,) = await everything(driver, "completed")
    assert len(done.result or b"") == len(done.attempts or b"") == CUT
    answers = await driver.enqueue([record("b"), record("c", key="k")])
    assert [len(one.attempts or b"") for one in answers] == [CUT, CUT]
    assert len((await worker.take_one()).attempts or b"") == CUT


@pytest.mark.faults
@pytest.mark.parametrize("column", ["input", "meta", "policy"])
async def test_a_record_of_more_than_64_mib_is_set_aside_and_not_read(
    driver: SqliteDriver, foreign: sqlite3.Connection, column: str
) -> None:
    await driver.enqueue([record("a"), record("b")])
    number = "(SELECT number FROM record WHERE id = 'a')"
    foreign.execute(f"UPDATE payload SET {column} = zeroblob(80000000) WHERE number = {number}")  # noqa: S608
    shown = {one.id: one for one in await everything(driver, "queued")}
    assert (shown["a"].damage, shown["a"].input, shown["b"].damage) == ("its length is out of range", b"", None)
    answer = await Worker(driver).step(want=5)
    assert (ids(answer.reserved), [one.id for one in answer.damaged]) == (["b"], ["a"])
    assert (await stored(driver, "a")).state == "failed"
