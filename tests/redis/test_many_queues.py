"""The cost of a call does not depend on how many queues there are, and nothing is left of a queue without records."""

from __future__ import annotations

import statistics
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core.drivers.redis import RedisDriver
from flowli_core.durations import ZERO
from flowli_core.stored import RecordsInState, position
from flowli_core.testing import ManualClock
from tests.conformance.builders import BROKEN, Worker, ack, lose, record
from tests.redis.server import Server, connect
from tests.support.figures import note_figures
from tests.support.running import Work
from tests.support.store import read_page

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TENANTS = [f"tenant-{number}" for number in range(250)]
LATER = timedelta(days=1)


@pytest.fixture
def clock() -> ManualClock:
    """Return the clock of the driver. It stands still, because a worker is listed at certain times."""
    return ManualClock()


@pytest.fixture
async def driver(server: Server, clock: ManualClock) -> AsyncIterator[RedisDriver]:
    """Open a driver on a server that nobody else uses, because the tests count its commands."""
    made = RedisDriver.from_url(server.url, clock=clock)
    await made.open()
    yield made
    await made.close()


def cost(server: Server) -> tuple[int, int]:
    """Return how many commands the server has executed, and how many bytes it has read."""
    admin: Any = connect(server.url)
    calls = sum(one["calls"] for name, one in admin.info("commandstats").items() if name != "cmdstat_info")
    read = int(admin.info("stats")["total_net_input_bytes"])
    admin.close()
    return calls, read


async def test_an_enqueue_and_an_idle_step_cost_the_same_with_many_queues(server: Server, driver: RedisDriver) -> None:
    """They execute as many commands, and send as many bytes, as with one queue."""
    worker, costs = Worker(driver), list[tuple[int, int]]()
    for turn in range(3):
        if turn == 2:
            await driver.enqueue([record(queue=queue, due=LATER) for queue in TENANTS])
        before = cost(server)
        await driver.enqueue([record(due=LATER)])
        await worker.step(want=1)
        after = cost(server)
        costs.append((after[0] - before[0], after[1] - before[1]))
    assert costs[2] == costs[1]


async def test_a_queue_that_is_new_to_a_driver_does_not_change_its_calls(server: Server, driver: RedisDriver) -> None:
    """Each call of one driver follows a new queue of another."""
    other = RedisDriver.from_url(server.url)
    await other.open()
    worker = Worker(driver)
    admin: Any = connect(server.url)
    for turn, queue in enumerate(TENANTS[:20]):
        await other.enqueue([record(queue=queue)])
        await driver.enqueue([record()])
        assert len(await worker.take()) == 1
        if turn == 0:  # by then, the server has loaded the scripts
            admin.config_resetstat()
    assert admin.info("commandstats")["cmdstat_evalsha"]["calls"] == 3 * 19
    admin.close()
    await other.close()


async def test_nothing_is_left_of_queues_whose_records_are_purged(
    server: Server, driver: RedisDriver, clock: ManualClock
) -> None:
    """No key, no field and no member names one of them."""
    admin: Any = connect(server.url)
    await driver.enqueue([record(queue=queue, policy=queue.encode(), key=queue) for queue in TENANTS])
    worker = Worker(driver, queues=tuple(TENANTS))
    await worker.step(*[ack(held) for held in await worker.take(250)])
    assert b"tenant-" in everything(admin)
    clock.advance("1ms")
    assert await driver.purge("completed", older_than=ZERO, limit=250) == 250
    assert b"tenant-" not in everything(admin)
    admin.close()


async def test_a_listing_of_damaged_records_costs_the_same_with_many_queues(
    server: Server, driver: RedisDriver, clock: ManualClock
) -> None:
    """It finds their state without a search of the queues."""
    admin: Any = connect(server.url)
    await driver.enqueue([record(f"failed {number}") for number in range(20)])
    worker = Worker(driver)
    await worker.step(*[ack(held, BROKEN) for held in await worker.take(20)])
    admin.hset("{flowli}:1:record", mapping={f"failed {number}": b"junk" for number in range(10)})
    costs = list[int]()
    for turn in range(3):
        if turn == 2:
            await driver.enqueue([record(queue=queue, due=LATER) for queue in TENANTS])
        before = cost(server)
        assert len(await read_page(driver, "failed", limit=50)) == 20
        costs.append(cost(server)[0] - before[0])
    assert costs[2] == costs[1]
    admin.flushall()
    admin.close()


async def test_no_call_reads_all_of_many_queues(server: Server, driver: RedisDriver) -> None:
    """The overview, a listing and the check of the keys' types take several calls."""
    admin: Any = connect(server.url)
    for start in range(0, 1000, 250):
        await driver.enqueue([record(queue=f"{start} {queue}") for queue in TENANTS])
    other = RedisDriver.from_url(server.url)
    calls = list[int]()
    for read in (other.open, other.overview, lambda: other.records(RecordsInState(state="queued", limit=10))):
        admin.config_resetstat()
        await read()
        calls.append(admin.info("commandstats")["cmdstat_evalsha"]["calls"])
    assert min(calls) >= 3
    admin.close()
    await other.close()


async def test_a_long_page_without_payloads_searches_many_queues_once(
    server: Server, driver: RedisDriver, clock: ManualClock
) -> None:
    """It has the suspects too, in the order of the due times, and the page behind it goes on at its end."""
    admin: Any = connect(server.url)
    await driver.enqueue([record("suspect")])
    await lose(driver, clock)
    names = [f"{number:03}" for number in range(800)]
    for start in range(0, len(names), 200):
        clock.advance("1ms")
        await driver.enqueue([record(name, queue=f"queue {name}") for name in names[start : start + 200]])
    admin.config_resetstat()
    page = await read_page(driver, "queued", limit=700, payloads=False)
    searches = admin.info("commandstats")["cmdstat_zrevrangebyscore"]["calls"]
    rest = await read_page(driver, "queued", limit=700, after=position(page[-1]), payloads=False)
    assert [one.id for one in page + rest] == [*reversed(names), "suspect"]
    assert searches < 2 * len(names)  # the first call finds that there are many queues
    admin.close()


def everything(admin: Any) -> bytes:
    """Return all keys of a server with their values, except the history, which has a limit of its own."""
    return b"".join(key + admin.dump(key) for key in admin.scan_iter() if b":history" not in key)


@pytest.mark.faults
async def test_the_parked_jobs_are_found_in_short_calls_among_ten_thousand_queues(
    server: Server, driver: RedisDriver
) -> None:
    """A search of the queues for each of two states takes several calls, and reads each queue about once."""
    work = Work(driver=driver)
    for start in range(0, 10_000, 250):
        due = timedelta(seconds=start % 500 and 10)
        await driver.enqueue([record(queue=f"tenant-{start + number}", due=due) for number in range(250)])
    overview = await driver.overview()
    admin: Any = connect(server.url)
    admin.config_set("slowlog-log-slower-than", 0)
    admin.config_set("slowlog-max-len", 1000)
    admin.slowlog_reset()
    admin.config_resetstat()
    before = admin.info("cpu")
    assert await work.jobs.inspect.get_parked(overview) == ()
    after = admin.info("cpu")
    calls = admin.info("commandstats")
    spent = sum(after[kind] - before[kind] for kind in ("used_cpu_user", "used_cpu_sys"))
    slowest = max(entry["duration"] for entry in admin.slowlog_get(1000))
    note_figures(f"parked jobs among 10,000 queues: {spent:.3f} s of the server, {slowest / 1000:.0f} ms for a call")
    assert calls["cmdstat_zrevrangebyscore"]["calls"] < 3 * 10_000
    assert calls["cmdstat_evalsha"]["calls"] > 20
    admin.close()


@pytest.mark.faults
async def test_ten_thousand_queues_slow_nothing_down(server: Server) -> None:
    """An enqueue and an idle step take at most 1.2 times as long as with one queue."""
    drivers = [RedisDriver.from_url(server.url, prefix=prefix) for prefix in ("one", "many")]
    for driver in drivers:
        await driver.open()
    for start in range(0, 10_000, 250):
        await drivers[1].enqueue([record(queue=f"tenant-{start + number}", due=LATER) for number in range(250)])
    workers = [Worker(driver) for driver in drivers]
    times: dict[tuple[str, int], list[float]] = {}
    for turn in range(2000):
        for which in (0, 1) if turn % 2 else (1, 0):
            started = time.perf_counter()
            await drivers[which].enqueue([record(due=LATER)])
            enqueued = time.perf_counter()
            await workers[which].step(want=1)
            times.setdefault(("enqueue", which), []).append(enqueued - started)
            times.setdefault(("step", which), []).append(time.perf_counter() - enqueued)
    medians = {key: statistics.median(taken[500:]) for key, taken in times.items()}
    ratios = {what: medians[what, 1] / medians[what, 0] for what in ("enqueue", "step")}
    note_figures(f"10,000 queues against one: {ratios}")
    for driver in drivers:
        await driver.close()
    assert max(ratios.values()) < 1.2
