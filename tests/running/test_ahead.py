"""Waiting steps bring the job with its wake-up, and cost none of the guarantees."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from flowli_core import Runner
from flowli_core.drivers.memory import MemoryDriver
from tests.support.faulty import FaultyDriver
from tests.support.running import Work, running, soon, until


@pytest.fixture
def driver() -> FaultyDriver:
    return FaultyDriver(MemoryDriver())


@pytest.fixture
def work(driver: FaultyDriver) -> Work:
    return Work(driver)


async def idle(driver: FaultyDriver) -> None:
    """Wait until the runner waits."""
    await until(lambda: driver.is_waiting)


async def test_an_idle_runner_is_handed_a_job_with_its_wake_up(work: Work, driver: FaultyDriver) -> None:
    async with running(Runner(work.jobs)):
        await idle(driver)
        steps = len(driver.steps)
        (job,) = await work.add(1)
        assert (await work.until(job, "completed")).attempts_made == 1
        assert [one.id for answer in driver.waited for one in answer.reserved] == [job]
        assert all(not answer.reserved for answer in driver.answers[steps:])


async def test_a_step_that_is_sent_during_the_wait_does_not_void_it(work: Work, driver: FaultyDriver) -> None:
    """The outcome of one job is sent while the runner waits; the next job still comes with its wake-up."""
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
        await idle(driver)  # for another one, while this one runs
        may_end.set()
        await work.until(long, "completed")
        (job,) = await work.add(1)
        await work.until(job, "completed")
        assert [one.id for answer in driver.waited for one in answer.reserved] == [long, job]


async def test_the_batch_of_a_lost_wait_is_asked_for_again(work: Work, driver: FaultyDriver) -> None:
    """It was reserved, and its answer was lost: the same step gets it, at once and under the same token."""
    driver.fail("wait", kind="after", times=1)
    async with running(Runner(work.jobs, lease="1h")):
        await idle(driver)
        (job,) = await work.add(1)
        done = await work.until(job, "completed")
        assert (done.attempts_made, done.recoveries) == (1, 0)
        (lost,) = [answer for answer in driver.waited if answer.reserved]
        (again,) = [answer for answer in driver.answers if answer.reserved]
        assert lost.reserved[0].token == again.reserved[0].token


async def test_a_wait_that_fails_before_it_was_taken_loses_nothing(work: Work, driver: FaultyDriver) -> None:
    driver.fail("wait", times=3)
    async with running(Runner(work.jobs)):
        jobs = await work.add(*range(20))
        for job in jobs:
            assert (await work.until(job, "completed")).attempts_made == 1


async def test_a_stop_gives_back_what_a_wait_was_given(work: Work, driver: FaultyDriver) -> None:
    """The store has reserved for a runner that never heard of it, because it stopped: the job is free at once."""
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
    """Asking again for what a wait may have been given takes nothing that it was not given."""
    runner = Runner(work.jobs)
    async with running(runner):
        await idle(driver)
        await soon(runner.stop())
    assert driver.steps[-1].want == 0


async def test_two_steps_never_fill_the_same_slots(work: Work, driver: FaultyDriver) -> None:
    """What is handed out beyond the slots is given back, and runs when there is one."""
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
        await soon(gate.reached.wait())  # the store has handed it out, and the runner has not heard
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


async def test_a_wait_that_fails_leaves_the_step_that_is_under_way_alone(work: Work, driver: FaultyDriver) -> None:
    """Whose answer is lost as well: it is sent again with its outcomes, and for its batch."""
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


async def test_a_lease_counts_from_when_it_was_given_not_from_when_the_wait_began(
    work: Work, driver: FaultyDriver
) -> None:
    """A runner that has waited for longer than a lease still has all of the lease that it is given then."""
    async with running(Runner(work.jobs, lease="1s")):
        await idle(driver)
        await asyncio.sleep(timedelta(seconds=1.1).total_seconds())  # the one thing that only time can show
        (job,) = await work.add(1)
        await work.until(job, "completed")
        given = [answer for answer in [*driver.waited, *driver.answers] if answer.reserved]
        assert len(given) == 1, "it was not given back"


async def test_what_is_due_soon_does_not_depend_on_a_wait_to_end_in_time(work: Work, driver: FaultyDriver) -> None:
    """An idle Redis is up to a tenth of a second late; here the wait does not end at all."""
    job = (await work.jobs.act.delay("300ms", 1)).id
    driver.fail("wait", kind="hang", times=1)
    async with running(Runner(work.jobs)):
        assert (await work.until(job, "completed")).attempts_made == 1
        assert driver.calls["wait"] == 1


async def test_suspects_one_after_the_other_wait_for_nothing(driver: FaultyDriver) -> None:
    """The wait that began while one ran asked for no other; its wake-up is not lost for the next."""
    work = Work(driver, max_recoveries=0)
    driver.only_wakes = True
    async with running(Runner(work.jobs)):
        for number in range(4):
            await idle(driver)
            (job,) = await work.add(number)
            await work.until(job, "completed")


async def test_what_a_lost_wait_was_given_is_recalled_by_a_full_runner_too(work: Work, driver: FaultyDriver) -> None:
    """Its slots went to others meanwhile: then the job is given back at once, and does not wait for its lease."""
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
