"""Stored data that a worker cannot read, and results that it cannot store."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from flowli_core import JobRecord, Jobs, Retry, fixed, job
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.new_records import NewRecord
from flowli_core.testing import ManualClock, drain
from tests.support.refusals import SECRET
from tests.support.store import find, requeue_one

ran: list[object] = []
POLICY = {"v": 1, "max_attempts": 3, "backoff": {"delay": "PT0S"}}


class Letter(BaseModel):
    to: str


@dataclass
class Parcel:
    weight: float


@job(Letter, meta=Letter, retry=Retry(max_attempts=3, backoff=fixed("0s")))
async def deliver(input: Letter, meta: Letter | None) -> None:
    ran.append(input)


@job(str, retry=Retry(max_attempts=3, backoff=fixed("0s")))
async def make(input: str) -> Any:
    ran.append(input)
    return RESULTS[input]


class AppJobs(Jobs[None]):
    deliver = deliver
    make = make


cycle: list[object] = []
cycle.append(cycle)

RESULTS: dict[str, object] = {
    "nothing": None,
    "a model": Letter(to="a"),
    "a dataclass": [Parcel(1.5)],
    "the everyday": {"at": datetime(2026, 1, 1, tzinfo=UTC), "of": {1}, 2: "two"},
    "an object": object(),
    "not a number": {"ratio": float("nan"), "of": SECRET},
    "an infinity": [float("inf")],
    "a cycle": cycle,
    "a lone surrogate": f"{SECRET}\ud800",
    "300 KiB": SECRET + "x" * 300 * 1024,
}


@pytest.fixture
def driver() -> MemoryDriver:
    ran.clear()
    return MemoryDriver(clock=ManualClock())


@pytest.fixture
def jobs(driver: MemoryDriver) -> AppJobs:
    return AppJobs(context=None, driver=driver)


async def stored(
    jobs: AppJobs,
    driver: MemoryDriver,
    *,
    input: bytes = b'{"to": "a"}',
    meta: bytes | None = None,
    policy: bytes | None = None,
) -> JobRecord:
    """Store a record as no caller would, run the due jobs, and return the record."""
    policy = json.dumps(POLICY).encode() if policy is None else policy
    await driver.enqueue([NewRecord(id="odd", name="deliver", queue="default", input=input, meta=meta, policy=policy)])
    await drain(jobs)
    found = await jobs.inspect.get_job("odd")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("input", "says"),
    [
        (f'["{SECRET}"]'.encode(), "should be an object, got list"),
        (b'{"from": "a"}', "to: Field required"),
        (f'{{"to": ["{SECRET}"]}}'.encode(), "got list"),
        (b"", "Invalid JSON"),
        (b"\xff\xfe", "Invalid JSON"),
        (b"[" * 100_000, "nests deeper than 64 levels"),
        (b'{"to": "' + b"x" * 300 * 1024 + b'"}', "the limit is 256 KiB"),
        (b'{"to": "a", "deep": ' + b"[" * 65 + b"]" * 65 + b"}", "nests deeper than 64 levels"),
    ],
)
async def test_an_unreadable_input_fails_the_job_without_a_retry(
    input: bytes, says: str, jobs: AppJobs, driver: MemoryDriver
) -> None:
    """Cases 64 to 66: a retry would read the same. The stored input is kept for inspection."""
    found = await stored(jobs, driver, input=input)
    assert not ran
    assert (found.state, found.attempts_made, found.failure_count) == ("failed", 1, 1)
    assert found.last_error is not None
    assert found.last_error.type == "flowli_core.ValidationError"
    assert says in found.last_error.message
    assert SECRET not in found.last_error.message + found.last_error.traceback
    kept = await find(driver, "odd")
    assert kept is not None
    assert kept.input == input


async def test_brackets_inside_strings_do_not_count_as_depth(jobs: AppJobs, driver: MemoryDriver) -> None:
    found = await stored(jobs, driver, input=json.dumps({"to": '["\\' * 100}).encode())
    assert found.state == "completed"


async def test_an_unreadable_meta_fails_the_job_without_a_retry(jobs: AppJobs, driver: MemoryDriver) -> None:
    found = await stored(jobs, driver, meta=b'{"to": 5}')
    assert (found.state, found.meta) == ("failed", {"to": 5})
    assert found.last_error is not None
    assert found.last_error.message.startswith("deliver: meta is not valid: to:")


@pytest.mark.parametrize(
    "policy",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"5",
        b"[" * 100_000,
        b'{"v": "one"}',
        json.dumps(POLICY | {"max_attempts": "many"}).encode(),
        json.dumps(POLICY | {"timeout": "long"}).encode(),
        json.dumps(POLICY | {"max_attempts": True}).encode(),
        json.dumps(POLICY | {"backoff": {"delay": "PT1S", "jitter": []}}).encode(),
        json.dumps(POLICY | {"backoff": {"delay": "-PT1S"}}).encode(),
        json.dumps(POLICY | {"backoff": {"delay": "PT1S", "jitter": [2, 3]}}).encode(),
        json.dumps(POLICY | {"backoff": {"zigzag": "PT1S"}}).encode(),
        json.dumps(POLICY | {"backoff": {"first": "PT1S", "max_delay": "PT2S", "factor": 0.5}}).encode(),
        json.dumps(POLICY | {"backoff": {"delay": 1e300}}).encode(),
        json.dumps(POLICY | {"backoff": {"delay": "P99999999999Y"}}).encode(),
    ],
)
async def test_an_unreadable_policy_fails_only_its_own_record(
    policy: bytes, jobs: AppJobs, driver: MemoryDriver
) -> None:
    """Case 50: the worker neither crashes nor loops, and runs the other job."""
    neighbour = await jobs.deliver.enqueue(to="b")
    found = await stored(jobs, driver, policy=policy)
    assert (found.state, found.failure_count) == ("failed", 1)
    assert found.last_error is not None
    assert "policy cannot be read" in found.last_error.message
    assert (found.max_attempts, found.backoff) == (None, None)
    assert ran == [Letter(to="b")]
    other = await jobs.inspect.get_job(neighbour.id)
    assert other is not None
    assert other.state == "completed"


async def test_a_policy_of_a_later_release_waits_for_a_newer_worker(jobs: AppJobs, driver: MemoryDriver) -> None:
    """Case 51: no attempt is used, nothing fails, and the reason is shown."""
    found = await stored(jobs, driver, policy=b'{"v": 2}')
    assert (found.state, found.attempts_made, found.failure_count, found.max_attempts) == ("scheduled", 0, 0, None)
    assert found.last_error is not None
    assert "later release" in found.last_error.message
    assert found.next_retry_at is None


@pytest.mark.parametrize(
    "attempts",
    [
        b"",
        b"\xff",
        b"[]",
        b"[" * 100_000,
        b'{"attempts_made": "x", "failure_count": 0, "last_error": null}',
        b'{"attempts_made": 1e999, "failure_count": 0, "last_error": null}',
        b'{"attempts_made": 0, "failure_count": 0, "last_error": 5}',
        b'{"attempts_made": 0, "failure_count": 0, "last_error": {"kind": "x"}}',
    ],
)
async def test_unreadable_attempts_count_as_none(attempts: bytes, jobs: AppJobs, driver: MemoryDriver) -> None:
    """Case 50: losing the history of its failures is better than losing the job."""
    receipt = await jobs.deliver.delay("1h", to="a")
    await requeue_one(driver, receipt.id, attempts=attempts)
    found = await jobs.inspect.get_job(receipt.id)
    assert found is not None
    assert (found.attempts_made, found.failure_count, found.last_error) == (0, 0, None)
    counts = await drain(jobs)
    assert counts.completed == 1


async def test_a_payload_that_is_not_json_is_shown_escaped(jobs: AppJobs, driver: MemoryDriver) -> None:
    found = await stored(jobs, driver, input=b"a\xff")
    assert found.input == "a\\xff"


@pytest.mark.parametrize(
    ("made", "result"),
    [
        ("nothing", None),
        ("a model", {"to": "a"}),
        ("a dataclass", [{"weight": 1.5}]),
        ("the everyday", {"at": "2026-01-01T00:00:00Z", "of": [1], "2": "two"}),
    ],
)
async def test_a_result_is_stored_as_json(made: str, result: object, jobs: AppJobs) -> None:
    receipt = await jobs.make.enqueue(made)
    await drain(jobs)
    found = await jobs.inspect.get_job(receipt.id)
    assert found is not None
    assert (found.state, found.result) == ("completed", result)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ("an object", "result cannot be written as JSON: Unable to serialize unknown type"),
        ("not a number", "result cannot be written as JSON: JSON has no NaN or infinity"),
        ("an infinity", "result cannot be written as JSON: JSON has no NaN or infinity"),
        ("a cycle", "result cannot be written as JSON: Circular reference"),
        ("a lone surrogate", "result cannot be written as JSON"),
        ("300 KiB", "result is 301 KiB of JSON, the limit is 256 KiB; store a reference"),
    ],
)
async def test_a_result_that_cannot_be_stored_fails_the_job_without_a_retry(
    made: str, says: str, jobs: AppJobs
) -> None:
    """Case 49: the handler has already done its work."""
    receipt = await jobs.make.enqueue(made)
    counts = await drain(jobs)
    assert (counts.failed, counts.retried, ran) == (1, 0, [made])
    found = await jobs.inspect.get_job(receipt.id)
    assert found is not None
    assert found.last_error is not None
    assert says in found.last_error.message
    assert SECRET not in found.last_error.message + found.last_error.traceback
    assert (found.failure_count, found.result) == (1, None)
