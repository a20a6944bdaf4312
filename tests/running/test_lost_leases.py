"""Jobs whose lease was lost to another worker: their handler is cancelled and its outcome discarded."""

import asyncio
import time
from datetime import timedelta
from typing import Literal

import pytest

from flowli_core import Hooks, JobEvent, RunCounts, Runner, current_job
from flowli_core.driver import Ack, Completed, Lease, Reserved, StepAnswer
from flowli_core.testing import ManualClock
from tests.support.running import Rival, Work, breathe, cancelled_at, running, soon, until


async def test_a_handler_whose_lease_is_lost_is_cancelled_and_its_outcome_discarded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next heartbeat finds that it is lost, long before the lease would have expired."""
    monkeypatch.setattr("flowli_core._running.leases.MAX_INTERVAL", timedelta(milliseconds=100))
    work = Work()
    cancelled = asyncio.Event()
    events: list[tuple[str, str]] = []

    async def act(_: int) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
        return "a discarded result"

    async def on_lost(event: JobEvent) -> None:
        events.append(("lost", event.id))

    async def on_completed(event: JobEvent) -> None:
        events.append(("completed", event.id))

    work.deeds.act = act
    (record_id,) = await work.add(1)
    hooks = Hooks(on_lease_lost=on_lost, on_job_completed=on_completed)
    runner = Runner(work.jobs, lease="10m", hooks=hooks)
    async with running(runner):
        await work.until(record_id, "active")
        work.driver.taken.add(record_id)
        await soon(cancelled.wait())
        await until(lambda: runner.health().active == 0)
    assert events == [("lost", record_id)]
    assert [ack for step in work.driver.steps for ack in step.acks] == []


async def test_a_late_ack_does_not_call_the_completed_hook() -> None:
    """The lease expired unnoticed, and another worker has completed the job: its result counts."""
    clock = ManualClock()
    work = Work(clock=clock)
    release = asyncio.Event()
    events: list[str] = []

    async def act(_: int) -> str:
        await release.wait()
        return "too late"

    async def on_lost(_: JobEvent) -> None:
        events.append("lost")

    async def on_completed(_: JobEvent) -> None:
        events.append("completed")

    work.deeds.act = act
    (record_id,) = await work.add(1)
    hooks = Hooks(on_lease_lost=on_lost, on_job_completed=on_completed)
    task = asyncio.create_task(Runner(work.jobs, hooks=hooks).run_once())
    await work.until(record_id, "active")
    clock.advance("31s")
    rival = Rival(work.driver.inner)
    (taken,) = (await rival.step()).reserved
    assert (await rival.step(Ack(taken.id, taken.token, Completed(b'"in time"')))).acks == ("ok",)
    release.set()
    assert await soon(task) == RunCounts(lost=1)
    assert (await work.job(record_id)).result == "in time"
    assert events == ["lost"]


@pytest.mark.parametrize("lost", [0, 1])
async def test_each_answer_belongs_to_the_ack_in_the_same_position(lost: int) -> None:
    """Two outcomes are sent in one step. Another worker has completed one of the jobs meanwhile."""
    work = Work()
    release = asyncio.Event()
    events: set[tuple[str, str]] = set()

    async def act(_: int) -> None:
        await release.wait()

    async def on_lost(event: JobEvent) -> None:
        events.add(("lost", event.id))

    async def on_completed(event: JobEvent) -> None:
        events.add(("completed", event.id))

    work.deeds.act = act
    record_ids = await work.add(0, 1)
    hooks = Hooks(on_lease_lost=on_lost, on_job_completed=on_completed)
    task = asyncio.create_task(Runner(work.jobs, hooks=hooks).run_once())
    await until(lambda: bool(work.driver.answers))
    (taken,) = [held for held in work.driver.answers[0].reserved if held.id == record_ids[lost]]
    lease = Lease(taken.id, taken.token)
    await work.driver.inner.heartbeat(work.driver.steps[0].worker, [lease], timedelta(milliseconds=1))
    rival = Rival(work.driver.inner)
    reserved: list[Reserved] = []

    async def is_taken() -> bool:
        reserved.extend((await rival.step()).reserved)
        return bool(reserved)

    await until(is_taken)
    (again,) = reserved
    assert (await rival.step(Ack(again.id, again.token, Completed(b"1")))).acks == ("ok",)
    release.set()
    assert await soon(task) == RunCounts(completed=1, lost=1)
    assert [len(step.acks) for step in work.driver.steps if step.acks] == [2]
    assert events == {("lost", record_ids[lost]), ("completed", record_ids[1 - lost])}


async def test_a_record_reserved_again_by_its_own_runner_ends_the_earlier_handler() -> None:
    """The lease expired unnoticed, and the runner recovered its own record. It must not run twice at once."""
    clock = ManualClock()
    work = Work(clock=clock)
    starts: list[int] = []
    first_cancelled, release = asyncio.Event(), asyncio.Event()
    lost: list[str] = []

    async def act(number: int) -> str:
        if number:
            return "other"
        starts.append(current_job().token)
        if len(starts) == 1:
            await cancelled_at(first_cancelled)
        await release.wait()
        return "second"

    async def on_lost(event: JobEvent) -> None:
        lost.append(event.id)

    work.deeds.act = act
    (record_id,) = await work.add(0)
    runner = Runner(work.jobs, hooks=Hooks(on_lease_lost=on_lost))
    async with running(runner):
        await until(lambda: len(starts) == 1)
        clock.advance("31s")
        await work.add(1)
        await soon(first_cancelled.wait())
        await until(lambda: len(starts) == 2)
        await until(lambda: lost == [record_id])
        release.set()
        record = await work.until(record_id, "completed")
    assert (record.result, record.recoveries) == ("second", 0)
    assert starts[0] < starts[1]
    assert {starts[0], starts[1]} <= {step.last_token for step in work.driver.steps}


@pytest.mark.parametrize("method", ["step", "wait"])
async def test_a_record_whose_lease_has_expired_on_arrival_is_not_started(method: Literal["step", "wait"]) -> None:
    """The answer to a step came so late that its leases have expired: another worker has the job already."""
    work = Work()
    starts: list[int] = []

    async def act(number: int) -> None:
        starts.append(number)

    work.deeds.act = act
    added = await work.add(1) if method == "step" else []
    gate = work.driver.hold(method)
    async with running(Runner(work.jobs, lease="1s")):
        if method == "wait":
            await until(lambda: work.driver.is_waiting)
            added = await work.add(1)
        await soon(gate.reached.wait())
        rival = Rival(work.driver.inner)
        taken: list[StepAnswer] = []

        async def is_taken() -> bool:
            taken.append(await rival.step())
            return bool(taken[-1].reserved)

        await until(is_taken)
        gate.opened.set()
        await until(lambda: any(step.acks for step in work.driver.steps))
        assert work.driver.answers[-1].acks == ("lost",)
        assert starts == []
        (held,) = taken[-1].reserved
        assert (await rival.step(Ack(held.id, held.token, Completed(b"1")))).acks == ("ok",)
    assert await work.states(added) == ["completed"]


async def test_a_heartbeat_that_misses_a_job_whose_ack_is_in_flight_changes_nothing() -> None:
    """The store has settled the job, so its lease is gone, but the answer to the ack is slower than the heartbeat."""
    work = Work()
    events: list[str] = []

    async def on_completed(_: JobEvent) -> None:
        events.append("completed")

    async def on_lost(_: JobEvent) -> None:
        events.append("lost")

    (record_id,) = await work.add(1)
    work.driver.hold("step").opened.set()
    gate = work.driver.hold("step")
    hooks = Hooks(on_job_completed=on_completed, on_lease_lost=on_lost)
    task = asyncio.create_task(Runner(work.jobs, lease="1s", hooks=hooks).run_once())
    await soon(gate.reached.wait())
    assert await work.states([record_id]) == ["completed"]
    await until(lambda: work.driver.calls["heartbeat"] >= 2)
    gate.opened.set()
    assert await soon(task) == RunCounts(completed=1)
    assert events == ["completed"]


async def test_the_late_ack_of_a_lost_attempt_does_not_end_the_current_one() -> None:
    """Both attempts belong to the same runner. The first settled while the second was being reserved."""
    clock = ManualClock()
    work = Work(clock=clock)
    releases = [asyncio.Event(), asyncio.Event()]
    tokens: list[int] = []
    lost: list[str] = []

    async def act(number: int) -> str:
        if number:
            return "other"
        tokens.append(current_job().token)
        await releases[len(tokens) - 1].wait()
        return f"start {len(tokens)}"

    async def on_lost(event: JobEvent) -> None:
        lost.append(event.id)

    work.deeds.act = act
    (record_id,) = await work.add(0)
    async with running(Runner(work.jobs, hooks=Hooks(on_lease_lost=on_lost))):
        await until(lambda: len(tokens) == 1)
        await until(lambda: work.driver.is_waiting)
        clock.advance("31s")
        gate = work.driver.hold("step")
        await work.add(1)
        await soon(gate.reached.wait())
        releases[0].set()
        await breathe()
        gate.opened.set()
        await until(lambda: any(ack.token == tokens[0] for step in work.driver.steps for ack in step.acks))
        await until(lambda: len(tokens) == 2)
        releases[1].set()
        record = await work.until(record_id, "completed")
    assert (record.result, record.recoveries) == ("start 2", 0)
    assert lost == [record_id]


async def test_a_lost_lease_reported_after_the_end_of_a_run_is_ignored() -> None:
    """The renewing thread has reported the lost lease, but the run ended before its loop handled the report."""
    work = Work()
    started, release = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    complaints: list[object] = []
    loop.set_exception_handler(lambda _, complaint: complaints.append(complaint))

    async def act(_: int) -> None:
        started.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async def on_lost(event: JobEvent) -> None:
        raise AssertionError(event)

    work.deeds.act = act
    work.driver.taken.update(await work.add(1))
    task = asyncio.create_task(Runner(work.jobs, lease="1s", hooks=Hooks(on_lease_lost=on_lost)).run())
    await soon(started.wait())
    task.cancel()
    await breathe()
    task.cancel()
    beats = work.driver.calls["heartbeat"]
    for _ in range(2000):
        time.sleep(0.01)  # noqa: ASYNC251 - so that only the thread runs
        if work.driver.calls["heartbeat"] > beats:
            break
    time.sleep(0.05)  # noqa: ASYNC251 - until the thread has reported the lost lease
    await asyncio.wait((task,))
    release.set()
    await breathe()
    assert complaints == []
