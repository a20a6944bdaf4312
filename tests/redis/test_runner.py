"""Runners on Redis, with workers that die, share jobs, or stop."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING

from flowli_core import Retry, Runner, fixed
from tests.redis.processes import worker
from tests.redis.server import shared_url
from tests.support.running import Rival, Work, running, soon, until

if TYPE_CHECKING:
    from flowli_core.driver import StepAnswer
    from flowli_core.drivers.redis import RedisDriver


async def test_jobs_run_at_once_delayed_and_retried(driver: RedisDriver) -> None:
    """An enqueued, a delayed and a retried job complete; the runner learns of each by a wake-up."""
    work = Work(driver)
    failures = Counter[int]()

    async def act(number: int) -> object:
        if number == 3 and not failures[number]:
            failures[number] += 1
            raise ConnectionError
        return number

    work.deeds.act = act
    again = work.jobs.act.options(retry=Retry(max_attempts=2, backoff=fixed("30ms")))
    async with running(Runner(work.jobs)):
        now = await work.jobs.act.enqueue(1)
        later = await work.jobs.act.delay("60ms", 2)
        twice = await again.enqueue(3)
        for receipt, result in ((now, 1), (later, 2), (twice, 3)):
            assert (await work.until(receipt.id, "completed")).result == result
    assert [(await work.job(one.id)).attempts_made for one in (now, later, twice)] == [1, 1, 2]
    assert failures == {3: 1}


async def test_only_the_jobs_of_a_killed_worker_are_recovered(prefix: str, driver: RedisDriver) -> None:
    """A worker with 50 of 60 jobs in flight is killed: all 60 complete, and only those 50 were recovered."""
    work = Work(driver)
    held: set[str] = set()
    async with worker("hold", shared_url(), prefix) as victim:
        ids = await work.add(*range(60))
        held.update([await victim.line() for _ in range(50)])
        await victim.kill()
    async with running(Runner(work.jobs, concurrency=50)):
        await until(lambda: _all_completed(work, 60))
    recoveries = {record_id: (await work.job(record_id)).recoveries for record_id in ids}
    assert {record_id for record_id in ids if recoveries[record_id]} == held
    assert set(recoveries.values()) == {0, 1}
    counts = await work.jobs.inspect.get_queue_counts()
    assert (counts.completed, counts.active, counts.queued) == (60, 0, 0)


async def test_two_workers_share_the_jobs_and_run_none_twice(prefix: str, driver: RedisDriver) -> None:
    """Each of 300 jobs is started by one of two processes, once."""
    work = Work(driver)
    async with worker("finish", shared_url(), prefix) as one, worker("finish", shared_url(), prefix) as other:
        ids = [record_id for start in range(0, 300, 10) for record_id in await work.add(*range(start, start + 10))]
        await until(lambda: _all_completed(work, 300))
        started = await one.kill() + await other.kill()
    assert sorted(started) == sorted(ids)


async def test_leases_are_renewed_while_the_event_loop_is_blocked(driver: RedisDriver) -> None:
    """A handler that blocks the loop for longer than its lease keeps the lease, while another worker steps."""
    work = Work(driver)
    rival = Rival(driver)
    answers: list[StepAnswer] = []

    async def block(_: int) -> object:
        time.sleep(2)  # noqa: ASYNC251 - this is the fault
        answers.append(rival.step_from_a_thread())
        return None

    work.deeds.act = block
    async with running(Runner(work.jobs, lease="1s")):
        (record_id,) = await work.add(1)
        record = await work.until(record_id, "completed")
    assert [(answer.recovered, answer.reserved) for answer in answers] == [((), ())]
    assert record.recoveries == 0


async def test_a_stopped_runner_releases_its_job_to_another_worker(prefix: str, driver: RedisDriver) -> None:
    """The job returns to the queue at once, a waiting worker runs it, and no attempt is used."""
    work = Work(driver)
    begun = asyncio.Event()

    async def hang(_: int) -> object:
        begun.set()
        return await asyncio.Event().wait()

    work.deeds.act = hang
    runner = Runner(work.jobs)
    async with running(runner) as task:
        (record_id,) = await work.add(1)
        await soon(begun.wait())
        async with worker("finish", shared_url(), prefix) as other:
            await soon(runner.stop(drain="1ms"))
            await soon(task)
            record = await work.until(record_id, "completed")
            assert await other.kill() == [record_id]
    assert (record.attempts_made, record.recoveries) == (1, 0)


async def _all_completed(work: Work, count: int) -> bool:
    return (await work.jobs.inspect.get_queue_counts()).completed == count
