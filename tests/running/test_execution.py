"""Reserving and running jobs while nothing fails."""

import asyncio
import gc
from datetime import timedelta
from unittest.mock import Mock

import pytest

from flowli_core import DefinitionError, Hooks, Jobs, RunCounts, Runner, StrategyError, current_job
from flowli_core._running.slots import Slots
from flowli_core.testing import ManualClock, drain
from tests.support.faulty import FaultyDriver
from tests.support.running import Deeds, Duties, Hold, Work, act, breathe, running, soon, toil, until


async def test_run_once_runs_the_due_jobs_and_returns_the_counts() -> None:
    work = Work()
    seen: list[int] = []

    async def act(number: int) -> int:
        seen.append(number)
        if number == 2:
            raise ValueError("two")
        return number * 10

    work.deeds.act = act
    ids = await work.add(1, 2, 3)
    assert await work.run() == RunCounts(completed=2, failed=1)
    assert sorted(seen) == [1, 2, 3]
    assert await work.states(ids) == ["completed", "failed", "completed"]
    assert (await work.job(ids[0])).result == 10
    assert await work.run() == RunCounts()


async def test_run_once_runs_the_jobs_that_its_jobs_enqueue() -> None:
    work = Work()

    async def act(number: int) -> None:
        if number:
            await work.add(number - 1)

    work.deeds.act = act
    await work.add(4)
    assert await work.run(concurrency=1) == RunCounts(completed=5)


async def test_run_once_leaves_jobs_that_are_not_due() -> None:
    clock = ManualClock()
    work = Work(clock=clock)
    later = (await work.jobs.act.delay("1m", 1)).id
    assert await work.run() == RunCounts()
    clock.advance("1m")
    assert await drain(work.jobs) == RunCounts(completed=1)
    assert await work.states([later]) == ["completed"]


async def test_at_most_concurrency_handlers_run_at_once() -> None:
    work = Work()
    at_once: list[int] = []
    now = 0

    async def act(_: int) -> None:
        nonlocal now
        now += 1
        at_once.append(now)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        now -= 1

    work.deeds.act = act
    await work.add(*range(20))
    assert await work.run(concurrency=3) == RunCounts(completed=20)
    assert max(at_once) == 3


async def test_at_most_concurrency_handlers_run_at_once_in_threads() -> None:
    work = Work()
    barrier = asyncio.Event()
    loop = asyncio.get_running_loop()
    started: list[int] = []

    def toil(number: int) -> None:
        started.append(number)
        asyncio.run_coroutine_threadsafe(barrier.wait(), loop).result()

    work.deeds.toil = toil
    await work.jobs.toil.enqueue_many(range(5))
    async with running(Runner(work.jobs, concurrency=2)):
        await until(lambda: len(started) == 2)
        await breathe()
        assert len(started) == 2
        barrier.set()
        await until(lambda: len(started) == 5)


async def test_slots_are_refilled_while_a_long_job_runs() -> None:
    """A long job does not hold up other jobs, even those of its own batch."""
    work = Work()
    long, others = asyncio.Event(), asyncio.Event()
    done: list[int] = []

    async def act(number: int) -> None:
        if number == 0:
            await long.wait()
        done.append(number)
        if len(done) == 9:
            others.set()

    work.deeds.act = act
    await work.add(*range(10))
    async with running(Runner(work.jobs, concurrency=2)):
        await soon(others.wait())
        assert 0 not in done
        long.set()
        await until(lambda: len(done) == 10)


@pytest.mark.parametrize(("concurrency", "batches"), [(20, [20]), (60, [30, 30])])
async def test_a_step_fills_half_of_many_slots_but_all_of_few(concurrency: int, batches: list[int]) -> None:
    """One half of the jobs runs while the other is fetched. With few slots, the extra round trips would cost more."""
    work = Work()
    await work.add(*range(concurrency))
    assert await work.run(concurrency=concurrency) == RunCounts(completed=concurrency)
    assert [len(answer.reserved) for answer in work.driver.answers if answer.reserved] == batches
    acks = [len(step.acks) for step in work.driver.steps if step.acks]
    assert sum(acks) == concurrency
    assert len(acks) < 5, "the outcomes of a batch are sent in one step"


async def test_slots_are_filled_by_several_steps_if_a_batch_is_too_big_for_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flowli_core.drivers.memory._step.MAX_BATCH_BYTES", 1)
    work = Work()
    all_here = asyncio.Barrier(5)

    async def act(_: int) -> None:
        await all_here.wait()

    work.deeds.act = act
    await work.add(*range(5))
    assert await work.run(concurrency=5) == RunCounts(completed=5)
    assert [len(answer.reserved) for answer in work.driver.answers[:5]] == [1] * 5


async def test_jobs_start_in_the_order_in_which_they_were_enqueued() -> None:
    work = Work()
    order: list[int] = []

    async def act(number: int) -> None:
        order.append(number)

    work.deeds.act = act
    await work.add(*range(10))
    await work.add(*range(10, 20))
    await work.run(concurrency=1)
    assert order == list(range(20))


async def test_queues_are_served_in_the_order_given() -> None:
    work = Work()
    order: list[str] = []

    async def act(_: int) -> None:
        order.append(current_job().queue)

    work.deeds.act = act
    await work.jobs.act.enqueue_many([1, 2], queue="slow")
    await work.jobs.act.enqueue_many([3, 4], queue="fast")
    await work.jobs.act.enqueue_many([5], queue="other")
    assert await work.run(concurrency=1, queues=["fast", "slow"]) == RunCounts(completed=4)
    assert order == ["fast", "fast", "slow", "slow"]


async def test_the_declared_queues_are_served_unless_others_are_given() -> None:
    work = Work()
    await work.jobs.act.enqueue(1, queue="elsewhere")
    assert await work.run(queues=("default",)) == RunCounts()
    assert await work.run() == RunCounts(completed=1)


async def test_a_running_runner_runs_jobs_that_are_enqueued_later() -> None:
    work = Work()
    done = asyncio.Event()

    async def act(_: int) -> None:
        done.set()

    work.deeds.act = act
    runner = Runner(work.jobs)
    async with runner:
        assert runner.health().is_running
        for _ in range(3):
            await breathe()
            await work.add(1)
            await soon(done.wait())
            done.clear()
    assert not runner.health().is_running


async def test_a_delayed_job_starts_when_it_is_due_without_polling() -> None:
    """The runner is woken, or knows when the job is due."""
    work = Work()
    started = asyncio.Event()

    async def act(_: int) -> None:
        started.set()

    work.deeds.act = act
    async with Runner(work.jobs):
        await until(lambda: work.driver.calls["wait"] == 1)
        await work.jobs.act.delay("300ms", 1)
        await soon(started.wait())
        # One step each when it was enqueued, when it was due, and for its ack. Polling would take many more.
        assert work.driver.calls["step"] <= 6


async def test_a_full_runner_passes_a_wake_up_on_to_one_with_a_free_slot() -> None:
    """The store wakes one runner. If that one has no free slot, the other must be woken."""
    clock = ManualClock()
    work = Work(clock=clock)
    others_driver = FaultyDriver(work.driver.inner)
    work.driver.only_wakes = others_driver.only_wakes = True
    release, started = asyncio.Event(), [asyncio.Event() for _ in range(4)]

    async def act(number: int) -> None:
        started[number].set()
        await (asyncio.Event() if number else release).wait()

    work.deeds.act = act
    other = Duties(context=work.deeds, driver=others_driver)
    await work.add(0)
    await work.jobs.act.delay("1m", 1)
    await work.jobs.act.delay("1m", 2)
    async with running(Runner(work.jobs, concurrency=2)):
        await soon(started[0].wait())
        await until(lambda: work.driver.calls["wait"] == 1)
        async with running(Runner(other, concurrency=1)):
            await until(lambda: others_driver.calls["wait"] == 1)
            clock.advance("1m")
            release.set()
            await soon(asyncio.gather(started[1].wait(), started[2].wait()))
            await work.add(3)
            await soon(started[3].wait())


async def test_a_runner_runs_once_at_a_time() -> None:
    work = Work()
    runner = Runner(work.jobs)
    async with runner:
        with pytest.raises(StrategyError, match="is running already"):
            await runner.run()
        with pytest.raises(StrategyError, match="is running already"):
            await runner.run_once()
        with pytest.raises(StrategyError, match="is running already"):
            async with runner:
                pass
        assert runner.health().is_running
    assert await runner.run_once() == RunCounts()


async def test_a_runner_can_be_started_again() -> None:
    work = Work()
    runner = Runner(work.jobs)
    for number in range(3):
        async with runner:
            (record_id,) = await work.add(number)
            await work.until(record_id, "completed")
        assert runner.health().active == 0


async def test_two_runners_share_the_work() -> None:
    work = Work()
    seen: list[int] = []

    async def act(number: int) -> None:
        seen.append(number)
        await asyncio.sleep(0)

    work.deeds.act = act
    async with Runner(work.jobs, concurrency=3), Runner(work.registry(), concurrency=3):
        await work.add(*range(100))
        await until(lambda: len(seen) >= 100)
    assert sorted(seen) == list(range(100))


async def test_a_runner_needs_a_driver() -> None:
    jobs = Duties(context=Deeds())
    with pytest.raises(StrategyError, match="no driver"):
        await Runner(jobs).run_once()
    with pytest.raises(StrategyError, match="no driver"):
        await Runner(jobs).run()


async def test_an_error_of_the_context_factory_ends_a_run() -> None:
    """Only errors of the store are retried: a retry would hide this one."""

    class BrokenError(Exception):
        pass

    def make() -> Deeds:
        raise BrokenError

    jobs = Duties(context=make, driver=Work().driver)
    runner = Runner(jobs)
    with pytest.raises(BrokenError):
        await runner.run()
    assert not runner.health().is_running


async def test_health_shows_the_running_jobs_and_the_time_since_the_last_answer() -> None:
    work = Work()
    hold = work.deeds.act = Hold()
    runner = Runner(work.jobs)
    assert runner.health().since_reserve is None
    await work.add(1, 2)
    async with running(runner):
        await until(lambda: runner.health().active == 2)
        health = runner.health()
        assert health.is_running
        assert health.last_error is None
        assert health.since_reserve is not None
        assert health.since_reserve >= timedelta(0)
        hold.release.set()
        await until(lambda: runner.health().active == 0)


async def test_a_full_runner_still_steps_regularly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise its health would show no answer of the store while its jobs run."""
    monkeypatch.setattr("flowli_core._running.pacer.MAX_WAIT", timedelta(milliseconds=20))
    work = Work()
    hold = work.deeds.act = Hold()
    await work.add(1, 2)
    async with running(Runner(work.jobs, concurrency=1)):
        await until(lambda: sum(not step.want for step in work.driver.steps) >= 3)
        hold.release.set()


async def test_the_store_works_while_handlers_run() -> None:
    """The next step is on its way when the handlers of a batch start."""
    work, driver = (one := Work()), one.driver
    steps_at_start: list[int] = []

    async def act(number: int) -> None:
        steps_at_start.append(len(driver.steps))
        gate.opened.set()

    work.deeds.act = act
    await work.add(*range(100))
    first, gate = driver.hold("step"), driver.hold("step")
    first.opened.set()
    await work.run(concurrency=50)
    assert set(steps_at_start[:25]) == {2}


async def test_an_error_in_starting_a_job_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the next step is on its way."""
    work = Work()
    for count in (1, 100):
        monkeypatch.setattr(Slots, "start", Mock(side_effect=[RuntimeError("no slot"), *[None] * 200]))
        jobs = await work.add(*range(count))
        with pytest.raises(RuntimeError, match="no slot"):
            await work.run(concurrency=50)
        assert (await work.job(jobs[0])).state == "active"


async def test_jobs_of_a_batch_are_returned_if_the_run_stops_before_they_start() -> None:
    """Its answer comes after the stop was requested, with more work due, so that it could be put off."""
    work = Work()
    ids = await work.add(*range(100))
    gate, runner = work.driver.hold("step"), Runner(work.jobs, concurrency=50)
    async with running(runner):
        await soon(gate.reached.wait())
        stopping = asyncio.create_task(runner.stop())
        await breathe()
        gate.opened.set()
        await soon(stopping)
    assert set(await work.states(ids)) == {"queued"}
    assert all(job.attempts_made == 0 for job in [await work.job(one) for one in ids])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": True}, "concurrency"),
        ({"concurrency": 10**6}, "concurrency"),
        ({"queues": "mail"}, "queues"),
        ({"queues": []}, "queues"),
        ({"queues": ["{x}"]}, "name of a queue"),
        ({"lease": "999ms"}, "lease"),
        ({"lease": "25h"}, "lease"),
        ({"lease": 30}, "lease"),
        ({"cancel_grace": "0s"}, "cancel_grace"),
        ({"stall_limit": "-1s"}, "stall_limit"),
        ({"hooks": {}}, "hooks"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(DefinitionError, match=complaint):
        Runner(Work().jobs, **options)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_runner_names_its_registry() -> None:
    jobs: Jobs[Deeds] = Work().jobs
    assert Runner(jobs, hooks=Hooks()).jobs is jobs
    assert {act.definition.name, toil.definition.name} == {"act", "toil"}


async def test_finished_jobs_leave_no_reference_cycles() -> None:
    """In a busy worker, the garbage collector would take a fifth of the time and block the loop meanwhile."""
    work = Work()
    await work.run()

    async def garbage(count: int) -> int:
        await work.add(*range(count))
        gc.collect()
        gc.disable()
        try:
            await work.run()
            return gc.collect()
        finally:
            gc.enable()

    few, many = await garbage(10), await garbage(510)
    assert many - few < 500
