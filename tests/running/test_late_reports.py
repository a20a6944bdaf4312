"""Leases that expired while their worker stood still, or could not reach the store: it reports them afterwards."""

import asyncio
from datetime import timedelta

from flowli_core import RunCounts, Runner, current_job
from flowli_core.driver import Ack, Released
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import ManualClock
from tests.support.faulty import FaultyDriver
from tests.support.running import Hold, Rival, Work, cancelled_at, running, soon, until


async def test_a_recovery_does_not_count_if_the_worker_could_not_reach_the_store() -> None:
    """Once it can, it reports the lease that has expired meanwhile: it is alive."""
    work = Work()
    cancelled = asyncio.Event()

    async def act(_: int) -> None:
        await cancelled_at(cancelled)

    work.deeds.act = act
    (record_id,) = await work.add(1)
    rival = Rival(work.driver.inner)
    async with running(Runner(work.jobs, lease="1s")):
        await work.until(record_id, "active")
        work.driver.fail("step", "wait", "heartbeat")
        await soon(cancelled.wait())

        async def is_taken() -> bool:
            return bool((await rival.step()).reserved)

        await until(is_taken)
        assert (await work.job(record_id)).recoveries == 1
        work.driver.mend()

        async def is_taken_back() -> bool:
            return (await work.job(record_id)).recoveries == 0

        await until(is_taken_back)
        assert (await work.job(record_id)).state == "active"


async def test_a_job_whose_lease_expired_while_the_store_was_unreachable_runs_again_at_once() -> None:
    """No other worker has recovered it. It is released, and runs again."""
    work = Work()
    first_cancelled = asyncio.Event()
    tokens: list[int] = []

    async def act(_: int) -> None:
        tokens.append(current_job().token)
        if len(tokens) == 1:
            await cancelled_at(first_cancelled)

    work.deeds.act = act
    (record_id,) = await work.add(1)
    async with running(Runner(work.jobs, lease="1s")):
        await work.until(record_id, "active")
        work.driver.fail("step", "wait", "heartbeat")
        await soon(first_cancelled.wait())
        work.driver.mend()
        record = await work.until(record_id, "completed")
    assert (record.recoveries, record.attempts_made, len(tokens)) == (0, 1, 2)


async def test_workers_that_stand_still_again_and_again_do_not_fail_a_job() -> None:
    """Each of them finds out late that another worker has recovered the job, which runs in the end."""
    clock = ManualClock()
    inner = MemoryDriver(clock=clock)
    work = Work(inner, max_recoveries=1)
    (record_id,) = await work.add(1)
    for _ in range(5):
        # Each runner has a driver of its own, so that only its own calls stand still.
        stalled = Work(FaultyDriver(inner), max_recoveries=1)
        hold = stalled.deeds.act = Hold()
        task = asyncio.create_task(Runner(stalled.jobs).run_once())
        await soon(hold.started.wait())
        clock.advance(timedelta(seconds=31))
        heir = Rival(inner, f"heir of {stalled.driver.steps[0].worker}")
        (held,) = (await heir.step()).reserved
        assert (await work.job(record_id)).recoveries == 1
        hold.release.set()
        assert await soon(task) == RunCounts(lost=1)
        assert (await work.job(record_id)).recoveries == 0
        await heir.step(Ack(held.id, held.token, Released()), want=0)
    assert await work.run() == RunCounts(completed=1)
