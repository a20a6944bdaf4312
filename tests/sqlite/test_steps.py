"""The rows that steps write to the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flowli_core.drivers.sqlite import SqliteDriver
from flowli_core.limits import WORKER_MEMORY
from flowli_core.testing import ManualClock
from tests.conformance.builders import HOUR, LEASE, Worker, ack, ids, lease_of, record
from tests.support.store import cancel_one

if TYPE_CHECKING:
    import sqlite3

NEARLY_FORGOTTEN = WORKER_MEMORY * 0.9


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def test_an_idle_step_writes_nothing(driver: SqliteDriver, foreign: sqlite3.Connection) -> None:
    """Otherwise idle workers would wake each other. Only now and then it writes that its worker is alive."""
    await driver.enqueue([record(due=HOUR)])
    worker = Worker(driver)
    assert await worker.take() == ()
    before = version(foreign)
    for _ in range(3):
        assert await worker.take() == ()
    await worker.again()
    await driver.heartbeat("w", [], LEASE)
    assert version(foreign) == before
    await driver.enqueue([record()])
    assert version(foreign) != before


def version(foreign: sqlite3.Connection) -> int:
    """Return a number that changes with each commit of another connection."""
    found: int = foreign.execute("PRAGMA data_version").fetchone()[0]
    return found


async def test_an_idle_step_is_remembered(driver: SqliteDriver) -> None:
    worker = Worker(driver)
    early = await worker.step(want=1)
    assert early.reserved == ()
    first = worker.last
    await worker.step(want=1)
    await driver.enqueue([record()])
    assert (await worker.again()).reserved == ()
    assert (await driver.step(first)).reserved == ()
    assert len(await worker.take()) == 1


async def test_an_idle_step_is_forgotten_in_time(driver: SqliteDriver, clock: ManualClock) -> None:
    worker = Worker(driver)
    assert await worker.take() == ()
    await driver.enqueue([record("a")])
    clock.advance(WORKER_MEMORY)
    assert ids((await worker.again()).reserved) == ["a"]


async def test_workers_that_were_not_seen_for_long_leave_no_row(
    driver: SqliteDriver, foreign: sqlite3.Connection, clock: ManualClock
) -> None:
    for name in ("a", "b", "c"):
        await driver.enqueue([record()])
        await Worker(driver, name).take_one()
        clock.advance(WORKER_MEMORY / 2)
    assert {row[0] for row in foreign.execute("SELECT id FROM worker")} == {"b", "c"}


async def test_a_heartbeat_keeps_a_worker_from_being_forgotten(driver: SqliteDriver, clock: ManualClock) -> None:
    await driver.enqueue([record("a"), record("b")])
    worker = Worker(driver)
    held = await worker.take_one()
    clock.advance(NEARLY_FORGOTTEN)
    await driver.heartbeat("w", [lease_of(held)], HOUR)
    clock.advance(NEARLY_FORGOTTEN)
    await Worker(driver, "other").take_one()
    assert (await worker.again()).reserved == (held,)


async def test_a_step_sent_again_keeps_a_worker_from_being_forgotten(driver: SqliteDriver, clock: ManualClock) -> None:
    await driver.enqueue([record("a"), record("b")])
    worker = Worker(driver)
    held = await worker.take_one(lease=HOUR)
    for _ in range(2):
        clock.advance(NEARLY_FORGOTTEN)
        assert (await worker.again()).reserved == (held,)


async def test_a_removed_record_leaves_no_row(driver: SqliteDriver, foreign: sqlite3.Connection) -> None:
    await driver.enqueue([record("a", input=b"x" * 100_000), record("b", queue="other")])
    for record_id in ("a", "b"):
        await cancel_one(driver, record_id)
    assert await driver.purge("cancelled", older_than=-LEASE, limit=10) == 2
    for table in ("record", "payload", "counts"):
        assert foreign.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)  # noqa: S608 - from the list above


async def test_a_step_may_have_thousands_of_acks(driver: SqliteDriver) -> None:
    """They are more than SQLite takes as parameters."""
    records = [record(key=f"key {i}") for i in range(10_000)]
    assert {answer.disposition for answer in await driver.enqueue(records)} == {"accepted"}
    assert {answer.disposition for answer in await driver.enqueue(records)} == {"duplicate"}
    worker = Worker(driver)
    held = await worker.take(10_000)
    assert ids(held) == [one.id for one in records]
    await driver.heartbeat("w", [], LEASE)
    assert set((await worker.step(*[ack(one) for one in held])).acks) == {"ok"}
