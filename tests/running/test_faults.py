"""A runner on a store that fails: it retries, loses nothing and recovers."""

import asyncio
import itertools
import logging
import threading

import pytest

from flowli_core import Hooks, JobEvent, RunCounts, Runner, StoreUnavailable, current_job
from flowli_core._pauses import FIRST_PAUSE, LONGEST_PAUSE, pauses
from flowli_core.testing import ManualClock
from tests.support.faulty import FaultKind, Method
from tests.support.running import Hold, Work, breathe, running, soon, until


def test_pauses_grow_are_capped_and_differ() -> None:
    first = list(itertools.islice(pauses(), 20))
    assert FIRST_PAUSE / 2 <= first[0] <= FIRST_PAUSE
    assert all(LONGEST_PAUSE / 2 <= pause <= LONGEST_PAUSE for pause in first[8:])
    assert first[:6] == sorted(first[:6])
    assert first != list(itertools.islice(pauses(), 20)), "a fleet does not retry all at once"


async def test_an_outage_does_not_end_a_runner_and_shows_in_its_health(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    work = Work()
    runner = Runner(work.jobs)
    async with running(runner) as task:
        await until(lambda: work.driver.is_waiting)
        work.driver.fail("step", "wait", "heartbeat", "enqueue")
        work.driver.cut()
        await until(lambda: runner.health().last_error is not None)
        assert runner.health().last_error == "StoreUnavailable: cannot be reached"
        assert runner.health().is_running
        steps = work.driver.calls["step"]
        await until(lambda: work.driver.calls["step"] >= steps + 2)
        work.driver.mend()
        (record_id,) = await work.add(1)
        await work.until(record_id, "completed")
        assert runner.health().last_error is None
        assert not task.done()
    assert caplog.text.count("the store is unreachable, retrying") == 1
    assert "the store is reachable again" in caplog.text


@pytest.mark.parametrize("method", ["step", "wait"])
@pytest.mark.parametrize("error", [StoreUnavailable("gone"), asyncio.CancelledError()], ids=["gone", "cancelled"])
async def test_a_failing_store_is_called_again_only_after_a_pause(method: Method, error: BaseException) -> None:
    work = Work()
    work.driver.fail(method, error=error)
    async with running(Runner(work.jobs)):
        await until(lambda: work.driver.calls[method] >= 1)
        for _ in range(50):
            await breathe()
        # At most two rounds of a step and a wait, and between them the recall of the failed wait.
        assert work.driver.calls["step"] + work.driver.calls["wait"] <= 5
        work.driver.mend()


async def test_a_runner_waits_for_a_store_that_is_not_reachable_yet() -> None:
    work = Work()
    work.driver.fail("open", times=3)
    runner = Runner(work.jobs)
    async with running(runner):
        await until(lambda: runner.health().last_error is not None)
        assert runner.health().since_reserve is None
        await until(lambda: runner.health().since_reserve is not None)
        assert runner.health().last_error is None
        (record_id,) = await work.add(1)
        await work.until(record_id, "completed")


async def test_run_once_raises_if_the_store_is_unreachable() -> None:
    work = Work()
    work.driver.fail("open")
    with pytest.raises(StoreUnavailable):
        await work.run()
    assert work.driver.calls["open"] == 1
    work.driver.mend()
    work.driver.fail("step")
    with pytest.raises(StoreUnavailable):
        await work.run()
    assert work.driver.calls["step"] == 3


async def test_run_once_ends_its_handlers_before_it_raises() -> None:
    work = Work()
    ended = asyncio.Event()
    thread_ended = threading.Event()

    async def act(number: int) -> None:
        if number:
            work.driver.fail("step")
            return
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    def toil(_: int) -> None:
        me = current_job()
        forever = threading.Event()
        while not me.cancelled:
            forever.wait(0.002)
        thread_ended.set()

    work.deeds.act, work.deeds.toil = act, toil
    await work.jobs.toil.enqueue(1)
    await work.add(0, 1)
    with pytest.raises(StoreUnavailable):
        await work.run()
    await soon(ended.wait())
    await until(thread_ended.is_set)


async def test_outcomes_are_kept_through_an_outage() -> None:
    """They are sent when the store is reachable again, and no handler runs twice."""
    work = Work()
    runs: list[int] = []
    release = asyncio.Event()

    async def act(number: int) -> int:
        runs.append(number)
        await release.wait()
        return number

    work.deeds.act = act
    ids = await work.add(*range(10))
    runner = Runner(work.jobs)
    async with running(runner):
        await until(lambda: len(runs) == 10)
        work.driver.fail("step", "heartbeat", "wait")
        release.set()
        await until(lambda: runner.health().last_error is not None and runner.health().active == 0)
        assert await work.states(ids) == ["active"] * 10
        work.driver.mend()
        for record_id in ids:
            assert (await work.until(record_id, "completed")).recoveries == 0
    assert sorted(runs) == list(range(10))


async def test_a_batch_whose_answer_was_lost_is_fetched_again_at_once() -> None:
    """The same step is sent again. It does not wait for the lease, and uses no attempt and no recovery."""
    clock = ManualClock()
    work = Work(clock=clock)
    tokens: list[int] = []

    async def act(_: int) -> None:
        tokens.append(current_job().token)

    work.deeds.act = act
    ids = await work.add(*range(5))
    work.driver.fail("step", kind="after", times=1)
    assert await work.run() == RunCounts(completed=5)
    assert [step.sequence for step in work.driver.steps[:2]] == [1, 1]
    assert len(tokens) == 5
    assert set(tokens) == {held.token for held in work.driver.answers[0].reserved}
    for record_id in ids:
        record = await work.job(record_id)
        assert (record.recoveries, record.attempts_made) == (0, 1)


async def test_acks_whose_answer_was_lost_are_counted_once() -> None:
    work = Work()
    completed: list[str] = []

    async def on_completed(event: JobEvent) -> None:
        completed.append(event.id)

    ids = await work.add(*range(5))
    runner = Runner(work.jobs, hooks=Hooks(on_job_completed=on_completed))
    gate = work.driver.hold("step")
    task = asyncio.create_task(runner.run_once())
    await soon(gate.reached.wait())
    work.driver.fail("step", kind="after", times=2)
    gate.opened.set()
    assert await soon(task) == RunCounts(completed=5)
    assert sorted(completed) == sorted(ids)
    with_acks = [step.sequence for step in work.driver.steps if step.acks]
    assert len(with_acks) > len(set(with_acks)), "it was sent more than once"


@pytest.mark.parametrize("method", ["step", "wait", "heartbeat"])
@pytest.mark.parametrize(
    "error",
    [ValueError("a bug in a driver"), OSError("a socket"), asyncio.CancelledError("of something inside the driver")],
    ids=lambda error: type(error).__name__,
)
async def test_no_error_of_a_driver_ends_a_runner(method: Method, error: BaseException) -> None:
    """Not even a CancelledError that nobody requested: it would end the runner without a message."""
    work = Work()
    runs: list[int] = []

    async def act(number: int) -> None:
        runs.append(number)
        beats = work.driver.calls["heartbeat"]
        if method == "heartbeat":
            await until(lambda: work.driver.calls["heartbeat"] >= beats + 3)

    work.deeds.act = act
    work.driver.fail(method, times=2, error=error)
    async with running(Runner(work.jobs, lease="1s")) as task:
        await until(lambda: work.driver.calls["wait" if method == "heartbeat" else "step"] >= 1)
        for number in range(3):
            (record_id,) = await work.add(number)
            await work.until(record_id, "completed")
            if method == "heartbeat":
                break
        assert not task.done()


async def test_jobs_are_found_although_waiting_fails() -> None:
    """Waiting needs its own connection. If that fails, the runner still steps regularly."""
    work = Work()
    work.driver.fail("wait")
    async with running(Runner(work.jobs)):
        await until(lambda: work.driver.calls["wait"] >= 1)
        (record_id,) = await work.add(1)
        await work.until(record_id, "completed")


@pytest.fixture
def short_last_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the time that a stop allows for the last calls of the store."""
    monkeypatch.setattr("flowli_core._running.run._LAST_CALLS", 0.1)


@pytest.mark.usefixtures("short_last_calls")
@pytest.mark.parametrize("kind", ["before", "after", "hang"])
async def test_a_stop_ends_although_the_store_is_unreachable(kind: FaultKind) -> None:
    """The run raises, because an outcome could not be sent."""
    work = Work()
    hold = work.deeds.act = Hold()
    await work.add(1)
    runner = Runner(work.jobs, cancel_grace="10ms")
    task = asyncio.create_task(runner.run())
    await soon(hold.started.wait())
    work.driver.fail("step", "heartbeat", "wait", kind=kind)
    hold.release.set()
    await soon(runner.stop(drain="0s"))
    with pytest.raises(StoreUnavailable):
        await soon(task)
    assert not runner.health().is_running


@pytest.mark.usefixtures("short_last_calls")
@pytest.mark.parametrize("kind", ["before", "hang"])
async def test_a_stop_ends_a_runner_that_never_reached_its_store(kind: FaultKind) -> None:
    work = Work()
    work.driver.fail("open", kind=kind)
    runner = Runner(work.jobs, cancel_grace="10ms")
    task = asyncio.create_task(runner.run())
    await until(lambda: work.driver.calls["open"] >= 1)
    await soon(runner.stop(drain="0s"))
    if kind == "hang":
        with pytest.raises(StoreUnavailable, match="before the deadline of the stop"):
            await soon(task)
    else:
        await soon(task)
    assert not runner.health().is_running


@pytest.mark.usefixtures("short_last_calls")
async def test_a_runner_without_jobs_does_not_wait_long_for_an_unreachable_store() -> None:
    """The drain is for running jobs, and there are none."""
    work = Work()
    runner = Runner(work.jobs)
    work.driver.fail("step")
    task = asyncio.create_task(runner.run())
    await until(lambda: runner.health().last_error is not None)
    await soon(runner.stop(drain="1d"))
    with pytest.raises(StoreUnavailable):
        await soon(task)


@pytest.mark.usefixtures("short_last_calls")
@pytest.mark.parametrize("kind", ["before", "hang"])
async def test_a_cancelled_run_ends_as_cancelled_although_the_store_is_unreachable(kind: FaultKind) -> None:
    work = Work()
    hold = work.deeds.act = Hold()
    await work.add(1)
    task = asyncio.create_task(Runner(work.jobs, cancel_grace="10ms").run())
    await soon(hold.started.wait())
    work.driver.fail("step", "heartbeat", kind=kind)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(task)


async def test_outcomes_are_sent_if_the_store_recovers_during_a_stop() -> None:
    work = Work()
    hold = work.deeds.act = Hold()
    (record_id,) = await work.add(1)
    runner = Runner(work.jobs)
    async with running(runner):
        await soon(hold.started.wait())
        work.driver.fail("step", times=2)
        hold.release.set()
        await soon(runner.stop())
    assert await work.states([record_id]) == ["completed"]
