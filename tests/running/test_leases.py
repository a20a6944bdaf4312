"""Leases: renewed while a job runs, recovered after a worker died."""

import asyncio
import ctypes
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from flowli_core import Hooks, JobEvent, RunCounts, Runner
from flowli_core._running.leases import LeaseRenewer
from flowli_core._running.options import RunnerOptions
from flowli_core._running.reports import ReportSender
from flowli_core.driver import HeartbeatAnswer, Lease, StepAnswer
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.reports import Report
from flowli_core.testing import ManualClock
from tests.support.faulty import FaultKind, FaultyDriver
from tests.support.running import PATIENCE, Hold, Rival, Work, cancelled_at, nothing, running, soon, until


async def test_a_lease_is_renewed_while_a_handler_blocks_the_event_loop(caplog: pytest.LogCaptureFixture) -> None:
    """The handler blocks for longer than the lease. No other worker gets the job, and the log shows the stack."""
    work = Work()
    answers: list[StepAnswer] = []

    async def act(_: int) -> str:
        time.sleep(1.4)  # noqa: ASYNC251 - the fault
        answers.append(Rival(work.driver.inner).step_from_a_thread())
        return "done"

    work.deeds.act = act
    (record_id,) = await work.add(1)
    assert await work.run(lease="1s") == RunCounts(completed=1)
    assert (answers[0].reserved, answers[0].recovered) == ((), ())
    record = await work.job(record_id)
    assert (record.result, record.recoveries) == ("done", 0)
    assert "the event loop is blocked" in caplog.text
    assert "time.sleep(1.4)" in caplog.text, "the stack shows the line"


async def test_an_event_loop_that_is_blocked_for_too_long_loses_its_leases(caplog: pytest.LogCaptureFixture) -> None:
    """So another worker can take over from a process that never recovers."""
    work = Work()
    lost: list[str] = []
    answers: list[StepAnswer] = []

    async def act(_: int) -> str:
        time.sleep(1.8)  # noqa: ASYNC251 - the fault
        answers.append(Rival(work.driver.inner).step_from_a_thread())
        await asyncio.Event().wait()
        return "never"

    async def on_lost(event: JobEvent) -> None:
        lost.append(event.id)

    work.deeds.act = act
    (record_id,) = await work.add(1)
    runner = Runner(work.jobs, lease="1s", stall_limit="200ms", hooks=Hooks(on_lease_lost=on_lost))
    assert await soon(runner.run_once()) == RunCounts(lost=1)
    assert [held.id for held in answers[0].reserved] == [record_id]
    assert lost == [record_id]
    assert "are no longer renewed" in caplog.text
    assert "time.sleep(1.8)" in caplog.text, "the stack shows the line"


async def test_a_short_stall_limit_does_not_affect_a_loop_that_is_not_blocked() -> None:
    """The limit may be shorter than the time between two heartbeats."""
    work = Work()
    hold = work.deeds.act = Hold()
    (record_id,) = await work.add(1)
    async with running(Runner(work.jobs, lease="1s", stall_limit="1ms")):
        await until(lambda: work.driver.calls["heartbeat"] >= 4)
        hold.release.set()
        assert (await work.until(record_id, "completed")).recoveries == 0


@pytest.mark.parametrize("kind", get_args(FaultKind))
async def test_a_handler_is_cancelled_when_its_lease_could_not_be_renewed_in_time(kind: FaultKind) -> None:
    """Another worker may have the job by then, whatever the store answers later."""
    work = Work()
    cancelled = asyncio.Event()
    work.deeds.act = lambda _: cancelled_at(cancelled)
    (record_id,) = await work.add(1)
    runner = Runner(work.jobs, lease="1s")
    async with running(runner):
        await work.until(record_id, "active")
        work.driver.fail("heartbeat", "step", "wait", kind=kind)
        await soon(cancelled.wait())
        work.driver.mend()


@pytest.mark.parametrize("beats", [0, 4], ids=["at first", "later"])
async def test_a_lease_survives_heartbeats_that_fail_for_a_while(beats: int) -> None:
    work = Work()
    hold = work.deeds.act = Hold()
    (record_id,) = await work.add(1)
    async with running(Runner(work.jobs, lease="1s")):
        await work.until(record_id, "active")
        await until(lambda: work.driver.calls["heartbeat"] >= beats)
        work.driver.fail("heartbeat", times=1)
        work.driver.fail("heartbeat", times=1, error=asyncio.CancelledError("of something inside the driver"))
        await until(lambda: work.driver.calls["heartbeat"] >= beats + 4)
        hold.release.set()
        assert (await work.until(record_id, "completed")).recoveries == 0


class SlowHeartbeats(FaultyDriver):
    """A driver whose heartbeats take so many seconds."""

    seconds = 0.51

    async def heartbeat(
        self, worker: str, leases: Sequence[Lease], lease: timedelta, reports: Sequence[Report] = ()
    ) -> HeartbeatAnswer:
        await asyncio.sleep(self.seconds)
        return await super().heartbeat(worker, leases, lease, reports)


async def test_a_renewed_lease_counts_from_the_moment_at_which_the_heartbeat_was_sent() -> None:
    """The store counts it from a later moment, and its answer may take long."""
    reserved = SimpleNamespace(id="a", name="act")
    attempt = SimpleNamespace(reserved=reserved, lease=Lease("a", 1), lease_until=time.monotonic() + PATIENCE)
    seen: list[tuple[float, float]] = []

    async def heartbeat(_worker: str, leases: Sequence[Lease], _lease: timedelta) -> HeartbeatAnswer:
        if leases:
            seen.append((time.monotonic(), attempt.lease_until))
        await asyncio.sleep(0.05)
        return HeartbeatAnswer(frozenset(), frozenset())

    slots: Any = SimpleNamespace(held={"a": attempt}, set_renewal_problem=nothing, collect_reports=list)
    driver: Any = SimpleNamespace(heartbeat=heartbeat)
    options = RunnerOptions(
        concurrency=1,
        queues=(),
        weights=None,
        lease=timedelta(milliseconds=300),
        hooks=Hooks(),
        cancel_grace=timedelta(seconds=1),
        stall_limit=timedelta(minutes=5),
    )
    renewer = LeaseRenewer(slots, driver=driver, worker="w", options=options, sender=ReportSender("w"))
    with renewer:
        await until(lambda: len(seen) >= 2)
    await renewer.ended()
    (sent_at, _), (_, lease_until) = seen[:2]
    assert lease_until <= sent_at + 0.3


@pytest.mark.parametrize("kind", ["slow", "failing"])
async def test_a_worker_that_cannot_renew_leases_in_time_takes_no_jobs(
    caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """It says so once, is not ready meanwhile, and goes on when it can."""
    driver = SlowHeartbeats(MemoryDriver())
    work = Work(driver)
    if kind == "failing":
        driver.seconds = 0
        driver.fail("heartbeat")
    (record_id,) = await work.add(1)
    runner = Runner(work.jobs, lease="1s")
    async with running(runner):
        await until(lambda: driver.calls["heartbeat"] >= 3)
        assert await work.states([record_id]) == ["queued"]
        health = runner.health()
        assert not health.is_ready
        assert ("a heartbeat took 0.5 s" if kind == "slow" else "cannot be reached") in str(health.last_error)
        driver.seconds = 0
        driver.mend()
        await work.until(record_id, "completed")
        assert runner.health().is_ready
    assert caplog.text.count("takes no jobs until it can") == 1


async def test_the_jobs_of_a_dead_worker_are_recovered_and_run() -> None:
    clock = ManualClock()
    work = Work(clock=clock)
    events: list[tuple[str, int]] = []

    async def on_recovered(event: JobEvent) -> None:
        events.append((event.id, event.recoveries))

    ids = await work.add(1, 2)
    await Rival(work.driver.inner).step(want=2)
    assert await work.run() == RunCounts()
    clock.advance("31s")
    runner = Runner(work.jobs, hooks=Hooks(on_lease_recovered=on_recovered))
    assert await runner.run_once() == RunCounts(completed=2, recovered=2)
    assert sorted(events) == sorted((record_id, 1) for record_id in ids)
    record = await work.job(ids[0])
    assert (record.state, record.recoveries, record.attempts_made) == ("completed", 1, 1)


async def test_a_running_runner_recovers_the_jobs_of_a_dead_worker() -> None:
    """No wake-up is needed: the runner knows when the lease expires."""
    work = Work()
    (record_id,) = await work.add(1)
    await Rival(work.driver.inner).step(lease=timedelta(milliseconds=200))
    async with running(Runner(work.jobs)):
        assert (await work.until(record_id, "completed")).recoveries == 1


async def test_a_job_cancelled_while_its_worker_was_dying_is_cancelled() -> None:
    clock = ManualClock()
    work = Work(clock=clock)
    (record_id,) = await work.add(1)
    await Rival(work.driver.inner).step()
    assert await work.jobs.control.cancel(record_id) == "requested"
    clock.advance("31s")
    assert await work.run() == RunCounts(recovered=1)
    assert await work.states([record_id]) == ["cancelled"]


async def test_the_thread_that_renews_ends_with_the_run() -> None:
    def names() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("flowli-leases")]

    work = Work()
    async with Runner(work.jobs):
        await until(lambda: len(names()) == 1)
    assert names() == []


async def test_a_run_ends_although_all_default_threads_are_busy() -> None:
    """The end of a run must not need a thread of `asyncio.to_thread`: calls that hang may have taken all of them."""
    work = Work()
    release = threading.Event()
    loop = asyncio.get_running_loop()
    taken = [loop.run_in_executor(None, release.wait) for _ in range(64)]
    try:
        async with Runner(work.jobs):
            (record_id,) = await work.add(1)
            await work.until(record_id, "completed")
    finally:
        release.set()
        await asyncio.gather(*taken)


async def test_a_process_that_stood_still_keeps_its_jobs_and_names_them(caplog: pytest.LogCaptureFixture) -> None:
    """A C call that holds the GIL stops every thread, also the one that renews leases."""
    work = Work()
    stall_at = 1

    async def act(number: int) -> None:
        if number == stall_at:
            await asyncio.sleep(0.1)
            ctypes.PyDLL(None).usleep(2_500_000)
        else:
            await asyncio.sleep(4)

    work.deeds.act = act
    ids = await work.add(1, 2)
    assert await work.run(lease="1s") == RunCounts(completed=2)
    assert [(await work.job(record_id)).recoveries for record_id in ids] == [0, 0]
    assert "stood still for" in caplog.text
    assert f"{ids[1]} (act)" in caplog.text
