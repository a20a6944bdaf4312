"""Schedules as users see them: stored, changed, declared, fired, paused, triggered and removed."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from flowli_core import AllMissed, Defaults, Jobs, Retry, Runner, current_job, job
from flowli_core._jobs.registry import runtime_of
from flowli_core._running.ticker import Ticker
from flowli_core.driver import StepAnswer
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.errors import (
    DefinitionError,
    DriverError,
    SchedulingError,
    StoreUnavailable,
    StrategyError,
    ValidationError,
)
from flowli_core.stored import ScheduleByKey, SchedulesAfter, SchedulesDue, StoredSchedule
from flowli_core.testing import ManualClock, drain
from tests.support.counting import CountingDriver
from tests.support.faulty import FaultyDriver
from tests.support.mailing import AppJobs, Email, Meta, send, who
from tests.support.running import running, soon, until
from tests.support.store import page_schedules, put

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ScheduleQuery = ScheduleByKey | SchedulesDue | SchedulesAfter

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
ran: list[str] = []


@job(int)
async def count(input: int) -> None:
    ran.append(f"{input} {current_job().id}")


@job()
async def nightly() -> None:
    ran.append(current_job().id)


class Plain(Jobs[None]):
    count = count
    nightly = nightly


class Declared(Plain):
    schedules = (
        nightly.scheduled("nightly", cron="0 3 * * *", timezone="Europe/Paris"),
        count.scheduled(every="1h", input=7, missed="all"),
    )


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def driver(clock: ManualClock) -> MemoryDriver:
    return MemoryDriver(clock=clock)


@pytest.fixture
async def jobs(driver: MemoryDriver) -> AsyncIterator[Plain]:
    async with Plain(context=None, driver=driver) as made:
        yield made


async def after(jobs: Jobs[Any], clock: ManualClock, *waits: str) -> list[str]:
    """Run the due jobs after each wait, and return the entries of `ran`."""
    ran.clear()
    for wait in waits:
        clock.advance(wait)
        await drain(jobs)
    return list(ran)


async def test_a_schedule_fires_at_its_next_runs(jobs: Plain, clock: ManualClock) -> None:
    receipt = await jobs.count.schedule("daily", cron="0 8 * * *", input=5, timezone="Europe/Paris")
    assert (receipt.key, receipt.name, receipt.disposition) == ("daily", "count", "created")
    assert receipt.next_runs == tuple(START + timedelta(days=n, hours=7) for n in range(5))
    assert await after(jobs, clock, "6h", "1h", "1m", "24h") == [
        "5 daily@2026-01-01T07:00:00Z",
        "5 daily@2026-01-02T07:00:00Z",
    ]
    found = await jobs.inspect.get_schedule("daily")
    assert found is not None
    assert (found.next_tick, found.last_tick) == (
        START + timedelta(days=2, hours=7),
        START + timedelta(days=1, hours=7),
    )
    assert found.last_record_id == "daily@2026-01-02T07:00:00Z"
    assert (found.cron, found.timezone, found.every, found.input) == ("0 8 * * *", "Europe/Paris", None, 5)
    assert (found.missed, found.overlap, found.paused, found.declared_by) == ("once", "allow", False, None)


async def test_the_same_definition_again_changes_nothing(jobs: Plain, clock: ManualClock) -> None:
    """Not even when its tick is due and has not fired yet: a deploy in the due minute."""
    first = await jobs.nightly.schedule("n", every="1h")
    clock.advance("59m")
    assert await jobs.nightly.schedule("n", every="1h") == replace(first, disposition="unchanged")
    clock.advance("1m")
    assert (await jobs.nightly.schedule("n", every="1h")).next_runs[0] == START + HOUR
    await drain(jobs)
    assert ran == ["n@2026-01-01T01:00:00Z"]


async def test_a_changed_rule_counts_from_now_and_skips_no_due_tick(jobs: Plain, clock: ManualClock) -> None:
    await jobs.nightly.schedule("n", every="1h")
    clock.advance("30m")
    assert (await jobs.nightly.schedule("n", every="2h")).next_runs[0] == START + timedelta(minutes=150)
    clock.advance("120m")
    changed = await jobs.nightly.schedule("n", cron="0 4 * * *")
    assert (changed.disposition, changed.next_runs[0]) == ("updated", START + timedelta(hours=4))
    await drain(jobs)
    assert ran == ["n@2026-01-01T02:30:00Z"]


async def test_a_changed_input_keeps_the_next_tick(jobs: Plain, clock: ManualClock) -> None:
    await jobs.count.schedule("c", every="1h", input=1)
    clock.advance("30m")
    updated = await jobs.count.schedule("c", every="1h", input=2, retry=Retry(max_attempts=4))
    assert (updated.disposition, updated.next_runs[0]) == ("updated", START + HOUR)
    assert await after(jobs, clock, "30m") == ["2 c@2026-01-01T01:00:00Z"]
    record = await jobs.inspect.get_job("c@2026-01-01T01:00:00Z")
    assert record is not None
    assert record.max_attempts == 4


async def test_without_a_key_the_key_is_made_of_job_rule_and_input(jobs: Plain) -> None:
    first = await jobs.count.schedule(every="1h", input=1)
    assert (await jobs.count.schedule(every="1h", input=1)).disposition == "unchanged"
    others = [
        await jobs.count.schedule(every="1h", input=2),
        await jobs.count.schedule(every="2h", input=1),
        await jobs.nightly.schedule(every="1h"),
    ]
    assert len({first.key, *(other.key for other in others)}) == 4


@pytest.mark.parametrize(
    ("missed", "ticks"),
    [
        ("once", [5]),
        ("skip", []),
        ("all", [1, 2, 3, 4, 5]),
        (AllMissed(limit=2), [4, 5]),
        (AllMissed(limit=9), [1, 2, 3, 4, 5]),
    ],
)
async def test_missed_ticks_fire_as_the_policy_says(
    jobs: Plain, clock: ManualClock, missed: Any, ticks: list[int]
) -> None:
    """No worker runs for five and a half hours. After that the schedule goes on as usual."""
    await jobs.nightly.schedule("n", cron="0 * * * *", missed=missed)
    await jobs.count.schedule("c", every="1h", input=0, missed=missed)
    names = [f"2026-01-01T{tick:02}:00:00Z" for tick in ticks]
    fired = await after(jobs, clock, "330m")
    assert sorted(fired) == sorted([*(f"n@{name}" for name in names), *(f"0 c@{name}" for name in names)])
    assert sorted(await after(jobs, clock, "30m")) == ["0 c@2026-01-01T06:00:00Z", "n@2026-01-01T06:00:00Z"]


async def test_a_tick_that_is_less_than_a_minute_late_is_not_missed(jobs: Plain, clock: ManualClock) -> None:
    await jobs.nightly.schedule("n", every="1h", missed="skip")
    assert await after(jobs, clock, "3660s", "3601s") == ["n@2026-01-01T01:00:00Z"]


async def test_overlap_skip_skips_a_tick_while_a_job_is_unfinished(jobs: Plain, clock: ManualClock) -> None:
    """A triggered job is skipped as well. Once the earlier job has finished, the next tick fires."""
    await jobs.nightly.schedule("n", every="1h", overlap="skip")
    runner = Runner(jobs, queues=["elsewhere"])
    clock.advance("1h")
    await runner.run_once()
    clock.advance("1h")
    await runner.run_once()
    assert (await jobs.inspect.get_queue_counts()).queued == 1
    triggered = await jobs.control.trigger("n")
    assert triggered is not None
    assert (triggered.id, triggered.disposition) == ("n@2026-01-01T01:00:00Z", "existing")
    assert await after(jobs, clock, "1ms", "1h") == ["n@2026-01-01T01:00:00Z", "n@2026-01-01T03:00:00Z"]


async def test_start_and_end_bound_a_schedule(jobs: Plain, clock: ManualClock) -> None:
    begin = START + timedelta(minutes=90)
    receipt = await jobs.nightly.schedule("n", every="1h", start=begin, end=begin + timedelta(minutes=61))
    assert receipt.next_runs == (begin, begin + HOUR)
    assert len(await after(jobs, clock, "1h", "30m", "1h", "1h", "1h")) == 2
    found = await jobs.inspect.get_schedule("n")
    assert found is not None
    assert (found.next_tick, found.paused) == (None, False)


async def test_a_paused_schedule_does_not_fire_and_counts_from_now_when_it_is_resumed(
    jobs: Plain, clock: ManualClock
) -> None:
    await jobs.nightly.schedule("n", every="1h", missed="all")
    assert await jobs.control.pause("n")
    assert await jobs.control.pause("n")
    assert await after(jobs, clock, "150m") == []
    assert (await jobs.nightly.schedule("n", every="1h", missed="all")).next_runs == ()
    assert (await jobs.nightly.schedule("n", every="2h", missed="all")).next_runs == ()
    assert await jobs.inspect.next_runs("n") == ()
    assert await jobs.control.resume("n")
    assert await jobs.control.resume("n")
    assert await jobs.inspect.next_runs("n", 1) == (START + timedelta(minutes=270),)


async def test_trigger_runs_a_job_now_and_keeps_the_next_tick(jobs: Plain, clock: ManualClock) -> None:
    await jobs.count.schedule("c", every="1h", input=3)
    receipt = await jobs.control.trigger("c")
    assert receipt is not None
    assert (receipt.name, receipt.state) == ("count", "queued")
    await drain(jobs)
    assert ran == [f"3 {receipt.id}"]
    assert (await jobs.inspect.next_runs("c"))[0] == START + HOUR


async def test_an_unknown_schedule_is_reported_as_such(jobs: Plain) -> None:
    assert await jobs.control.unschedule("x") is False
    assert await jobs.control.pause("x") is False
    assert await jobs.control.resume("x") is False
    assert await jobs.control.trigger("x") is None
    assert await jobs.inspect.get_schedule("x") is None
    assert await jobs.inspect.next_runs("x") == ()


async def test_unschedule_removes_a_schedule(jobs: Plain, clock: ManualClock) -> None:
    await jobs.nightly.schedule("n", every="1h")
    assert await jobs.control.unschedule("n") is True
    assert await after(jobs, clock, "5h") == []


async def test_schedules_are_listed_page_by_page(jobs: Plain) -> None:
    keys = ["a", "b b", "c/ü", "dd", "eeeee"]
    for key in keys:
        await jobs.nightly.schedule(key, every="1h")
    page = await jobs.inspect.get_schedules(limit=1)
    found = list(page.items)
    while page.cursor is not None:
        page = await jobs.inspect.get_schedules(limit=1, cursor=page.cursor)
        found += page.items
    assert [schedule.key for schedule in found] == keys


async def test_keys_that_are_not_valid_in_ids_still_give_distinct_ids(jobs: Plain, clock: ManualClock) -> None:
    keys = ["täglich um acht", "x" * 256, "x" * 255 + "y", "{a}*", "~"]
    for key in keys:
        await jobs.nightly.schedule(key, every="1h")
    ids = await after(jobs, clock, "1h")
    assert len(set(ids)) == len(keys)
    assert all(len(record_id) <= 128 for record_id in ids)
    for record_id in ids:
        assert await jobs.inspect.get_job(record_id) is not None


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({}, SchedulingError, "give one of them"),
        ({"cron": "@daily", "every": "1h"}, SchedulingError, "give one of them"),
        ({"cron": "0 0 31 2 *"}, SchedulingError, "never fires"),
        ({"cron": 5}, SchedulingError, "cron must be a str"),
        ({"cron": "@daily", "timezone": None}, SchedulingError, "timezone must be a str"),
        ({"every": "1h", "timezone": "Europe/Paris"}, SchedulingError, "timezone goes with cron"),
        ({"every": 60}, SchedulingError, "every"),
        ({"every": "0s"}, SchedulingError, "every"),
        ({"every": "1h", "missed": "never"}, SchedulingError, "missed must be"),
        ({"every": "1h", "overlap": True}, SchedulingError, "overlap must be"),
        ({"every": "1h", "start": datetime(2026, 1, 1)}, SchedulingError, "start must be an aware"),  # noqa: DTZ001
        ({"every": "1h", "retry": 3}, ValidationError, "retry must be"),
        ({"every": "1h", "meta": 3}, ValidationError, "meta"),
        ({"every": "1h", "input": 3}, ValidationError, "input"),
        ({"every": "1h", "key": ""}, ValidationError, "key must not be empty"),
        ({"every": "1h", "key": "x" * 257}, ValidationError, "at most 256"),
        ({"every": "1h", "priority": 3}, ValidationError, "a schedule takes"),
    ],
)
async def test_an_invalid_schedule_is_refused_before_anything_is_stored(
    given: dict[str, Any], error: type[Exception], says: str
) -> None:
    driver = CountingDriver()
    async with AppJobs(context=None, driver=driver) as jobs:
        driver.calls.clear()
        target: Any = jobs.send
        with pytest.raises(error, match=says):
            await target.schedule(**{"input": Email(to="a"), **given})
        assert not driver.calls
        with pytest.raises(ValidationError, match="has its own key"):
            await jobs.send.options(key="k").schedule(every="1h", input=Email(to="a"))


async def test_options_and_meta_reach_the_jobs_of_a_schedule(clock: ManualClock) -> None:
    async with AppJobs(context=None, driver=MemoryDriver(clock=clock)) as jobs:
        bulk = jobs.send.options(queue="bulk", timeout="9s")
        await bulk.schedule("s", every="1h", input=Email(to="a"), meta=Meta(request_id="r"))
        clock.advance("1h")
        await drain(jobs)
        record = await jobs.inspect.get_job("s@2026-01-01T01:00:00Z")
        assert record is not None
        assert (record.queue, record.meta, record.state) == ("bulk", {"request_id": "r"}, "completed")
        assert record.input == {"to": "a"}


async def test_without_a_driver_nothing_is_scheduled() -> None:
    with pytest.raises(StrategyError, match="no driver"):
        await Plain(context=None).nightly.schedule(every="1h")


# Declared


async def test_a_runner_stores_the_declared_schedules(driver: MemoryDriver, clock: ManualClock) -> None:
    async with Declared(context=None, driver=driver) as jobs:
        await drain(jobs)
        page = await jobs.inspect.get_schedules()
        assert {schedule.name for schedule in page.items} == {"count", "nightly"}
        assert {schedule.declared_by for schedule in page.items} == {f"{__name__}.Declared"}
        assert len(await after(jobs, clock, "3h")) == 4


async def test_a_schedule_deleted_from_the_code_is_logged_and_removed_only_on_request(
    driver: MemoryDriver, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with Declared(context=None, driver=driver) as before:
        await drain(before)
        await before.nightly.schedule("by hand", every="1h")
    fewer = type("Declared", (Plain,), {"schedules": Declared.schedules[:1], "__module__": __name__})
    async with fewer(context=None, driver=driver) as jobs:
        with caplog.at_level(logging.WARNING, "flowli"):
            await soon(Runner(jobs).run_once())
        assert "no longer declared in code, but still runs" in caplog.text
        assert len((await jobs.inspect.get_schedules()).items) == 3
        await soon(Runner(jobs, remove_vanished_schedules=True).run_once())
        assert [schedule.key for schedule in (await jobs.inspect.get_schedules()).items] == ["by hand", "nightly"]


def test_a_registry_checks_the_schedules_that_it_declares() -> None:
    twice = (nightly.scheduled("n", every="1h"), nightly.scheduled("n", every="2h"))
    wrong: list[tuple[Any, type[Exception], str]] = [
        (twice, DefinitionError, "two schedules with the key 'n'"),
        ((nightly.scheduled(every="1h"), nightly.scheduled(every="1h")), DefinitionError, "two schedules with the key"),
        ([nightly], DefinitionError, "takes what `job.scheduled"),
        ("nightly", DefinitionError, "must be a list"),
        ((who.scheduled(every="1h"),), DefinitionError, "'who' is not in this registry"),
        ((send.scheduled(every="1h", input=Email(to="a")),), DefinitionError, "'send' is not in this registry"),
        ((count.scheduled(every="1h", input="x"),), ValidationError, "count: input"),  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    ]
    for schedules, error, says in wrong:
        with pytest.raises(error, match=says):
            type("Wrong", (Plain,), {"schedules": schedules})
    with pytest.raises(SchedulingError, match="never fires"):
        nightly.scheduled(cron="0 0 30 2 *")
    with pytest.raises(DefinitionError, match="is used by Jobs itself"):
        type("Hiding", (Jobs,), {"schedules": nightly})


async def test_declared_schedules_follow_the_defaults_of_their_runtime(driver: MemoryDriver) -> None:
    defaults = Defaults(queue="bulk")
    async with Declared(context=None, driver=driver, defaults=defaults) as jobs:
        await drain(jobs)
        assert {schedule.queue for schedule in (await jobs.inspect.get_schedules()).items} == {"bulk"}


# Runners


async def test_an_idle_runner_wakes_up_for_a_tick() -> None:
    """No job is enqueued, and the schedule is stored while the runner waits."""
    async with Plain(context=None, driver=MemoryDriver()) as jobs, running(Runner(jobs)):
        await jobs.nightly.schedule("n", every="1s")
        await until(lambda: len(ran) >= 2)
    assert len(set(ran)) == len(ran)


async def test_a_tick_that_becomes_due_while_the_due_schedules_are_read_fires_at_once(clock: ManualClock) -> None:
    reading, release = asyncio.Event(), asyncio.Event()

    class SlowDriver(MemoryDriver):
        async def schedules(self, query: ScheduleQuery) -> tuple[datetime, list[StoredSchedule]]:
            found = await super().schedules(query)
            reading.set()
            await release.wait()
            return found

    driver, bystander = SlowDriver(clock=clock), cast("Any", SimpleNamespace(step_soon=lambda: None))
    async with Plain(context=None, driver=driver) as jobs:
        release.set()
        for key, every in (("first", "1h"), ("second", "2h")):
            await jobs.nightly.schedule(key, every=every)
        reading.clear()
        release.clear()
        clock.advance("1h")
        async with asyncio.TaskGroup() as tasks:
            ticker = Ticker(
                runtime_of(jobs), tasks, client=bystander, pacer=bystander, once=False, remove_vanished=False
            )
            ticker.after_step(StepAnswer(now=clock.now(), next_tick=timedelta(0)))
            await reading.wait()
            clock.advance("1h")
            ticker.after_step(StepAnswer(now=clock.now(), next_tick=timedelta(0)))
            release.set()
        queued = await jobs.inspect.find("queued")
    assert {job.id.partition("@")[0] for job in queued.items} == {"first", "second"}


async def test_declared_schedules_are_stored_again_after_the_store_has_lost_its_data(
    caplog: pytest.LogCaptureFixture,
) -> None:
    driver = FaultyDriver(MemoryDriver())
    async with Declared(context=None, driver=driver) as jobs:
        runner = Runner(jobs)

        async def has_both() -> bool:
            return len(await page_schedules(driver.inner, limit=9)) == 2

        async with running(runner):
            await until(lambda: runner.health().since_reserve is not None)
            await until(has_both)
            driver.inner = MemoryDriver()
            await jobs.count.enqueue(1)
            await until(has_both)
    assert "lost data" in caplog.text


async def test_a_running_runner_does_not_restore_a_schedule_that_was_removed_by_hand(driver: MemoryDriver) -> None:
    async with Declared(context=None, driver=driver) as jobs, running(Runner(jobs)):

        async def is_there() -> bool:
            return await jobs.inspect.get_schedule("nightly") is not None

        await until(is_there)
        await jobs.control.unschedule("nightly")
        for number in range(3):
            await jobs.count.enqueue(number)
            await until(lambda number=number: len(ran) > number)  # type: ignore[misc]
        assert not await is_there()


async def test_a_tick_whose_answer_was_lost_fires_once(clock: ManualClock) -> None:
    driver = FaultyDriver(MemoryDriver(clock=clock))
    async with Plain(context=None, driver=driver) as jobs:
        await jobs.nightly.schedule("n", every="1h")
        clock.advance("1h")
        driver.fail("put_schedule", kind="after", times=1)
        await drain(jobs)
        assert ran == ["n@2026-01-01T01:00:00Z"]


async def test_a_store_error_while_firing_ends_run_once_but_not_a_running_runner(clock: ManualClock) -> None:
    driver = FaultyDriver(MemoryDriver(clock=clock))
    async with Plain(context=None, driver=driver) as jobs:
        await jobs.nightly.schedule("n", every="1h")
        clock.advance("1h")
        driver.fail("schedules")
        with pytest.raises(DriverError):
            await soon(Runner(jobs).run_once())
        async with running(Runner(jobs)) as task:
            await until(lambda: driver.calls["schedules"] > 4)
            assert not task.done()
            driver.mend()
            await until(lambda: bool(ran))


async def test_schedules_fire_though_the_store_cannot_answer_for_many_at_once(clock: ManualClock) -> None:
    """As over a network that is too slow for the inputs of all. Fewer are read after each failure."""

    class SlowDriver(MemoryDriver):
        async def schedules(self, query: ScheduleQuery) -> tuple[datetime, list[StoredSchedule]]:
            if isinstance(query, SchedulesDue) and query.limit > 8:
                raise StoreUnavailable("no answer in time")
            return await super().schedules(query)

    async with Plain(context=None, driver=SlowDriver(clock=clock)) as jobs:
        for number in range(20):
            await jobs.nightly.schedule(f"n{number}", every="1h")
        clock.advance("1h")
        async with running(Runner(jobs)):
            await until(lambda: len(ran) == 20)
    assert len(set(ran)) == 20


async def test_a_store_that_refuses_schedules_and_nothing_else_is_logged_once(
    driver: MemoryDriver, caplog: pytest.LogCaptureFixture
) -> None:
    """As a full store does. The jobs run meanwhile."""
    faulty = FaultyDriver(driver)
    faulty.fail("put_schedule")
    async with Declared(context=None, driver=faulty) as jobs, running(Runner(jobs)):
        for number in range(4):
            await jobs.count.enqueue(number)
            await until(lambda number=number: len(ran) > number < faulty.calls["put_schedule"])  # type: ignore[misc]
    failures = [line.getMessage() for line in caplog.records if line.levelno >= logging.WARNING]
    assert len(failures) == 1


async def test_an_unreadable_schedule_does_not_keep_others_from_firing(
    jobs: Plain, driver: MemoryDriver, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await jobs.nightly.schedule("n", every="1h")
    for key, spec in (("bad", b"{"), ("newer", b'{"v": 99}')):
        await put(driver, StoredSchedule(key=key, queue="default", spec=spec, next_tick=START))
    assert await after(jobs, clock, "1h") == ["n@2026-01-01T01:00:00Z"]
    assert "leaves it to others" in caplog.text
    found = await jobs.inspect.get_schedule("newer")
    assert found is not None
    assert not found.readable
    with pytest.raises(DriverError, match="cannot be read: it is damaged"):
        await jobs.control.trigger("bad")
    assert (await jobs.nightly.schedule("bad", every="1h")).disposition == "updated"


@pytest.mark.parametrize("count", [1, 32, 100])
async def test_unreadable_schedules_that_are_due_take_no_ticks_from_a_sound_one(count: int) -> None:
    """They stay due for ever, and the store lists the earliest first."""
    driver = MemoryDriver()
    async with Plain(context=None, driver=driver) as jobs:
        for number in range(count):
            bad = StoredSchedule(key=f"bad{number}", queue="default", spec=b'{"v": 99}', next_tick=START)
            await put(driver, bad)
        await jobs.nightly.schedule("n", every="1s")
        async with running(Runner(jobs)):
            await asyncio.sleep(4.8)
    assert len([tick for tick in ran if tick.startswith("n@")]) >= 4


async def test_only_the_clock_of_the_store_counts(
    jobs: Plain, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of the worker is a day wrong, in either direction (faults 39 and 40)."""
    for off in (-86400, 86400):
        monkeypatch.setattr("flowli_core.clock.SystemClock.now", ManualClock(START + timedelta(seconds=off)).now)
        await jobs.nightly.schedule(f"n{off}", every="1h")
        assert await jobs.inspect.next_runs(f"n{off}", 1) == (clock.now() + HOUR,)
    assert await after(jobs, clock, "59m") == []
    assert len(await after(jobs, clock, "1m")) == 2


async def test_no_tick_fires_twice_when_the_clock_of_the_store_jumps(jobs: Plain, clock: ManualClock) -> None:
    """An hour forward makes the ticks between missed ones. After an hour back, nothing fires until it has passed."""
    await jobs.nightly.schedule("n", every="10m", missed="all")
    ahead = await after(jobs, clock, "1h")
    clock.back("1h")
    behind = await after(jobs, clock, "59m")
    assert (len(ahead), behind) == (6, [])
    assert await after(jobs, clock, "11m") == ["n@2026-01-01T01:10:00Z"]
