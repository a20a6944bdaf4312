"""The history in Redis: numbers are folded into periods that expire, and damage to them stops nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core import StoreDamaged
from flowli_core.drivers.redis import RedisDriver
from flowli_core.history import HOURS_KEPT, MINUTES_KEPT, MOST_HISTORY_JOBS, OTHERS, HistoryEntry, HistoryQuery
from flowli_core.testing import ManualClock
from tests.conformance.builders import Worker, ack, record
from tests.redis.server import Server, connect, fresh_prefix, shared_url
from tests.support.figures import note_figures
from tests.support.store import cancel_one

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from flowli_core.history import Resolution

MINUTE = timedelta(minutes=1)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def prefix(foreign: Any) -> Iterator[str]:
    """Return a prefix that the test may damage. Its keys are removed at the end, before they are inspected."""
    prefix = fresh_prefix()
    yield prefix
    if keys := foreign.keys(f"{{{prefix}}}*"):
        foreign.delete(*keys)


@pytest.fixture
async def driver(prefix: str, clock: ManualClock) -> AsyncIterator[RedisDriver]:
    """Open a driver whose time stands still."""
    made = RedisDriver.from_url(shared_url(), prefix=prefix, clock=clock)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def key(prefix: str) -> Callable[[str], str]:
    """Return the function that returns the full name of a key."""
    return lambda name: f"{{{prefix}}}:1:{name}"


async def read(driver: RedisDriver, resolution: Resolution = "total") -> list[HistoryEntry]:
    """Return all entries."""
    return (await driver.history(HistoryQuery(resolution=resolution, periods=1_000)))[1]


async def use(driver: RedisDriver, worker: Worker) -> None:
    """Run one job, and cancel another."""
    waiting = record()
    await driver.enqueue([record()])
    held = await worker.take_one()
    await driver.enqueue([waiting])
    await cancel_one(driver, waiting.id)
    assert await worker.settle(held) == "ok"


def names_of_keys(foreign: Any, prefix: str) -> dict[str, int]:
    """Return the time to live in ms of each key of the history, -1 if it does not expire."""
    root = f"{{{prefix}}}:1:"
    found = sorted(one.decode() for one in foreign.scan_iter(match=f"{root}history*"))
    return {one.removeprefix(root): foreign.pttl(one) for one in found}


async def test_the_numbers_of_a_job_are_folded_when_it_is_counted_in_another_minute(
    driver: RedisDriver, clock: ManualClock, foreign: Any, key: Callable[[str], str]
) -> None:
    """Only its own numbers are. Those of other jobs wait until they are counted again, or read."""
    start = int(clock.now().timestamp())
    await driver.enqueue([record(), record(), record(name="other")])
    clock.advance(MINUTE)
    await driver.enqueue([record()])
    minute, now = start // 60, str(start // 60 + 1)
    assert foreign.hgetall(key("history:job:q\nother")) == {f"{minute}e".encode(): b"1"}
    assert foreign.hgetall(key("history:job:q\nsend_email")) == {f"{now}e".encode(): b"1"}
    for name in (f"minute:{minute}", f"hour:{minute // 60}", "total"):
        assert foreign.hgetall(key(f"history:{name}")) == {b"q\nsend_email": b"e 2"}
    await read(driver)
    assert foreign.hgetall(key("history:total")) == {b"q\nsend_email": b"e 3", b"q\nother": b"e 1"}
    assert not foreign.keys(key("history:job*"))


async def test_minutes_and_hours_expire(
    driver: RedisDriver, clock: ManualClock, foreign: Any, prefix: str, key: Callable[[str], str]
) -> None:
    """They do soon after they need not be kept, and the total never does. What was never read is folded late."""
    for _ in range(3):
        await driver.enqueue([record()])
        clock.advance(MINUTES_KEPT / 2)
    await read(driver)
    minutes = sorted(ttl for name, ttl in names_of_keys(foreign, prefix).items() if ":minute:" in name)
    hours = sorted(ttl for name, ttl in names_of_keys(foreign, prefix).items() if ":hour:" in name)
    assert (len(minutes), len(hours), foreign.pttl(key("history:total"))) == (3, 3, -1)
    longest = (MINUTES_KEPT + 2 * MINUTE) / timedelta(milliseconds=1)
    assert all(0 < ttl <= longest for ttl in minutes)
    assert all(ttl <= (HOURS_KEPT + timedelta(hours=1, minutes=1)) / timedelta(milliseconds=1) for ttl in hours)
    await driver.enqueue([record(name="folded late")])
    clock.advance(HOURS_KEPT + timedelta(days=1))
    await driver.enqueue([record()])
    assert "folded late" in [one.name for one in await read(driver)]
    assert len([name for name in names_of_keys(foreign, prefix) if ":minute:" in name]) == 4


async def test_no_key_is_kept_long_because_the_clock_was_set_back(
    driver: RedisDriver, clock: ManualClock, foreign: Any, prefix: str
) -> None:
    clock.advance(timedelta(days=400))
    await driver.enqueue([record()])
    clock.back(timedelta(days=400))
    await read(driver)
    assert sum(ttl < 0 for ttl in names_of_keys(foreign, prefix).values()) == 1
    assert max(names_of_keys(foreign, prefix).values()) <= 2 * HOURS_KEPT / timedelta(milliseconds=1)


async def test_jobs_of_the_last_minute_make_room_for_those_of_this_minute(
    driver: RedisDriver, clock: ManualClock, foreign: Any, key: Callable[[str], str]
) -> None:
    """Nothing is lost, and there are never more jobs in the index than may be counted apart."""
    many = [record(name=f"job {number}") for number in range(MOST_HISTORY_JOBS)]
    await driver.enqueue([*many, record(name="too many")])
    clock.advance(MINUTE)
    await driver.enqueue([record(name=f"new {number}") for number in range(20)])
    assert foreign.zcard(key("history:jobs")) <= MOST_HISTORY_JOBS + 1
    minutes = await read(driver, "minute")
    assert sum(one.enqueued for one in minutes) == MOST_HISTORY_JOBS + 21
    assert [one.enqueued for one in minutes if one.name == OTHERS] == [1]
    total = await read(driver)
    assert (len(total), sum(one.enqueued for one in total)) == (MOST_HISTORY_JOBS + 1, MOST_HISTORY_JOBS + 21)


KEYS = ("history:job:q\nsend_email", "history:jobs", "history:total", "history:minute:{minute}", "history:hour:{hour}")


@pytest.mark.parametrize("name", KEYS)
async def test_a_key_of_another_type_stops_nothing(
    driver: RedisDriver, clock: ManualClock, foreign: Any, key: Callable[[str], str], name: str
) -> None:
    """It is removed, and what comes after that is counted."""
    worker, minute = Worker(driver), int(clock.now().timestamp()) // 60
    damaged = key(name.format(minute=minute, hour=minute // 60))
    for _ in range(2):
        await use(driver, worker)
        foreign.delete(damaged)
        foreign.set(damaged, "x")
        await read(driver)
        foreign.delete(damaged)
        foreign.set(damaged, "x")
        await use(driver, worker)
        for resolution in ("minute", "hour", "total"):
            assert sum(one.completed for one in await read(driver, resolution)) <= 4
        assert foreign.type(damaged) != b"string"
    clock.advance(MINUTE)
    await use(driver, worker)
    before = sum(one.completed for one in await read(driver))
    await use(driver, worker)
    assert [one.completed for one in await read(driver)] == [before + 1]
    assert await driver.fsck() == ()


async def test_an_index_of_another_type_stops_no_count_of_the_next_minute(
    driver: RedisDriver, clock: ManualClock, foreign: Any, key: Callable[[str], str]
) -> None:
    await driver.enqueue([record()])
    foreign.delete(key("history:jobs"))
    foreign.set(key("history:jobs"), "x")
    clock.advance(MINUTE)
    await driver.enqueue([record()])
    assert foreign.zcard(key("history:jobs")) == 1
    assert sum(one.enqueued for one in await read(driver)) == 2


@pytest.mark.parametrize("name", KEYS[2:])
async def test_a_read_removes_a_period_of_another_type(
    driver: RedisDriver, clock: ManualClock, foreign: Any, key: Callable[[str], str], name: str
) -> None:
    minute = int(clock.now().timestamp()) // 60
    foreign.set(key(name.format(minute=minute, hour=minute // 60)), "x")
    for resolution in ("minute", "hour", "total"):
        assert await read(driver, resolution) == []
    assert not foreign.exists(key(name.format(minute=minute, hour=minute // 60)))


@pytest.mark.parametrize("value", ["x", "", "9223372036854775807", "1.5", "-7"])
async def test_a_damaged_number_is_counted_anew(
    driver: RedisDriver, clock: ManualClock, foreign: Any, key: Callable[[str], str], value: str
) -> None:
    """It fails no enqueue."""
    await driver.enqueue([record()])
    foreign.hset(key("history:job:q\nsend_email"), f"{int(clock.now().timestamp()) // 60}e", value)
    await driver.enqueue([record()])
    assert [one.enqueued for one in await read(driver)] in ([1], [])
    await driver.enqueue([record()])
    (entry,) = await read(driver)
    assert entry.enqueued in {1, 2}


async def test_an_entry_that_cannot_be_read_is_left_out(
    driver: RedisDriver, foreign: Any, key: Callable[[str], str]
) -> None:
    """The others are read, and so is what is left of the numbers of an entry."""
    await driver.enqueue([record(), record(name="other")])
    await read(driver)
    unreadable = dict.fromkeys([b"\xff\nname", b"no name", b"q\na\nb"], b"e 1")
    foreign.hset(key("history:total"), mapping={**unreadable, b"q\nother": b"e x c3 2 zz 5 w\xff 1 w9 4 e9 9"})
    found = {one.name: one for one in await read(driver)}
    assert {name: (one.enqueued, one.completed, sum(one.waits)) for name, one in found.items()} == {
        "other": (0, 2, 4),
        "send_email": (1, 0, 0),
    }
    await driver.enqueue([record(name="other")])
    await read(driver)
    assert foreign.hget(key("history:total"), b"q\nother") == b"c3 2 e 1 e9 9 w9 4"


@pytest.mark.parametrize("score", ["-inf", "+inf", -1, 0.5, 1e17, 1e300, None])
async def test_a_damaged_entry_of_the_index_loses_no_number(
    driver: RedisDriver, clock: ManualClock, foreign: Any, key: Callable[[str], str], score: Any
) -> None:
    """If an entry is missing, its numbers are folded when the job is counted in another minute."""
    await driver.enqueue([record()])
    if score is None:
        foreign.delete(key("history:jobs"))
        assert await read(driver) == []
    else:
        foreign.zadd(key("history:jobs"), {"q\nsend_email": score})
        assert [one.enqueued for one in await read(driver)] == [1]
    clock.advance(MINUTE)
    await driver.enqueue([record()])
    assert [one.enqueued for one in await read(driver)] == [2]
    assert not foreign.keys(key("history:job*"))


async def test_damaged_fields_are_removed(driver: RedisDriver, foreign: Any, key: Callable[[str], str]) -> None:
    await driver.enqueue([record()])
    fields = [b"x", b"12", b"e", b"12\xff", b"", b"9" * 20 + b"e", b"7zz9"]
    foreign.hset(key("history:job:q\nsend_email"), mapping=dict.fromkeys(fields, 1))
    assert [one.enqueued for one in await read(driver)] == [1]
    assert not foreign.keys(key("history:job*"))


async def test_a_call_that_ended_half_way_is_counted_once(
    driver: RedisDriver, foreign: Any, key: Callable[[str], str]
) -> None:
    """A key of another type ends it. It counts when it is sent again, and the key has been removed."""
    worker = Worker(driver)
    batch = [record("a"), record("b")]
    foreign.set(key("due:q"), "x")
    with pytest.raises(StoreDamaged):
        await driver.enqueue(batch)
    foreign.delete(key("due:q"))
    await driver.enqueue(batch)
    held = await worker.take(2)
    foreign.set(key("failed"), "x")
    with pytest.raises(StoreDamaged):
        await worker.step(*[ack(one) for one in held])
    foreign.delete(key("failed"))
    await worker.again()
    await worker.again()
    (entry,) = await read(driver)
    assert (entry.enqueued, entry.completed, sum(entry.runs)) == (2, 2, 2)


async def test_the_history_is_counted_and_read_when_memory_is_full(server: Server) -> None:
    """A full server refuses new jobs, and the others go on."""
    driver = RedisDriver.from_url(server.url)
    await driver.open()
    worker = Worker(driver)
    await driver.enqueue([record(), record(name="refused later")])
    held = await worker.take(2)
    admin = connect(server.url)
    admin.config_set("maxmemory", 1)
    await worker.step(*[ack(one) for one in held])
    assert [(one.name, one.completed) for one in await read(driver)] == [("refused later", 1), ("send_email", 1)]
    admin.config_set("maxmemory", 0)
    admin.close()
    await driver.close()


async def test_a_batch_is_counted_in_as_few_commands_as_one_record(server: Server) -> None:
    """The numbers of a call are added up before they are written."""
    driver = RedisDriver.from_url(server.url, clock=ManualClock())
    await driver.open()
    worker, admin = Worker(driver), connect(server.url)
    written = list[int]()
    for number in (1, 100):
        admin.config_resetstat()
        await driver.enqueue([record() for _ in range(number)])
        await worker.step(*[ack(one) for one in await worker.take(number)])
        written.append(admin.info("commandstats")["cmdstat_hincrby"]["calls"])
    assert written[1] <= written[0]
    admin.close()
    await driver.close()


async def run_jobs(worker: Worker, clock: ManualClock, *, pairs: int, each: int) -> None:
    """Run some jobs of each pair in one minute, with various durations."""
    for turn in range(each):
        await worker.driver.enqueue([record(name=f"job {number:03d}") for number in range(pairs)])
        clock.advance(timedelta(milliseconds=4**turn))
        held = await worker.take(pairs)
        clock.advance(timedelta(milliseconds=2 ** (turn + 4)))
        await worker.step(*[ack(one) for one in held])


@pytest.mark.faults
@pytest.mark.parametrize(("minutes", "pairs"), [(60, 50), (5, MOST_HISTORY_JOBS)])
async def test_no_call_of_a_read_takes_long(server: Server, minutes: int, pairs: int) -> None:
    """The calls fold or read a part each."""
    clock = ManualClock()
    driver, admin = RedisDriver.from_url(server.url, clock=clock), connect(server.url)
    await driver.open()
    worker = Worker(driver)
    for minute in range(minutes):
        if minute == minutes - 1:
            await read(driver)
        start = clock.now()
        await run_jobs(worker, clock, pairs=pairs, each=7)
        if minute < minutes - 1:
            clock.advance(start + MINUTE - clock.now())
    admin.config_set("slowlog-log-slower-than", 0)
    admin.config_set("slowlog-max-len", 100_000)
    for resolution in ("minute", "hour", "total"):
        admin.slowlog_reset()
        entries = await read(driver, resolution)
        calls = [one for one in admin.slowlog_get(100_000) if one["command"].startswith(b"EVALSHA")]
        slowest = max(one["duration"] for one in calls)
        note_figures(
            f"history by {resolution}: {len(entries)} entries of {pairs} jobs in {len(calls)} calls, the longest took "
            f"{slowest / 1000:.1f} ms on the server"
        )
        assert sum(one.completed for one in entries) == minutes * pairs * 7
    admin.close()
    await driver.close()
