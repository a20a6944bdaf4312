"""A waiting step travels with its wait: the server takes it as soon as the wait ends."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core.driver import Step
from flowli_core.stored import StoredSchedule
from tests.conformance.builders import record
from tests.support.running import until
from tests.support.store import put

if TYPE_CHECKING:
    from flowli_core.drivers.redis import RedisDriver

SOON = timedelta(seconds=10)


@pytest.fixture(autouse=True)
async def scripts_are_loaded(driver: RedisDriver) -> None:
    """Have the server load the scripts, because the tests count calls."""
    await driver.enqueue([record("first")])
    await driver.step(step(1, wait=None))


def step(sequence: int, *, wait: timedelta | None = SOON, want: int = 5) -> Step:
    return Step(worker="w", sequence=sequence, queues=("q",), want=want, lease=timedelta(seconds=30), wait=wait)


async def blocked(foreign: Any) -> None:
    """Wait until a client waits at the server."""
    await until(lambda: foreign.info("clients")["blocked_clients"] > 0)


def scripts_run(foreign: Any) -> int:
    calls: int = foreign.info("commandstats")["cmdstat_evalsha"]["calls"]
    return calls


async def test_a_wake_up_brings_the_job_in_one_round_trip(driver: RedisDriver, foreign: Any) -> None:
    waiting = asyncio.create_task(driver.step(step(1)))
    await blocked(foreign)
    before = scripts_run(foreign)
    await driver.enqueue([record("a")])
    assert [one.id for one in (await waiting).reserved] == ["a"]
    assert scripts_run(foreign) - before == 2, "the enqueue's and the step's"


async def test_a_record_that_falls_due_ends_the_wait(driver: RedisDriver) -> None:
    await driver.enqueue([record("a", due=timedelta(milliseconds=50))])
    await driver.step(step(2, wait=None))
    answer, sequence = None, 0
    while answer is None or not answer.reserved:  # a server that rounds down may end a wait a moment early
        sequence += 1
        answer = await driver.step(step(sequence))
    assert [one.id for one in answer.reserved] == ["a"]


async def test_a_script_that_the_server_forgot_is_loaded_after_the_wait(driver: RedisDriver, foreign: Any) -> None:
    waiting = asyncio.create_task(driver.step(step(1)))
    await blocked(foreign)
    foreign.script_flush()
    await driver.enqueue([record("a")])
    assert [one.id for one in (await waiting).reserved] == ["a"]


async def test_a_queue_that_is_new_does_not_disturb_the_waiting_step_of_another(
    driver: RedisDriver, foreign: Any
) -> None:
    waiting = asyncio.create_task(driver.step(step(1)))
    await blocked(foreign)
    before = scripts_run(foreign)
    await driver.enqueue([record("a", queue="another"), record("b")])
    assert [one.id for one in (await waiting).reserved] == ["b"]
    assert scripts_run(foreign) - before == 2, "the enqueue's and the step's"


async def test_a_wake_up_expires_only_if_its_queue_has_no_records(
    driver: RedisDriver, foreign: Any, prefix: str
) -> None:
    """Otherwise it would stay for ever, or a waiter would miss it."""
    key = f"{{{prefix}}}:1:wake:another"
    tick = StoredSchedule(key="s", queue="another", spec=b"{}", next_tick=datetime.now(UTC) + SOON)
    await put(driver, tick)
    assert 0 < foreign.pttl(key) <= 60_000
    await driver.enqueue([record(queue="another")])
    assert foreign.pttl(key) == -1, "it does not expire"


@pytest.mark.parametrize("waits", ["waits", "calls"])
async def test_a_wake_up_of_another_type_is_replaced(
    driver: RedisDriver, prefix: str, foreign: Any, waits: str
) -> None:
    """Nothing is lost with it, so nothing stops for it."""
    wake = f"{{{prefix}}}:1:wake:q"
    await driver.enqueue([record("a"), record("later", due=timedelta(hours=1))])
    foreign.delete(wake)
    foreign.set(wake, "x")
    if waits == "waits":
        assert [one.id for one in (await driver.step(step(1))).reserved] == ["a"]
    assert (await driver.enqueue([record("c")]))[0].disposition == "accepted"
    await driver.open()
    assert foreign.zrange(wake, 0, -1) == [b"0"]
