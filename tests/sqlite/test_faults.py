"""Files that cannot be used at the moment, and rows that were changed by hand."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

import pytest

from flowli_core.driver import Damaged
from flowli_core.drivers.sqlite import SqliteDriver
from flowli_core.errors import DriverError, StoreUnavailable
from flowli_core.reports import Report
from tests.conformance.builders import DONE, HOUR, PATIENCE, Worker, ack, ids, record, soon, stored, waiting_step
from tests.support.store import find, read_page

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_locked_file_is_unavailable_until_the_lock_is_gone(
    path: Path, driver: SqliteDriver, foreign: sqlite3.Connection
) -> None:
    impatient = SqliteDriver(path, busy_timeout="20ms")
    await impatient.open()
    foreign.execute("BEGIN IMMEDIATE")
    refused = record("refused")
    with pytest.raises(StoreUnavailable) as unavailable:
        await impatient.enqueue([refused])
    assert unavailable.value.ids == ("refused",)
    assert str(path) in str(unavailable.value)
    assert "busy_timeout" in str(unavailable.value)
    worker = Worker(impatient)
    with pytest.raises(StoreUnavailable):
        await worker.take()
    assert (await impatient.overview()).counts.queued == 0  # reading does not wait
    foreign.execute("ROLLBACK")
    await impatient.enqueue([refused])
    assert ids((await worker.again()).reserved) == ["refused"]
    await impatient.close()


async def test_a_call_waits_for_a_short_lock(driver: SqliteDriver, foreign: sqlite3.Connection) -> None:
    foreign.execute("BEGIN IMMEDIATE")
    enqueueing = asyncio.create_task(driver.enqueue([record()]))
    assert (await driver.overview()).counts.queued == 0
    foreign.execute("ROLLBACK")
    async with asyncio.timeout(PATIENCE):
        await enqueueing


async def test_a_step_that_fails_in_its_middle_changes_nothing(
    driver: SqliteDriver, foreign: sqlite3.Connection
) -> None:
    """It has settled a record when it cannot reserve another. Sent again, it does both."""
    await driver.enqueue([record("a"), record("b")])
    worker = Worker(driver)
    held = await worker.take_one()
    foreign.execute(
        "CREATE TRIGGER refuse BEFORE UPDATE ON record WHEN new.state = 'active' BEGIN SELECT RAISE(ABORT, ''); END"
    )
    with pytest.raises(DriverError):
        await worker.step(ack(held), want=1)
    assert (await stored(driver, "a")).state == "active"
    foreign.execute("DROP TRIGGER refuse")
    answer = await worker.again()
    assert (answer.acks, ids(answer.reserved)) == (("ok",), ["b"])


async def test_a_waiter_is_woken_while_the_file_is_locked(
    path: Path, driver: SqliteDriver, foreign: sqlite3.Connection
) -> None:
    """Waiting only reads; the step after it finds the lock."""
    impatient = SqliteDriver(path, busy_timeout="20ms")
    await impatient.open()
    await driver.enqueue([record()])
    foreign.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="stayed locked"):
        await soon(impatient.step(waiting_step()))
    foreign.execute("ROLLBACK")
    await impatient.close()


async def test_a_lost_payload_reaches_the_core_as_one_that_it_cannot_decode(
    driver: SqliteDriver, foreign: sqlite3.Connection
) -> None:
    """A damaged record is reserved and can be settled; it does not block the others."""
    await driver.enqueue([record("a"), record("b"), record("c", input=b'{"good":1}')])
    foreign.execute("DELETE FROM payload WHERE number = (SELECT number FROM record WHERE id = 'a')")
    foreign.execute("UPDATE payload SET input = 'a text', meta = 7 WHERE number = 2")
    worker = Worker(driver)
    a, b, c = await worker.take(3)
    assert (a.input, a.meta, a.policy) == (b"", None, b"{}")
    assert (b.input, b.meta) == (b"a text", b"7")
    assert c.input == b'{"good":1}'
    assert (await worker.step(*[ack(one, DONE) for one in (a, b, c)])).acks == ("ok",) * 3
    assert (await stored(driver, "a")).input == b""


async def test_damaged_times_hide_no_record(driver: SqliteDriver, foreign: sqlite3.Connection) -> None:
    await driver.enqueue([record("a"), record("b")])
    foreign.execute("UPDATE record SET created_at = 'yesterday', started_at = 1e300 WHERE id = 'a'")
    foreign.execute("UPDATE record SET updated_at = -9e18 WHERE id = 'b'")
    assert ids(await read_page(driver, "queued", limit=10)) == ["b", "a"]
    assert (await stored(driver, "a")).created_at.year == 1970
    assert ids(await Worker(driver).take(2)) == ["a", "b"]


@pytest.mark.parametrize(
    "change",
    [
        "state = 'waitng'",
        "state = 'active'",
        "state = 'completed'",
        "due = 'soon'",
        "recoveries = 'many'",
        "suspect = 1",
        "id = (SELECT id FROM record WHERE id <> 'a')",
    ],
)
async def test_changes_that_would_break_an_invariant_are_refused(
    driver: SqliteDriver, foreign: sqlite3.Connection, change: str
) -> None:
    """Also if another program makes them."""
    await driver.enqueue([record("a"), record("b")])
    with pytest.raises(sqlite3.IntegrityError):
        foreign.execute(f"UPDATE record SET {change} WHERE id = 'a'")  # noqa: S608 - from the list above


async def test_an_undecodable_text_is_damage_and_is_not_shown(
    driver: SqliteDriver, foreign: sqlite3.Connection
) -> None:
    await driver.enqueue([record("a"), record("b")])
    foreign.execute("UPDATE record SET name = CAST(x'736563726574ff' AS TEXT) WHERE id = 'a'")
    worker = Worker(driver)
    answer = await worker.step(want=2)
    assert answer.damaged == (Damaged(id="a", queue="q", damage="its name cannot be read"),)
    assert ids(answer.reserved) == ["b"]
    found = await find(driver, "a")
    assert found is not None
    assert (found.state, found.name, found.damage) == ("failed", "", "its name cannot be read")


async def test_missing_tables_raise_a_driver_error(driver: SqliteDriver, foreign: sqlite3.Connection) -> None:
    foreign.execute("DROP TABLE worker")
    with pytest.raises(DriverError, match="were its tables changed by hand"):
        await Worker(driver).take()
    foreign.execute("CREATE TABLE worker (id, waits, seen, sequence, token, acks, about, PRIMARY KEY (id, waits))")
    assert await Worker(driver).take() == ()


async def test_a_waiter_is_woken_if_the_file_can_no_longer_be_watched(
    driver: SqliteDriver, foreign: sqlite3.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """Its step raises the error, which would otherwise stay hidden."""
    foreign.execute("ALTER TABLE record RENAME TO elsewhere")
    with pytest.raises(DriverError, match="were its tables changed by hand"):
        await soon(driver.step(waiting_step()))
    assert "watching an SQLite file failed" in caplog.text


def nothing_left(path: str) -> int:
    """Report a disk without room."""
    return 0


async def test_a_disk_that_is_nearly_full_takes_no_new_records(
    driver: SqliteDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything else works. Removed records leave room in the file, which new ones may take."""
    await driver.enqueue([record(input=b"x" * 100_000) for _ in range(20)])
    monkeypatch.setattr("flowli_core.drivers.sqlite._file.free_bytes", nothing_left)
    monkeypatch.setattr("flowli_core.drivers.sqlite._file.ROOM_KEPT", 1024 * 1024)
    refused = record("refused")
    with pytest.raises(StoreUnavailable, match="less than 1 MiB left on its disk") as unavailable:
        await driver.enqueue([refused])
    assert unavailable.value.ids == ("refused",)
    worker = Worker(driver)
    held = await worker.take(20)
    reports = (Report(held[0].id, held[0].token, b"1", (b"one",)),)
    assert (await driver.heartbeat("w", [], HOUR, reports)).lost == frozenset()
    assert (await worker.step(*map(ack, held), reports=reports)).acks == ("ok",) * 20
    found = await stored(driver, held[0].id)
    assert (found.progress, found.log) == (None, ())
    assert await driver.purge("completed", older_than=-HOUR, limit=20) == 20
    assert (await driver.enqueue([refused]))[0].disposition == "accepted"
