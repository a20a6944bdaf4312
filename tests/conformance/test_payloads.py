"""Payloads, names and times are stored unchanged; times come back as whole milliseconds in UTC."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from flowli_core.driver import Completed, Failed, Released, Retried
from flowli_core.durations import ZERO
from tests.conformance.builders import DONE, Worker, ids, record, stored
from tests.support.store import requeue_one

if TYPE_CHECKING:
    from flowli_core.driver import Driver
    from flowli_core.stored import StoredRecord
    from flowli_core.testing import ManualClock

PAYLOADS = {
    "empty": b"",
    "null": b"null",
    "number-like": b"0012.50",
    "unicode": '{"name":"Zoë 🎈 日本語 \u2028 \ufeff"}'.encode(),
    "escapes": json.dumps({"text": '\x00\x01\x1f"\\/\b\f\n\r\t\u007f\ud7ff'}).encode(),
    "spaces": b' { "a" : [ 1 , 2.0 , -0.0 , 1e400 ] } \r\n',
    "lua and sql": b"'; DROP TABLE record; -- ]] return redis.call('FLUSHALL') %s {0} $1 :id ?",
    "every byte": bytes(range(256)),
    "large": b"x" * 300_000,
}
NAMES = ["a:b", "{a}", "a*", "a'b", "Zoë-🎈", "a" * 128, "0", "None", "../a"]


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
async def test_payloads_are_stored_byte_for_byte(driver: Driver, worker: Worker, payload: bytes) -> None:
    """Input, meta, policy, attempts and result come back unchanged."""
    await driver.enqueue([record("a", input=payload, meta=payload, policy=payload)])
    held = await worker.take_one()
    assert (held.input, held.meta, held.policy) == (payload, payload, payload)
    await worker.settle(held, Retried(ZERO, payload))
    held = await worker.take_one()
    assert held.attempts == payload
    await worker.settle(held, Completed(payload))
    found = await stored(driver, "a")
    assert (found.input, found.meta, found.policy) == (payload, payload, payload)
    assert (found.attempts, found.result) == (payload, payload)


async def test_attempts_are_stored_by_every_outcome_that_carries_them(driver: Driver, worker: Worker) -> None:
    """A failure, a retry and a release each replace the attempts."""
    payload = PAYLOADS["every byte"]
    await driver.enqueue([record(name) for name in "abc"])
    a, b, c = await worker.take(3)
    await worker.settle(a, Failed(payload))
    await worker.settle(b, Retried(ZERO, payload))
    await worker.settle(c, Released(attempts=payload))
    assert [(await stored(driver, name)).attempts for name in "abc"] == [payload] * 3
    await requeue_one(driver, "a", attempts=payload[::-1])
    assert (await stored(driver, "a")).attempts == payload[::-1]


async def test_no_meta_is_not_empty_meta(driver: Driver, worker: Worker) -> None:
    """None and empty bytes are different."""
    await driver.enqueue([record("a"), record("b", meta=b"")])
    assert [held.meta for held in await worker.take(2)] == [None, b""]
    assert [(await stored(driver, name)).meta for name in "ab"] == [None, b""]


@pytest.mark.parametrize("name", NAMES)
async def test_names_are_stored_as_they_are(driver: Driver, name: str) -> None:
    """No character of an id, a name, a queue, a key or a worker has a meaning to a store."""
    await driver.enqueue([record(name, name=name, queue=name, key=name)])
    worker = Worker(driver, name, queues=(name,))
    held = await worker.take_one()
    assert (held.id, held.name, held.queue) == (name, name, name)
    (other,) = await driver.enqueue([record("other", key=name)])
    assert (other.id, other.disposition) == (name, "existing")
    await worker.settle(held, DONE)
    found = await stored(driver, name)
    assert (found.id, found.name, found.queue, found.key, found.worker) == (name,) * 5
    assert list((await driver.overview()).counts.by_queue) == [name]


async def test_names_that_differ_are_different(driver: Driver) -> None:
    """No driver folds case or trims."""
    names = ["a", "A", "aa", "ä", "a\u0308"]
    answers = await driver.enqueue([record(name, queue=name, key=name) for name in names])
    assert [one.disposition for one in answers] == ["accepted"] * 5
    assert ids(await Worker(driver, queues=("a",)).take(10)) == ["a"]


async def test_ids_are_ordered_by_code_point(driver: Driver, worker: Worker) -> None:
    """Upper case comes before lower, as in the ids' own order."""
    await driver.enqueue([record(name) for name in ["b", "B", "_", "a", "1", "10", "2"]])
    assert ids(await worker.take(10)) == ["1", "10", "2", "B", "_", "a", "b"]


def times(found: StoredRecord) -> list[datetime]:
    """Return every time of a record."""
    every = (
        found.created_at,
        found.updated_at,
        found.scheduled_for,
        found.failed_at,
        found.started_at,
        found.finished_at,
    )
    return [time for time in every if time is not None]


async def test_times_are_whole_milliseconds_in_utc(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """Time zones are converted to UTC, and fractions are cut off."""
    clock.advance(timedelta(microseconds=1234))
    east = timezone(timedelta(hours=5, minutes=30))
    moment = (clock.now() + timedelta(hours=1, microseconds=77)).astimezone(east)
    (answer,) = await driver.enqueue([record("b", due=moment)])
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    clock.advance(timedelta(microseconds=4321))
    reply = await worker.step()
    await worker.settle(held, Failed(b"{}"), started_at=clock.now().astimezone(east))
    failed, scheduled = await stored(driver, "a"), await stored(driver, "b")
    assert len(times(failed)) == 6
    every = [*times(failed), *times(scheduled), reply.now, answer.scheduled_for]
    assert {(time.tzinfo, time.microsecond % 1000) for time in every} == {(UTC, 0)}
    assert abs(scheduled.scheduled_for - moment) < timedelta(milliseconds=1)
    assert reply.next_due is not None
    assert reply.next_due % timedelta(milliseconds=1) == ZERO


async def test_times_far_away_are_exact(driver: Driver, clock: ManualClock) -> None:
    """A delay of ten years is stored to the millisecond."""
    delay = timedelta(days=3653, milliseconds=-1)
    (answer,) = await driver.enqueue([record("a", due=delay)])
    assert answer.scheduled_for == clock.now() + delay
    assert (await stored(driver, "a")).scheduled_for == clock.now() + delay
