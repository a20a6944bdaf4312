"""A step that travels with a wait: taken when the wait ends, in a sequence of its own."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core.driver import Step
from tests.conformance.builders import record
from tests.support.running import until

if TYPE_CHECKING:
    from flowli_core.drivers.redis import RedisDriver

SOON = timedelta(seconds=10)


@pytest.fixture(autouse=True)
async def is_known(driver: RedisDriver) -> None:
    """Have the queue known: a step that does not know all queues is never taken."""
    await driver.enqueue([record("first")])
    await driver.step(step(1, ahead=False))


def step(sequence: int, *, ahead: bool = True, want: int = 5) -> Step:
    return Step(worker="w", sequence=sequence, queues=("q",), want=want, lease=timedelta(seconds=30), ahead=ahead)


async def blocked(foreign: Any) -> None:
    """Wait until a client waits at the server."""
    await until(lambda: foreign.info("clients")["blocked_clients"] > 0)


async def test_a_wake_up_brings_what_it_is_about(driver: RedisDriver, foreign: Any) -> None:
    waiting = asyncio.create_task(driver.wait_and_step(("q",), SOON, step(1)))
    await blocked(foreign)
    before = foreign.info("commandstats")["cmdstat_evalsha"]["calls"]
    await driver.enqueue([record("a")])
    answer = await waiting
    assert answer is not None
    assert [one.id for one in answer.reserved] == ["a"]
    assert foreign.info("commandstats")["cmdstat_evalsha"]["calls"] - before == 2, "the enqueue's and the step's"


async def test_a_record_that_falls_due_ends_the_wait(driver: RedisDriver) -> None:
    await driver.enqueue([record("a", due=timedelta(milliseconds=50))])
    await driver.step(step(2, ahead=False))
    answer, sequence = None, 0
    while answer is None or not answer.reserved:  # a server that rounds down may end a wait a moment early
        sequence += 1
        answer = await driver.wait_and_step(("q",), SOON, step(sequence))
    assert [one.id for one in answer.reserved] == ["a"]


async def test_a_script_that_the_server_forgot_costs_a_step_and_nothing_else(driver: RedisDriver, foreign: Any) -> None:
    waiting = asyncio.create_task(driver.wait_and_step(("q",), SOON, step(1)))
    await blocked(foreign)
    foreign.script_flush()
    await driver.enqueue([record("a")])
    assert await waiting is None
    answer = await driver.step(step(2, ahead=False))
    assert [one.id for one in answer.reserved] == ["a"]


async def test_steps_meanwhile_do_not_void_it_and_it_does_not_void_them(driver: RedisDriver, foreign: Any) -> None:
    waiting = asyncio.create_task(driver.wait_and_step(("q",), SOON, step(1)))
    await blocked(foreign)
    await driver.step(step(2, ahead=False))
    await driver.enqueue([record("a")])
    answer = await waiting
    assert answer is not None
    assert [one.id for one in answer.reserved] == ["a"]
    again = await driver.step(step(1, want=0))
    assert [(one.id, one.token) for one in again.reserved] == [("a", answer.reserved[0].token)]
    await driver.enqueue([record("b")])
    assert [one.id for one in (await driver.step(step(3, ahead=False))).reserved] == ["b"]


async def test_a_cancelled_wait_is_recalled(driver: RedisDriver, foreign: Any) -> None:
    """Its step may have been taken or not: asked for again, it says so, and takes nothing more."""
    waiting = asyncio.create_task(driver.wait_and_step(("q",), SOON, step(1)))
    await blocked(foreign)
    waiting.cancel()
    await asyncio.wait((waiting,))
    await driver.enqueue([record("a")])
    assert not (await driver.step(step(1, want=0))).reserved
    assert [one.id for one in (await driver.step(step(2, ahead=False))).reserved] == ["a"]


async def test_a_new_queue_costs_a_step_and_nothing_else(driver: RedisDriver, foreign: Any) -> None:
    waiting = asyncio.create_task(driver.wait_and_step(("q",), timedelta(milliseconds=300), step(1)))
    await blocked(foreign)
    await driver.enqueue([record("a", queue="another")])
    assert await waiting is None
    assert not (await driver.step(step(2, ahead=False))).reserved
