"""Stopping a runner: running jobs may end, the others return to the queue, and nothing more is reserved."""

import asyncio
import threading

import pytest

from flowli_core import DefinitionError, RunCounts, Runner, StoreUnavailable, current_job
from flowli_core.driver import Step, StepAnswer
from flowli_core.drivers.memory import MemoryDriver
from tests.support.faulty import FaultyDriver
from tests.support.running import PATIENCE, Duties, Hold, Work, breathe, running, soon, until

GRACE = "50ms"


async def test_a_stop_lets_running_jobs_end_and_reserves_no_more() -> None:
    work = Work()
    hold = work.deeds.act = Hold()
    ids = await work.add(*range(5))
    runner = Runner(work.jobs, concurrency=1)
    async with running(runner) as task:
        await soon(hold.started.wait())
        stopping = asyncio.create_task(runner.stop())
        await breathe()
        assert not stopping.done()
        assert runner.health().is_running
        hold.release.set()
        await soon(stopping)
        await soon(task)
    assert not runner.health().is_running
    assert await work.states(ids) == ["completed", "queued", "queued", "queued", "queued"]
    assert all(step.want == 0 for step in work.driver.steps[1:])


async def test_a_job_that_exceeds_the_drain_returns_to_the_queue() -> None:
    """It is due at once, no attempt is used, and it runs before jobs that were enqueued later."""
    work = Work()
    starts: list[int] = []
    started, cleaned = asyncio.Event(), asyncio.Event()

    async def act(number: int) -> None:
        starts.append(current_job().attempt)
        if len(starts) > 1:
            return
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    work.deeds.act = act
    (first,) = await work.add(1)
    runner = Runner(work.jobs, concurrency=1)
    async with running(runner):
        await soon(started.wait())
        (second,) = await work.add(2)
        await soon(runner.stop(drain="10ms"))
        assert cleaned.is_set()
        record = await work.job(first)
        assert (record.state, record.attempts_made, record.recoveries) == ("queued", 0, 0)
    order: list[str] = []

    async def note(_: int) -> None:
        order.append(current_job().id)

    work.deeds.act = note
    assert await work.run(concurrency=1) == RunCounts(completed=2)
    assert order == [first, second]
    assert starts == [1]


async def test_a_returned_job_wakes_another_runner() -> None:
    work = Work()
    other_driver = FaultyDriver(work.driver.inner)
    other_driver.only_wakes = True
    runs: list[str] = []
    started = asyncio.Event()

    async def act(_: int) -> None:
        runs.append("first")
        started.set()
        await asyncio.Event().wait()

    async def other_act(_: int) -> None:
        runs.append("second")

    work.deeds.act = act
    other_work = Work(other_driver)
    other_work.deeds.act = other_act
    runner = Runner(work.jobs)
    async with running(runner):
        (record_id,) = await work.add(1)
        await soon(started.wait())
        async with running(Runner(other_work.jobs)):
            await until(lambda: other_driver.calls["wait"] == 1)
            await soon(runner.stop(drain="0s"))
            await work.until(record_id, "completed")
    assert runs == ["first", "second"]


async def test_a_handler_in_a_thread_sees_the_stop_and_its_job_returns_to_the_queue() -> None:
    work = Work()
    started = threading.Event()

    def toil(_: int) -> None:
        started.set()
        me = current_job()
        forever = threading.Event()
        while not me.cancelled:
            forever.wait(0.002)

    work.deeds.toil = toil
    receipt = await work.jobs.toil.enqueue(1)
    runner = Runner(work.jobs)
    async with running(runner):
        await until(started.is_set)
        await soon(runner.stop(drain="10ms"))
    record = await work.job(receipt.id)
    assert (record.state, record.attempts_made) == ("queued", 0)


@pytest.mark.parametrize("where", ["act", "toil"])
async def test_the_job_of_a_handler_that_ignores_the_stop_returns_to_the_queue(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker does not wait for the handler: it would only be killed."""
    work = Work()
    started, release = threading.Event(), threading.Event()

    def toil(_: int) -> None:
        started.set()
        assert release.wait(PATIENCE)

    async def act(_: int) -> None:
        started.set()
        while not release.is_set():
            try:
                await asyncio.sleep(0.002)
            except asyncio.CancelledError:
                continue

    work.deeds.act, work.deeds.toil = act, toil
    receipt = await (work.jobs.act if where == "act" else work.jobs.toil).enqueue(1)
    runner = Runner(work.jobs, cancel_grace=GRACE)
    async with running(runner) as task:
        await until(started.is_set)
        await soon(runner.stop(drain="0s"))
        await soon(task)
    record = await work.job(receipt.id)
    assert (record.state, record.attempts_made) == ("queued", 0)
    assert "is still running as its runner ends" in caplog.text
    release.set()
    await breathe()


async def test_a_handler_that_returns_when_it_is_cancelled_by_a_stop_completes_its_job() -> None:
    work = Work()
    started = asyncio.Event()

    async def act(_: int) -> str:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "saved"
        return "never"

    work.deeds.act = act
    (record_id,) = await work.add(1)
    runner = Runner(work.jobs)
    async with running(runner):
        await soon(started.wait())
        await soon(runner.stop(drain="0s"))
    assert (await work.job(record_id)).result == "saved"


async def test_a_second_stop_may_shorten_the_drain() -> None:
    work = Work()
    hold = work.deeds.act = Hold()
    (record_id,) = await work.add(1)
    runner = Runner(work.jobs)
    async with running(runner):
        await soon(hold.started.wait())
        patient = asyncio.create_task(runner.stop(drain="1h"))
        await breathe()
        assert not patient.done()
        await soon(runner.stop(drain="0s"))
        await soon(patient)
    assert await work.states([record_id]) == ["queued"]


async def test_stopping_a_runner_that_is_not_running_does_nothing() -> None:
    work = Work()
    runner = Runner(work.jobs)
    await runner.stop()
    await work.add(1)
    assert await runner.run_once() == RunCounts(completed=1)
    await runner.stop()
    await work.add(2)
    assert await runner.run_once() == RunCounts(completed=1)
    with pytest.raises(DefinitionError, match="drain"):
        await runner.stop(drain="-1s")


async def test_a_stop_right_after_the_start_runs_no_job() -> None:
    work = Work()
    ids = await work.add(1)
    runner = Runner(work.jobs)
    async with runner:
        await soon(runner.stop())
    assert await work.states(ids) == ["queued"]


async def test_an_idle_runner_stops_at_once() -> None:
    work = Work()
    work.driver.only_wakes = True
    runner = Runner(work.jobs)
    async with running(runner) as task:
        await until(lambda: work.driver.calls["wait"] == 1)
        await soon(runner.stop())
        await soon(task)


async def test_a_runner_is_listed_with_its_queues_and_jobs_until_it_stops() -> None:
    work = Work()
    runner = Runner(work.jobs, queues=["mail", "default"])
    async with runner:
        await work.add(1)
        await soon(until(lambda: runner.health().since_reserve is not None))
        (worker,) = await work.jobs.inspect.get_workers()
        assert (worker.is_alive, worker.queues, worker.jobs) == (True, ("mail", "default"), frozenset({"act", "toil"}))
    assert await work.jobs.inspect.get_workers() == ()


async def test_a_runner_that_ran_once_is_not_listed() -> None:
    work = Work()
    await work.add(1)
    await work.run()
    assert await work.jobs.inspect.get_workers() == ()


async def test_a_runner_stops_although_the_store_does_not_answer_its_last_step() -> None:
    class Silent(MemoryDriver):
        async def step(self, step: Step) -> StepAnswer:
            if step.leaving:
                raise StoreUnavailable("the store is unreachable")
            return await super().step(step)

    work = Work(Silent())
    await work.add(1)
    assert (await work.run()).completed == 1
    assert len(await work.jobs.inspect.get_workers()) == 1


async def test_run_once_can_be_stopped() -> None:
    work = Work()
    hold = work.deeds.act = Hold()
    await work.add(1, 2)
    runner = Runner(work.jobs, concurrency=1)
    task = asyncio.create_task(runner.run_once())
    await soon(hold.started.wait())
    await soon(runner.stop(drain="0s"))
    assert await soon(task) == RunCounts(released=1)


async def test_jobs_that_were_being_reserved_during_a_stop_return_to_the_queue() -> None:
    work = Work()
    starts: list[int] = []

    async def act(number: int) -> None:
        starts.append(number)

    work.deeds.act = act
    ids = await work.add(*range(5))
    gate = work.driver.hold("step")
    runner = Runner(work.jobs)
    async with running(runner):
        await soon(gate.reached.wait())
        assert await work.states(ids) == ["active"] * 5
        stopping = asyncio.create_task(runner.stop())
        await breathe()
        gate.opened.set()
        await soon(stopping)
    assert starts == []
    for record_id in ids:
        record = await work.job(record_id)
        assert (record.state, record.attempts_made, record.recoveries) == ("queued", 0, 0)


async def test_a_stopping_runner_passes_its_wake_up_on() -> None:
    """The wake-up came while the runner was still listening, but it reserves no more."""
    work = Work()
    other_driver = FaultyDriver(work.driver.inner)
    work.driver.only_wakes = other_driver.only_wakes = True
    started, release, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def act(number: int) -> None:
        if number == 0:
            started.set()
            await release.wait()
        else:
            done.set()

    work.deeds.act = act
    runner = Runner(work.jobs, concurrency=2)
    async with running(runner):
        await until(lambda: work.driver.is_waiting)
        await work.add(0)
        await soon(started.wait())
        await until(lambda: work.driver.calls["wait"] == 2)
        async with running(Runner(Duties(context=work.deeds, driver=other_driver))):
            await until(lambda: other_driver.calls["wait"] == 1)
            stopping = asyncio.create_task(runner.stop())
            await breathe()
            await work.add(1)
            await soon(done.wait())
            release.set()
            await soon(stopping)
