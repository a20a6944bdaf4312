"""Cancelling, requeueing and purging several records in one call."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.durations import ZERO
from flowli_core.errors import DriverError
from flowli_core.stored import FINISHED, STATES, State
from flowli_core.targets import MOST_TARGETS, Target
from tests.conformance.builders import BROKEN, DONE, HOUR, Worker, everything, finish, ids, record, stored

if TYPE_CHECKING:
    from flowli_core.driver import Driver
    from flowli_core.stored import FinishedState
    from flowli_core.testing import ManualClock


def targets(names: str, *, state: State | None = None) -> list[Target]:
    return [Target(id=name, state=state) for name in names]


async def one_in_each_state(driver: Driver) -> dict[str, State]:
    """Store a record in each state, and return their states by id."""
    await finish(driver, "c", DONE)
    await finish(driver, "f", BROKEN)
    await driver.enqueue([record("a")])
    await Worker(driver, "holder").take_one()
    await driver.enqueue([record("q"), record("s", due=HOUR), record("x")])
    await driver.cancel(targets("x"))
    return {"q": "queued", "s": "scheduled", "a": "active", "c": "completed", "f": "failed", "x": "cancelled"}


async def test_the_answers_to_a_cancellation_are_in_the_order_of_its_records(driver: Driver) -> None:
    """A record that is named twice is cancelled once, and an unknown one keeps none from being cancelled."""
    states = await one_in_each_state(driver)
    assert await driver.cancel(targets("u" + "".join(states) + "qa")) == [
        "unknown",
        "cancelled",
        "cancelled",
        "requested",
        *["finished"] * 3,
        "finished",
        "requested",
    ]
    assert sorted(ids(await everything(driver, "cancelled"))) == ["q", "s", "x"]


async def test_the_answers_to_a_requeue_are_in_the_order_of_its_records(driver: Driver) -> None:
    """Each record gets the attempts of its own target."""
    states = await one_in_each_state(driver)
    chosen = [Target(id=name, attempts=name.encode()) for name in ("u", *states, "c")]
    assert await driver.requeue(chosen) == [
        "unknown",
        "unfinished",
        "requeued",
        "unfinished",
        *["requeued"] * 3,
        "unfinished",
    ]
    found = {one.id: one.attempts for one in await everything(driver, "queued")}
    assert found == {"q": None, "s": b"s", "c": b"c", "f": b"f", "x": b"x"}


@pytest.mark.parametrize("state", STATES)
async def test_a_record_in_another_state_than_the_caller_named_stays_as_it_is(driver: Driver, state: State) -> None:
    states = await one_in_each_state(driver)
    others = "".join(name for name, found in states.items() if found != state)
    assert set(await driver.cancel(targets(others, state=state))) == {"changed"}
    assert set(await driver.requeue(targets(others, state=state))) == {"changed"}
    assert {name: (await stored(driver, name)).state for name in states} == states
    assert not (await stored(driver, "a")).cancel_requested


async def test_a_record_in_the_named_state_is_changed_once(driver: Driver) -> None:
    """After that it is in another state."""
    await one_in_each_state(driver)
    assert await driver.cancel(targets("qq", state="queued")) == ["cancelled", "changed"]
    assert await driver.cancel(targets("s", state="scheduled")) == ["cancelled"]
    assert await driver.cancel(targets("aa", state="active")) == ["requested", "requested"]
    assert await driver.requeue(targets("ff", state="failed")) == ["requeued", "changed"]
    assert await driver.requeue(targets("u", state="failed")) == ["unknown"]


async def test_a_scheduled_record_that_has_become_due_has_changed(driver: Driver, clock: ManualClock) -> None:
    await driver.enqueue([record("a", due=HOUR)])
    clock.advance(HOUR)
    assert await driver.cancel(targets("a", state="scheduled")) == ["changed"]
    assert await driver.requeue(targets("a", state="scheduled")) == ["changed"]


async def test_of_two_requeued_records_with_one_key_the_first_takes_it(driver: Driver) -> None:
    for name in "ab":
        await driver.enqueue([record(name, key="k")])
        await driver.cancel(targets(name))
    assert await driver.requeue(targets("ba")) == ["requeued", "key_taken"]
    assert (await stored(driver, "a")).state == "cancelled"


async def test_as_many_records_as_allowed_are_changed(driver: Driver, worker: Worker) -> None:
    names = [f"r{number:03}" for number in range(MOST_TARGETS)]
    await driver.enqueue([record(name) for name in names])
    chosen = [Target(id=name) for name in names]
    assert await driver.cancel(chosen) == ["cancelled"] * MOST_TARGETS
    assert await driver.requeue(chosen) == ["requeued"] * MOST_TARGETS
    assert ids(await worker.take(MOST_TARGETS)) == names


async def test_more_records_than_allowed_are_refused(driver: Driver) -> None:
    """Nothing is done, and the error names the limit."""
    await finish(driver, "a", DONE)
    names = ["a"] * (MOST_TARGETS + 1)
    chosen = [Target(id=name) for name in names]
    for call in (
        driver.cancel(chosen),
        driver.requeue(chosen),
        driver.purge("completed", older_than=-HOUR, limit=5, ids=names),
    ):
        with pytest.raises(DriverError, match=f"at most {MOST_TARGETS} records, got {MOST_TARGETS + 1}"):
            await call
    assert (await stored(driver, "a")).state == "completed"


async def test_no_records_need_no_answers(driver: Driver) -> None:
    await finish(driver, "a", DONE)
    assert (await driver.cancel([]), await driver.requeue([])) == ([], [])
    assert await driver.purge("completed", older_than=-HOUR, limit=5, ids=[]) == 0


async def test_a_call_changes_records_with_large_payloads(driver: Driver) -> None:
    """Also if a driver has to read them in several parts."""
    large = b'"' + b"x" * 300_000 + b'"'
    await driver.enqueue([record(name, input=large) for name in "abcdefg"])
    chosen = targets("gabcdefg", state="queued")
    assert await driver.cancel(chosen) == [*["cancelled"] * 7, "changed"]
    assert await driver.requeue(targets("abcdefgu")) == [*["requeued"] * 7, "unknown"]
    assert {one.input for one in await everything(driver, "queued", limit=2)} == {large}


@pytest.mark.parametrize("state", FINISHED)
async def test_a_purge_of_named_records_removes_only_those(
    driver: Driver, clock: ManualClock, state: FinishedState
) -> None:
    """They must have finished in its state; one that is named twice is removed once."""
    states = await one_in_each_state(driver)
    clock.advance("1s")
    assert await driver.purge(state, older_than=ZERO, limit=100, ids=["u", *states, *states]) == 1
    assert await driver.purge(state, older_than=ZERO, limit=100, ids=list(states)) == 0
    assert {one.id for other in STATES for one in await everything(driver, other)} == {
        name for name, found in states.items() if found != state
    }


async def test_a_purge_of_named_records_is_limited(driver: Driver, clock: ManualClock) -> None:
    """It removes the oldest first, and none that is too young."""
    for name in "dcba":
        await finish(driver, name, DONE)
        clock.advance("1s")
    assert await driver.purge("completed", older_than=timedelta(seconds=2), limit=5, ids=["a", "b", "c"]) == 1
    assert await driver.purge("completed", older_than=ZERO, limit=1, ids=["a", "b"]) == 1
    assert await driver.purge("completed", older_than=ZERO, limit=0, ids=["a", "d"]) == 0
    assert ids(await everything(driver, "completed")) == ["a", "d"]
