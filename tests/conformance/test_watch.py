"""Watching records: a watcher learns of each change of the records that it watches, and of no others."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.driver import Completed, Released, Retried
from flowli_core.durations import ZERO
from flowli_core.errors import DriverError, StoreUnavailable
from flowli_core.history import HOURS_KEPT
from flowli_core.limits import WATCHER_MEMORY
from flowli_core.reports import Report
from flowli_core.stored import RecordsById, Watch
from tests.conformance.builders import BROKEN, DONE, HOUR, LEASE, PATIENCE, Worker, ack, record, soon
from tests.conformance.drivers import CANDIDATES
from tests.support.store import cancel_one, requeue_one

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from flowli_core.driver import Driver, Reserved
    from flowli_core.testing import ManualClock

MINUTE = timedelta(minutes=1)


async def stored(driver: Driver, *ids: str, due: timedelta = ZERO) -> None:
    """Store records with these ids."""
    await driver.enqueue([record(one, due=due) for one in ids])


async def watched(driver: Driver, *ids: str, by: str = "me") -> None:
    """Watch records that have not changed since."""
    assert await driver.watch(Watch(watcher=by, add=ids)) == []


async def changes(driver: Driver, *, by: str = "me") -> list[str]:
    """Return what has changed since the last call, in order."""
    return sorted(await driver.watch(Watch(watcher=by)))


async def settled(driver: Driver) -> None:
    """Give all tasks and the driver's own threads some time."""
    for _ in range(5):
        await soon(driver.overview())
        await asyncio.sleep(0)


async def next_change(driver: Driver, *, by: str = "me") -> list[str]:
    """Wait until something changes."""
    while not (found := await driver.watch(Watch(watcher=by, wait=HOUR))):
        pass
    return sorted(found)


async def retried(held: Reserved, worker: Worker) -> None:
    await worker.step(ack(held, Retried(MINUTE, b"{}")))


async def completed(held: Reserved, worker: Worker) -> None:
    await worker.step(ack(held, DONE))


async def failed(held: Reserved, worker: Worker) -> None:
    await worker.step(ack(held, BROKEN))


async def released(held: Reserved, worker: Worker) -> None:
    await worker.step(ack(held, Released()))


@pytest.mark.parametrize("settle", [retried, completed, failed, released])
async def test_a_watcher_learns_of_the_start_and_of_the_end_of_a_run(
    driver: Driver, worker: Worker, settle: Callable[[Reserved, Worker], Awaitable[None]]
) -> None:
    await stored(driver, "a", "b")
    await watched(driver, "a")
    held = (await worker.step(want=2)).reserved
    assert await changes(driver) == ["a"]
    for one in held:
        await settle(one, worker)
    assert await changes(driver) == ["a"]
    assert await changes(driver) == []


async def test_a_watcher_learns_of_a_recovery(
    driver: Driver, worker: Worker, other: Worker, clock: ManualClock
) -> None:
    await stored(driver, "a")
    await worker.step(want=1)
    await watched(driver, "a")
    clock.advance(LEASE + MINUTE)
    await watched(driver)
    await driver.watch(Watch(watcher="me", add=("a",)))
    await other.step(want=0)
    assert await changes(driver) == ["a"]


async def test_a_watcher_learns_of_what_a_handler_reports(driver: Driver, worker: Worker) -> None:
    await stored(driver, "a")
    (held,) = (await worker.step(want=1)).reserved
    await watched(driver, "a")
    await driver.heartbeat("w", [], LEASE, [Report(held.id, held.token, progress=b"1")])
    assert await changes(driver) == ["a"]
    await driver.heartbeat("w", [], LEASE, [Report(held.id, held.token, log=(b"a line",))])
    assert await changes(driver) == ["a"]
    await driver.heartbeat("w", [], LEASE, [Report(held.id, held.token + 1, progress=b"2")])
    assert await changes(driver) == []


async def test_a_watcher_learns_of_what_operators_do(driver: Driver, clock: ManualClock) -> None:
    await stored(driver, "a", "b", due=HOUR)
    await watched(driver, "a", "b")
    assert await cancel_one(driver, "a") == "cancelled"
    assert await changes(driver) == ["a"]
    assert await requeue_one(driver, "a") == "requeued"
    assert await requeue_one(driver, "b") == "requeued"
    assert await changes(driver) == ["a", "b"]
    await cancel_one(driver, "a")
    await changes(driver)
    clock.advance(timedelta(seconds=1))
    assert await driver.purge("cancelled", older_than=ZERO, limit=10) == 1
    assert await changes(driver) == ["a"]


async def test_a_watcher_learns_that_a_damaged_record_was_set_aside(
    driver_name: str, driver: Driver, worker: Worker, tmp_path: Path
) -> None:
    spoil = CANDIDATES[driver_name].spoil
    if spoil is None:
        pytest.skip("nothing can be damaged there")
    await stored(driver, "a")
    await watched(driver, "a")
    spoil(tmp_path, "a")
    await worker.step(want=1)
    assert await changes(driver) == ["a"]


async def test_a_change_ends_the_wait_of_each_watcher_of_the_record(driver: Driver, worker: Worker) -> None:
    await stored(driver, "a", "b")
    await watched(driver, "a", by="one")
    await watched(driver, "a", "b", by="other")
    waits = [asyncio.create_task(next_change(driver, by=name)) for name in ("one", "other")]
    await asyncio.sleep(0)
    held = (await worker.step(want=1)).reserved
    assert [one.id for one in held] == ["a"]
    async with asyncio.timeout(PATIENCE):
        assert [await wait for wait in waits] == [["a"], ["a"]]


async def test_a_watcher_that_waits_can_add_records(driver: Driver, worker: Worker) -> None:
    await stored(driver, "a", "b")
    await watched(driver, "b")
    wait = asyncio.create_task(next_change(driver))
    await settled(driver)
    await driver.watch(Watch(watcher="me", add=("a",)))
    await worker.step(want=1)
    async with asyncio.timeout(PATIENCE):
        assert await wait == ["a"]


async def test_changes_between_two_calls_are_kept(driver: Driver, worker: Worker) -> None:
    ids = [f"{n:04d}" for n in range(300)]
    await stored(driver, *ids)
    await watched(driver, *ids)
    await worker.step(want=300)
    async with asyncio.timeout(PATIENCE):
        assert await next_change(driver) == ids


async def test_a_record_that_is_no_longer_watched_is_not_reported(driver: Driver, worker: Worker) -> None:
    await stored(driver, "a", "b")
    await watched(driver, "a", "b")
    await driver.watch(Watch(watcher="me", remove=("a",)))
    await worker.step(want=2)
    assert await changes(driver) == ["b"]


async def test_watching_a_record_that_is_not_stored_does_nothing(
    driver_name: str, driver: Driver, tmp_path: Path
) -> None:
    await watched(driver, "nobody")
    size = CANDIDATES[driver_name].size
    if driver_name not in {"memory", "sqlite"}:  # they hold the ids for the life of the watcher
        before = size(driver, tmp_path)
        await watched(driver, "nobody either")
        assert size(driver, tmp_path) == before
    assert await changes(driver) == []


async def test_a_watcher_is_remembered_between_its_calls(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    await stored(driver, "a")
    await watched(driver, "a")
    clock.advance(WATCHER_MEMORY - timedelta(seconds=1))
    await watched(driver, by="other")
    await worker.step(want=1)
    assert await changes(driver) == ["a"]


async def test_a_record_has_a_limited_number_of_watchers(
    driver_name: str, driver: Driver, worker: Worker, tmp_path: Path
) -> None:
    """The first ones are dropped. A watcher of SQLite or memory costs the store nothing."""
    await stored(driver, "a")
    for n in range(100, 300):
        await watched(driver, "a", by=f"no-{n}")
    await worker.step(want=1)
    found = [await changes(driver, by=f"no-{n}") for n in range(100, 300)]
    limit = 200 if driver_name in {"memory", "sqlite"} else 100
    assert found == [[]] * (200 - limit) + [["a"]] * limit


async def test_a_wait_without_a_change_ends(live_driver: Driver) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(StoreUnavailable):  # a busy machine may take long to connect
                assert await live_driver.watch(Watch(watcher="me", wait=timedelta(milliseconds=20))) == []
                return


async def test_close_ends_a_wait(live_driver: Driver) -> None:
    await stored(live_driver, "a")
    await watched(live_driver, "a")
    wait = asyncio.create_task(next_change(live_driver))
    await settled(live_driver)
    await live_driver.close()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(DriverError):
            await wait


async def test_a_wait_that_is_cancelled_leaves_the_watcher_usable(driver: Driver, worker: Worker) -> None:
    await stored(driver, "a")
    await watched(driver, "a")
    wait = asyncio.create_task(next_change(driver))
    await settled(driver)
    wait.cancel()
    with pytest.raises(asyncio.CancelledError):
        await wait
    await driver.watch(Watch(watcher="me", add=("a",)))
    await worker.step(want=1)
    async with asyncio.timeout(PATIENCE):
        assert await next_change(driver) == ["a"]


async def test_nothing_is_left_of_watchers_that_died(
    driver_name: str, driver: Driver, worker: Worker, clock: ManualClock, tmp_path: Path
) -> None:
    await stored(driver, "a", "b")
    (held,) = (await worker.step(want=1)).reserved
    clock.advance(2 * HOURS_KEPT)
    await watched(driver, "a", "b", by="no-00")
    size = CANDIDATES[driver_name].size
    before = size(driver, tmp_path)
    for n in range(10, 60):
        clock.advance(WATCHER_MEMORY)
        await watched(driver, "a", "b", by=f"no-{n}")
    assert size(driver, tmp_path) == before
    await worker.step(ack(held, DONE))
    assert await changes(driver, by="no-59") == ["a"]


async def test_records_are_read_by_their_ids_with_their_results_only(driver: Driver, worker: Worker) -> None:
    await driver.enqueue([record(one, input=b"[1]", meta=b"[2]") for one in ("a", "b", "c")])
    (held,) = (await worker.step(want=1)).reserved
    await worker.step(ack(held, DONE))
    found = (await driver.records(RecordsById(ids=("c", "nobody", "a")))).records
    assert [(one.id, one.state, one.input, one.meta, one.result) for one in found] == [
        ("c", "queued", b"", None, None),
        ("a", "completed", b"", None, DONE.result),
    ]
    assert (await driver.records(RecordsById(ids=()))).records == []


async def test_large_results_are_read_in_several_calls(driver: Driver, worker: Worker) -> None:
    ids = tuple([f"{n}" for n in range(6)])
    await stored(driver, *ids)
    for one in (await worker.step(want=6)).reserved:
        await worker.step(ack(one, Completed(b"x" * 700_000)))
    found: list[str] = []
    while left := ids[len(found) :]:
        answer = (await driver.records(RecordsById(ids=left))).records
        assert answer
        found += [one.id for one in answer]
    assert tuple(found) == ids
