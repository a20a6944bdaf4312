"""Records that a worker cannot read, or that only a newer worker can."""

import pytest

from flowli_core import Jobs, RunCounts, Runner, job
from flowli_core.new_records import NewRecord
from flowli_core.testing import ManualClock
from tests.support.running import Deeds, Work
from tests.support.store import find, requeue_one

POLICY = b'{"v":1,"max_attempts":3,"backoff":{"delay":"PT0S"}}'


def raw(*, input: bytes = b"1", policy: bytes = POLICY) -> NewRecord:
    """Make a record without the checks of a call, as another program might."""
    return NewRecord(id="raw-act", name="act", queue="default", input=input, policy=policy)


@pytest.mark.parametrize("payload", [b"\xff\xfe", b'"one"', b"[" * 100_000, b"", b'{"a":1}'])
async def test_a_job_with_an_unreadable_payload_fails_and_keeps_the_payload(payload: bytes) -> None:
    work = Work()
    runs: list[int] = []

    async def act(number: int) -> None:
        runs.append(number)

    work.deeds.act = act
    await work.driver.enqueue([raw(input=payload)])
    assert await work.run() == RunCounts(failed=1)
    stored = await find(work.driver, "raw-act")
    assert stored is not None
    assert (stored.state, stored.input) == ("failed", payload)
    assert runs == []


@pytest.mark.parametrize(
    "policy", [b"", b"{}", b"[]", b'{"v":"x"}', b'{"v":1,"max_attempts":1,"backoff":{}}', b"[" * 100_000]
)
async def test_an_unreadable_policy_fails_the_job_and_not_the_runner(
    policy: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It is counted and logged like any other failure."""
    work = Work()
    await work.driver.enqueue([raw(policy=policy)])
    (sound,) = await work.add(1)
    assert await work.run(concurrency=1) == RunCounts(failed=1, completed=1)
    assert await work.states(["raw-act", sound]) == ["failed", "completed"]
    assert "raw-act (act) failed for good" in caplog.text
    error = (await work.job("raw-act")).last_error
    assert error is not None
    assert "policy" in error.message


@job(int, name="not_here")
async def newly_made(input: int, ctx: Deeds) -> object:
    return await ctx.act(input)


class NewerDuties(Jobs[Deeds]):
    newly_made = newly_made


async def test_a_job_that_this_worker_does_not_know_waits_for_another_worker() -> None:
    """It returns to the queue with the reason, and no attempt is used: a rolling deploy fails no job."""
    clock = ManualClock()
    work = Work(clock=clock)
    newer = NewerDuties(context=work.deeds, driver=work.driver)
    receipt = await newer.newly_made.enqueue(1)
    assert await work.run() == RunCounts()
    released = await work.job(receipt.id)
    assert (released.state, released.attempts_made, released.failure_count) == ("scheduled", 0, 0)
    assert released.last_error is not None
    assert (released.last_error.type, released.last_error.message) == (
        "UnknownJob",
        "this worker knows no job 'not_here'",
    )
    clock.advance("30s")
    assert await Runner(newer).run_once() == RunCounts(completed=1)
    assert await work.states([receipt.id]) == ["completed"]


async def test_a_record_of_a_later_release_waits_for_a_worker_of_that_release(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    work = Work(clock=clock)
    await work.driver.enqueue([raw(policy=POLICY.replace(b'"v":1', b'"v":2'))])
    assert await work.run() == RunCounts()
    released = await work.job("raw-act")
    assert (released.state, released.attempts_made, released.failure_count) == ("scheduled", 0, 0)
    assert released.last_error is not None
    assert released.last_error.type == "NewerRecord"
    clock.advance("30s")
    monkeypatch.setattr("flowli_core._wire.policy.FORMAT.version", 2)
    assert await work.run() == RunCounts(completed=1)


async def test_unreadable_attempts_do_not_end_the_runner() -> None:
    clock = ManualClock()
    work = Work(clock=clock)
    receipt = await work.jobs.act.delay("1s", 1)
    await requeue_one(
        work.driver, receipt.id, attempts=b'{"attempts_made":"three","failure_count":null,"last_error":7}'
    )
    assert await work.run() == RunCounts(completed=1)


async def test_attempts_of_a_later_release_wait_unchanged_for_a_worker_of_that_release(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = ManualClock()
    work = Work(clock=clock)
    later = b'{"v":2,"tries":[1,2]}'
    receipt = await work.jobs.act.delay("1s", 1)
    await requeue_one(work.driver, receipt.id, attempts=later)
    for _ in range(5):
        assert await work.run() == RunCounts()
        stored = await find(work.driver, receipt.id)
        assert stored is not None
        assert (stored.state, stored.attempts) == ("scheduled", later)
        clock.advance("30s")
    monkeypatch.setattr("flowli_core._wire.attempts.VERSION", 2)
    assert await work.run() == RunCounts(completed=1)


async def test_a_job_that_is_unknown_here_keeps_attempts_of_a_later_release() -> None:
    work = Work()
    later = b'{"v":2,"tries":[1,2]}'
    receipt = await NewerDuties(context=work.deeds, driver=work.driver).newly_made.delay("1s", 1)
    await requeue_one(work.driver, receipt.id, attempts=later)
    assert await work.run() == RunCounts()
    stored = await find(work.driver, receipt.id)
    assert stored is not None
    assert stored.attempts == later
