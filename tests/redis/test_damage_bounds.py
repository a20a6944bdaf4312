"""Values that another program made too great or too long: each is bounded when it is read, and hides no other."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core.driver import Retried
from flowli_core.stored import FINISHED, State
from tests.conformance.builders import BROKEN, DONE, Worker, ack, everything, ids, record, stored
from tests.redis.server import fresh_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flowli_core.drivers.redis import RedisDriver

LONG = 8 * 1024 * 1024
"""The length up to which data beside a record is read."""


@pytest.fixture
def prefix(foreign: Any) -> Iterator[str]:
    """Return a prefix that the test may damage. Its keys are removed at the end, before they are inspected."""
    prefix = fresh_prefix()
    yield prefix
    foreign.delete(*foreign.keys(f"{{{prefix}}}*"))


@pytest.fixture
def key(prefix: str) -> Callable[[str], str]:
    """Return the function that returns the full name of a key."""
    return lambda name: f"{{{prefix}}}:1:{name}"


async def fill(driver: RedisDriver, state: State, names: str) -> None:
    """Store records in a state."""
    await driver.enqueue([record(name, due=timedelta(hours=state == "scheduled")) for name in names])
    if state in FINISHED:
        worker = Worker(driver, "filler")
        outcome = BROKEN if state == "failed" else DONE
        await worker.step(*[ack(one, outcome) for one in await worker.take(len(names))])


@pytest.mark.parametrize("state", ["completed", "failed", "queued", "scheduled"])
@pytest.mark.parametrize(
    "scores",
    [
        {"a": 1e300, "b": math.inf, "d": 1e17},
        {"d": 1e300, "b": 1e299, "c": 1e298},
        {"a": -1e300, "b": 0.5, "c": -math.inf, "d": -1},
    ],
)
async def test_a_score_out_of_range_hides_no_record_behind_a_page(
    driver: RedisDriver, key: Any, foreign: Any, state: State, scores: dict[str, float]
) -> None:
    await fill(driver, state, "abcdef")
    index = state if state in FINISHED else "due:q"
    foreign.zadd(key(index), scores)
    shown = "scheduled" if state == "queued" and math.inf in scores.values() else state
    expected = {one.id for one in await everything(driver, shown, limit=100)}
    assert expected >= (set(scores) if state in FINISHED else set())
    for limit in (1, 2, 3):
        found = ids(await everything(driver, shown, limit=limit))
        assert sorted(found) == sorted(expected)


async def test_damaged_scores_hide_none_of_many_records_of_the_same_time(
    driver: RedisDriver, key: Any, foreign: Any
) -> None:
    """By its score, a damaged one comes before all others of its time; by its id, it may be the last of a page."""
    due = datetime(2100, 1, 1, tzinfo=UTC)
    await driver.enqueue([record(f"id-{number:03}", due=due) for number in range(130)])
    time = foreign.zscore(key("due:q"), "id-000")
    foreign.zadd(key("due:q"), {"id-020": time + 0.5, "id-050": 1e300, "id-090": 1e299, "id-001": time + 0.25})
    for limit in (60, 7):
        found = ids(await everything(driver, "scheduled", limit=limit))
        assert found[:2] == ["id-090", "id-050"]
        assert sorted(found) == [f"id-{number:03}" for number in range(130)]


@pytest.mark.parametrize("score", [1e300, math.inf, 1e13])
async def test_an_end_of_retention_out_of_range_is_corrected_within_a_minute(
    driver: RedisDriver, key: Any, foreign: Any, score: float
) -> None:
    """A worker corrects the last one each time that it lists itself as alive."""
    await fill(driver, "completed", "ab")
    before = foreign.zscore(key("expiry"), "b")
    foreign.zadd(key("expiry"), {"a": score})
    await Worker(driver, "other").step()
    assert before <= foreign.zscore(key("expiry"), "a") <= before + 60_000
    assert foreign.zscore(key("expiry"), "b") == before


async def test_what_is_stored_beside_a_record_is_read_up_to_a_length(
    driver: RedisDriver, key: Any, foreign: Any
) -> None:
    """A listing, a step and a call send no more. What was cut cannot be read, as if it was damaged in another way."""
    worker = Worker(driver)
    await fill(driver, "completed", "a")
    await driver.enqueue([record("b", key="k")])
    await worker.settle(await worker.take_one(), Retried(timedelta(0), b"{}"))
    foreign.hset(key("outcome"), "a", foreign.hget(key("outcome"), "a") + b"x" * LONG)
    for name in "ab":
        foreign.hset(key("attempts"), name, b"x" * (LONG + 1))
    (done,) = await everything(driver, "completed")
    assert len(done.result or b"") <= LONG
    assert len((await stored(driver, "b")).attempts or b"") == LONG
    answers = await driver.enqueue([record("b"), record("c", key="k")])
    assert [len(one.attempts or b"") for one in answers] == [LONG, LONG]
    assert len((await worker.take_one()).attempts or b"") == LONG
