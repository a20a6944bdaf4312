"""Waiting steps: a job comes with its wake-up, and no job is lost if a wait fails."""

import asyncio
from datetime import timedelta

import pytest

from flowli_core import Runner
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import ManualClock
from tests.support.faulty import FaultyDriver
from tests.support.running import Hold, Work, breathe, running, soon, until


@pytest.fixture
def driver() -> FaultyDriver:
    return FaultyDriver(MemoryDriver())


@pytest.fixture
def work(driver: FaultyDriver) -> Work:
    return Work(driver)


async def idle(driver: FaultyDriver) -> None:
    """Wait until a waiting step is in flight."""
    await until(lambda: driver.is_waiting)


async def test_an_idle_runner_gets_a_job_with_its_wake_up(work: Work, driver: FaultyDriver) -> None:
    async with running(Runner(work.jobs)):
        await idle(driver)
        steps = len(driver.steps)
        (job,) = await work.add(1)
        assert (await work.until(job, "completed")).attempts_made == 1
        assert [reserved.id for answer in driver.waited for reserved in answer.reserved] == [job]
        assert all(not answer.reserved for answer in driver.answers[steps:])


async def test_a_step_sent_during_a_wait_does_not_disturb_it(work: Work, driver: FaultyDriver) -> None:
    """The outcome of one job is sent while the runner waits. The next job still comes with its wake-up."""
    began, may_end = asyncio.Event(), asyncio.Event()

    async def act(number: int) -> None:
        if number == 0:
            began.set()
            await may_end.wait()

    work.deeds.act = act
    driver.only_wakes = True
    async with running(Runner(work.jobs)):
        await idle(driver)
        (long,) = await work.add(0)
        await soon(began.wait())
        await idle(driver)  # for the next job, while the first one runs
        may_end.set()
        await work.until(long, "completed")
        (job,) = await work.add(1)
        await work.until(job, "completed")
        assert [reserved.id for answer in driver.waited for reserved in answer.reserved] == [long, job]


async def test_the_batch_of_a_failed_wait_is_recalled(work: Work, driver: FaultyDriver) -> None:
    """It was reserved, but its answer was lost. The same step is sent again, and gets it under the same token."""
    driver.fail("wait", kind="after", times=1)
    async with running(Runner(work.jobs, lease="1h")):
        await idle(driver)
        (job,) = await work.add(1)
        done = await work.until(job, "completed")
        assert (done.attempts_made, done.recoveries) == (1, 0)
        (lost,) = [answer for answer in driver.waited if answer.reserved]
        (again,) = [answer for answer in driver.answers if answer.reserved]
        assert lost.reserved[0].token == again.reserved[0].token


async def test_a_wait_that_fails_before_it_reserves_loses_no_job(work: Work, driver: FaultyDriver) -> None:
    driver.fail("wait", times=3)
    async with running(Runner(work.jobs)):
        jobs = await work.add(*range(20))
        for job in jobs:
            assert (await work.until(job, "completed")).attempts_made == 1


async def test_a_stop_returns_the_jobs_that_a_wait_has_reserved(work: Work, driver: FaultyDriver) -> None:
    """The store has reserved a job, but the stop cancels the wait before its answer. The job is due again at once."""
    runner = Runner(work.jobs, lease="1h")
    async with running(runner):
        await idle(driver)
        gate = driver.hold("wait")
        (job,) = await work.add(1)
        await soon(gate.reached.wait())
        assert (await work.job(job)).state == "active"
        await soon(runner.stop())
    record = await work.job(job)
    assert (record.state, record.attempts_made, record.recoveries) == ("queued", 0, 0)


async def test_a_stop_reserves_nothing(work: Work, driver: FaultyDriver) -> None:
    """The recall of a cancelled wait reserves no further records."""
    runner = Runner(work.jobs)
    async with running(runner):
        await idle(driver)
        await soon(runner.stop())
    assert driver.steps[-1].want == 0


async def test_two_steps_never_fill_the_same_slots(work: Work, driver: FaultyDriver) -> None:
    """A record that was reserved without a free slot returns to the queue, and runs later."""
    running_now: set[int] = set()
    most = 0
    may_end = {number: asyncio.Event() for number in range(5)}

    async def act(number: int) -> None:
        nonlocal most
        running_now.add(number)
        most = max(most, len(running_now))
        await may_end[number].wait()
        running_now.remove(number)

    work.deeds.act = act
    async with running(Runner(work.jobs, concurrency=2)):
        await idle(driver)
        await work.add(0)
        await until(lambda: running_now == {0})
        await idle(driver)
        gate = driver.hold("wait")
        (late,) = await work.add(1)
        await soon(gate.reached.wait())  # It is reserved, but the runner does not have the answer.
        others = await work.add(2, 3, 4)
        may_end[0].set()
        await until(lambda: running_now == {2, 3})
        gate.opened.set()
        await work.until(late, "queued")
        for event in may_end.values():
            event.set()
        for job in (late, *others):
            assert (await work.until(job, "completed")).attempts_made == 1
    assert most == 2


async def test_a_wait_that_fails_does_not_disturb_the_step_in_flight(work: Work, driver: FaultyDriver) -> None:
    """The answer of that step is lost too. It is sent again, with its acks, and gets its batch."""
    began, may_end = asyncio.Event(), asyncio.Event()

    async def act(number: int) -> None:
        if number == 0:
            began.set()
            await may_end.wait()

    work.deeds.act = act
    async with running(Runner(work.jobs, concurrency=2, lease="1h")):
        await idle(driver)
        (long,) = await work.add(0)
        await soon(began.wait())
        await idle(driver)
        driver.fail("step", kind="after", times=1)
        gate = driver.hold("step")
        may_end.set()
        await soon(gate.reached.wait())
        driver.cut()
        await until(lambda: not driver.is_waiting)
        gate.opened.set()
        (job,) = await work.add(1)
        assert (await work.until(long, "completed")).attempts_made == 1
        assert (await work.until(job, "completed")).recoveries == 0
        sequences = [step.sequence for step in driver.steps if step.wait is None]
        assert sequences == sorted(sequences)
        assert len(sequences) > len(set(sequences)), "one was sent again"


async def test_a_lease_counts_from_the_reservation_not_from_the_start_of_the_wait(
    work: Work, driver: FaultyDriver
) -> None:
    """A runner that has waited for longer than a lease still gets a whole lease."""
    async with running(Runner(work.jobs, lease="1s")):
        await idle(driver)
        await asyncio.sleep(timedelta(seconds=1.1).total_seconds())  # longer than the lease
        (job,) = await work.add(1)
        await work.until(job, "completed")
        reserving = [answer for answer in [*driver.waited, *driver.answers] if answer.reserved]
        assert len(reserving) == 1, "it was not returned to the queue"


async def test_a_job_that_is_due_soon_does_not_depend_on_the_end_of_a_wait(work: Work, driver: FaultyDriver) -> None:
    """An idle Redis ends a wait up to 0.1 s late. In this test the wait does not end at all."""
    job = (await work.jobs.act.delay("300ms", 1)).id
    driver.fail("wait", kind="hang", times=1)
    async with running(Runner(work.jobs)):
        assert (await work.until(job, "completed")).attempts_made == 1
        assert driver.calls["wait"] == 1


async def test_suspects_enqueued_one_after_the_other_run_without_delay(driver: FaultyDriver) -> None:
    """A wait that begins while a suspect runs asks for no other. Its wake-up must still start the next one."""
    work = Work(driver, max_recoveries=0)
    driver.only_wakes = True
    async with running(Runner(work.jobs)):
        for number in range(4):
            await idle(driver)
            (job,) = await work.add(number)
            await work.until(job, "completed")


async def test_an_older_answer_does_not_hide_a_suspect(driver: FaultyDriver) -> None:
    """A suspect is enqueued after the step in flight has run. The answer of the wait comes first, and says so."""
    work, hold = Work(driver), Hold()
    work.deeds.act = hold
    suspects = work.registry(max_recoveries=0)
    driver.only_wakes = True
    async with running(Runner(work.jobs)):
        await idle(driver)
        (first,) = await work.add(0)
        await soon(hold.started.wait())
        await idle(driver)
        gate, waits = driver.hold("step"), len(driver.waited)
        hold.release.set()
        await soon(gate.reached.wait())  # The step has stored the outcome of the first job.
        await work.until(first, "completed")
        second = await suspects.act.enqueue(1)
        await until(lambda: len(driver.waited) > waits)
        assert driver.waited[-1].suspect_due
        await breathe()
        gate.opened.set()
        await work.until(second.id, "completed")


async def test_a_full_runner_recalls_a_failed_wait(work: Work, driver: FaultyDriver) -> None:
    """Other jobs have filled its slots meanwhile, so the recalled job returns to the queue at once."""
    may_end = asyncio.Event()

    async def act(number: int) -> None:
        if number:
            await may_end.wait()

    work.deeds.act = act
    driver.fail("wait", kind="after", times=1)
    async with running(Runner(work.jobs, concurrency=1, lease="1h")):
        await idle(driver)
        gate = driver.hold("wait")
        (lost,) = await work.add(0)
        await soon(gate.reached.wait())
        (other,) = await work.add(1)
        gate.opened.set()
        assert (await work.until(lost, "completed")).recoveries == 0
        may_end.set()
        await work.until(other, "completed")


async def test_a_wake_up_during_a_step_is_not_forgotten() -> None:
    """A tick fires after the store has answered the step in flight, and before the runner has the answer.

    No waiting step would find the job: they all hang.
    """
    clock = ManualClock()
    work = Work(clock=clock)
    driver, release = work.driver, asyncio.Event()
    done: list[int] = []

    async def act(number: int) -> None:
        if number == 1:
            await release.wait()
        done.append(number)

    work.deeds.act = act
    await work.jobs.act.schedule("hourly", every="1h", input=2)
    clock.advance("1h")
    await work.add(1)
    driver.fail("wait", kind="hang")
    driver.hold("step").opened.set()
    reading, settling = driver.hold("schedules"), driver.hold("step")
    async with running(Runner(work.jobs)):
        await soon(reading.reached.wait())
        release.set()
        await soon(settling.reached.wait())
        reading.opened.set()
        await until(lambda: driver.calls["put_schedule"] == 2)  # the first call stored the schedule
        await breathe()
        settling.opened.set()
        await until(lambda: done == [1, 2])
