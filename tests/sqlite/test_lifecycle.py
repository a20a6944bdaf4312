"""Opening, closing and cancelling, from any thread and event loop."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flowli_core.clock import SystemClock
from flowli_core.drivers.sqlite import SqliteDriver
from flowli_core.errors import DriverError, StoreUnavailable
from flowli_core.stored import SchedulesDue
from tests.conformance.builders import HOUR, LEASE, PATIENCE, Worker, lease_of, record, soon, step, waiting_step
from tests.support.store import cancel_one, read_page, requeue_one

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from datetime import datetime

Q = ("q",)

CALLS: dict[str, Callable[[SqliteDriver], Awaitable[object]]] = {
    "enqueue": lambda driver: driver.enqueue([record()]),
    "step": lambda driver: driver.step(step()),
    "wait": lambda driver: driver.step(waiting_step()),
    "heartbeat": lambda driver: driver.heartbeat("w", [], LEASE),
    "cancel": lambda driver: cancel_one(driver, "a"),
    "requeue": lambda driver: requeue_one(driver, "a"),
    "purge": lambda driver: driver.purge("failed", older_than=HOUR, limit=1),
    "records": lambda driver: read_page(driver, "failed", limit=1),
    "overview": lambda driver: driver.overview(),
    "put_schedule": lambda driver: driver.put_schedule("a", None, revision=0),
    "schedules": lambda driver: driver.schedules(SchedulesDue(1)),
}


class StoppingClock(SystemClock):
    """A clock that can block its readers. A transition reads it once, inside its transaction."""

    def __init__(self) -> None:
        self.stopped = False
        self.read = threading.Event()
        self.go_on = threading.Event()

    def now(self) -> datetime:
        """Return the time; while stopped, only after `go_on`."""
        if self.stopped:
            self.read.set()
            assert self.go_on.wait(PATIENCE)
        return super().now()


@pytest.fixture
def clock() -> StoppingClock:
    return StoppingClock()


@pytest.fixture
def stoppable(path: Path, clock: StoppingClock) -> SqliteDriver:
    return SqliteDriver(path, clock=clock)


def descriptors() -> set[str]:
    """Return the files under test that this process has open."""
    return {link for link in map(readlink, Path("/proc/self/fd").iterdir()) if "jobs.sqlite3" in link}


def readlink(entry: Path) -> str:
    """Return the file of a descriptor, or nothing if it is closed."""
    try:
        return str(entry.readlink())
    except FileNotFoundError:
        return ""


@pytest.mark.parametrize("name", CALLS)
async def test_nothing_works_before_open_and_after_close(path: Path, name: str) -> None:
    driver = SqliteDriver(path)
    with pytest.raises(DriverError, match="await its open"):
        await CALLS[name](driver)
    await driver.open()
    await driver.close()
    with pytest.raises(DriverError, match="await its open"):
        await CALLS[name](driver)


async def test_closing_twice_or_without_opening_does_nothing(path: Path) -> None:
    driver = SqliteDriver(path)
    await driver.close()
    await driver.open()
    await driver.close()
    await driver.close()


async def test_a_waiter_ends_when_the_driver_is_closed(driver: SqliteDriver) -> None:
    waiting = asyncio.create_task(driver.step(waiting_step()))
    await driver.overview()
    await driver.close()
    with pytest.raises(StoreUnavailable, match="closed during a wait"):
        await soon(waiting)


async def test_calls_made_before_close_are_finished(path: Path) -> None:
    driver = SqliteDriver(path)
    await driver.open()
    enqueueing = [asyncio.create_task(driver.enqueue([record()])) for _ in range(20)]
    await asyncio.sleep(0)
    await driver.close()
    assert len([await each for each in enqueueing]) == 20


async def test_no_thread_and_no_descriptor_outlives_close(path: Path) -> None:
    before = set(threading.enumerate())
    for _ in range(3):
        driver = SqliteDriver(path)
        await driver.open()
        await driver.step(waiting_step(wait=timedelta(milliseconds=1)))
        await driver.overview()
        assert descriptors()
        assert len(set(threading.enumerate()) - before) == 3
        await driver.close()
        assert set(threading.enumerate()) == before
        assert descriptors() == set()
    gc.collect()


async def test_no_thread_and_no_descriptor_outlives_an_open_that_failed(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite3"
    path.write_bytes(b"no database" * 100)
    before = set(threading.enumerate())
    driver = SqliteDriver(path)
    for _ in range(3):
        with pytest.raises(DriverError):
            await driver.open()
    assert set(threading.enumerate()) == before
    assert descriptors() == set()


async def test_any_event_loop_may_use_it(driver: SqliteDriver) -> None:
    """Leases are renewed from a thread with a loop of its own while the main loop is blocked."""
    await driver.enqueue([record()])
    held = await Worker(driver).take_one()
    beats: list[object] = []
    beating = threading.Thread(
        target=lambda: beats.append(asyncio.run(driver.heartbeat("w", [lease_of(held)], timedelta(hours=2))))
    )
    beating.start()
    beating.join(PATIENCE)
    assert len(beats) == 1


async def test_it_may_be_opened_on_one_loop_and_closed_on_another(path: Path) -> None:
    driver = SqliteDriver(path)
    await asyncio.to_thread(asyncio.run, driver.open())
    await driver.enqueue([record()])
    await asyncio.to_thread(asyncio.run, driver.close())
    with pytest.raises(DriverError):
        await driver.overview()


def begin(call: Coroutine[object, object, object]) -> asyncio.Task[object]:
    """Start a call that the test will cancel."""
    return asyncio.create_task(call)


async def in_the_middle(clock: StoppingClock, task: asyncio.Task[object]) -> None:
    """Wait until a transition has begun its transaction."""
    assert await asyncio.to_thread(clock.read.wait, PATIENCE)
    assert not task.done()


async def test_a_cancelled_enqueue_that_has_begun_stores_all(stoppable: SqliteDriver, clock: StoppingClock) -> None:
    await stoppable.open()
    clock.stopped = True
    enqueueing = begin(stoppable.enqueue([record() for _ in range(100)]))
    await in_the_middle(clock, enqueueing)
    enqueueing.cancel()
    await asyncio.wait([enqueueing])
    assert enqueueing.cancelled()
    clock.go_on.set()
    # This call waits behind it in the same lane.
    assert await cancel_one(stoppable, "unknown") == "unknown"
    assert (await stoppable.overview()).counts.queued == 100
    await stoppable.close()


async def test_a_cancelled_enqueue_that_has_not_begun_stores_nothing(
    stoppable: SqliteDriver, clock: StoppingClock
) -> None:
    await stoppable.open()
    clock.stopped = True
    first = begin(stoppable.enqueue([record()]))
    await in_the_middle(clock, first)
    second = begin(stoppable.enqueue([record() for _ in range(100)]))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    clock.go_on.set()
    await first
    assert await cancel_one(stoppable, "unknown") == "unknown"
    assert (await stoppable.overview()).counts.queued == 1
    await stoppable.close()


async def test_the_batch_of_a_cancelled_step_is_returned_when_the_step_is_sent_again(
    stoppable: SqliteDriver, clock: StoppingClock
) -> None:
    await stoppable.open()
    await stoppable.enqueue([record() for _ in range(10)])
    clock.stopped = True
    stepping = begin(stoppable.step(step(want=10)))
    await in_the_middle(clock, stepping)
    stepping.cancel()
    await asyncio.wait([stepping])
    clock.go_on.set()
    assert len((await stoppable.step(step(want=10))).reserved) == 10
    await stoppable.close()


async def test_a_cancelled_close_still_closes(stoppable: SqliteDriver, clock: StoppingClock) -> None:
    before = set(threading.enumerate())
    await stoppable.open()
    clock.stopped = True
    enqueueing = begin(stoppable.enqueue([record()]))
    await in_the_middle(clock, enqueueing)
    closing = asyncio.create_task(stoppable.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    clock.go_on.set()
    await enqueueing
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("flowli"):
            await asyncio.to_thread(thread.join, PATIENCE)
            assert not thread.is_alive()
    assert descriptors() == set()


async def test_a_cancelled_open_may_be_repeated(path: Path) -> None:
    driver = SqliteDriver(path)
    opening = asyncio.create_task(driver.open())
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])
    await driver.open()
    await driver.enqueue([record()])
    await driver.close()
    assert descriptors() == set()
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208 - the log went with the last connection
