"""Worker processes that are killed, stopped, frozen, or that kill themselves."""

from __future__ import annotations

import signal
from asyncio.subprocess import Process

import pytest

from tests.faults.app import DIED
from tests.faults.scene import Scene, stopped
from tests.support.running import soon, until


@pytest.mark.parametrize(
    ("point", "starts", "recoveries"), [("after_reserve", 1, 1), ("before_ack", 2, 1), ("after_ack", 1, 0)]
)
async def test_a_job_completes_once_when_its_worker_dies_between_two_calls(
    shared: Scene, point: str, starts: int, recoveries: int
) -> None:
    """The worker dies after reserving, before sending the ack, or after the store has applied the ack."""
    receipt = await shared.jobs.quick.enqueue(1)
    async with shared.worker(FLOWLI_FAIL=point) as victim:
        assert await soon(victim.wait()) == DIED
    await shared.jobs.quick.enqueue(2)
    async with shared.worker() as heir:
        counts = await shared.until_finished()
        assert await stopped(heir) == 0
    assert (counts.completed, counts.failed) == (2, 0)
    assert shared.starts(receipt.id) == starts
    record = await shared.job(receipt.id)
    assert (record.recoveries, record.attempts_made) == (recoveries, 1)


async def test_only_the_jobs_that_a_killed_worker_had_in_flight_run_again(shared: Scene) -> None:
    ids = [receipt.id for receipt in await shared.jobs.slow.enqueue_many(range(30))]
    async with shared.worker(concurrency=20) as victim:
        await shared.started(20)
        victim.kill()
        assert await soon(victim.wait()) == -signal.SIGKILL
    in_flight = {record_id for _, record_id, _ in shared.folder.runs()}
    shared.folder.gate.touch()
    async with shared.worker(concurrency=20) as heir:
        await shared.until_finished()
        assert await stopped(heir) == 0
    await shared.all_completed(ids)
    for record_id in ids:
        was_there = record_id in in_flight
        assert (shared.starts(record_id), (await shared.job(record_id)).recoveries) == (1 + was_there, int(was_there))


async def test_a_stopping_worker_finishes_the_jobs_that_end_within_the_drain(shared: Scene) -> None:
    """Its exit code is 0, no job runs twice, and jobs that had not started stay queued."""
    ids = [receipt.id for receipt in await shared.jobs.slow.enqueue_many(range(15))]
    async with shared.worker(concurrency=10) as process:
        await shared.started(10)
        process.terminate()
        shared.folder.gate.touch()
        assert await soon(process.wait()) == 0
    counts = await shared.jobs.inspect.get_queue_counts()
    assert (counts.completed, counts.queued, counts.active) == (10, 5, 0)
    assert max(shared.starts(record_id) for record_id in ids) == 1


async def test_a_job_that_takes_longer_than_the_drain_goes_to_another_worker(shared: Scene) -> None:
    """It is returned to the queue without using an attempt, and an idle worker starts it."""
    receipt = await shared.jobs.slow.enqueue(1)
    async with shared.worker(drain="50ms", lease="60s") as first:
        await shared.started(1)
        async with shared.worker(lease="60s") as second:
            assert await stopped(first) == 0
            await shared.started(2)
            shared.folder.gate.touch()
            await shared.until_finished()
            assert await stopped(second) == 0
    record = await shared.job(receipt.id)
    assert (record.state, record.attempts_made, record.recoveries) == ("completed", 1, 0)


async def test_a_second_signal_stops_a_worker_at_once(shared: Scene) -> None:
    """The running job returns to the queue, though the drain would have lasted a minute."""
    receipt = await shared.jobs.slow.enqueue(1)
    async with shared.worker(drain="60s", lease="60s") as process:
        await shared.started(1)
        process.send_signal(signal.SIGINT)
        await until(lambda: b"stop" in (shared.folder.path / "stderr").read_bytes())
        assert await stopped(process, signal.SIGINT) != -signal.SIGINT
    record = await shared.job(receipt.id)
    assert (record.state, record.attempts_made, record.recoveries) == ("queued", 0, 0)


async def test_a_frozen_worker_loses_its_job_and_its_outcome(shared: Scene) -> None:
    """Another worker runs the job. When the first continues, its outcome changes nothing."""
    receipt = await shared.jobs.slow.enqueue(1)
    async with shared.worker() as frozen:
        await shared.started(1)
        frozen.send_signal(signal.SIGSTOP)
        await until(shared.all_overdue)  # its waiting step ends at that time too, and must not take the job
        async with shared.worker() as other:
            await shared.started(2)
            shared.folder.gate.touch()
            await shared.until_finished()
            first = await shared.job(receipt.id)
            frozen.send_signal(signal.SIGCONT)
            assert await stopped(frozen) == 0
            assert await stopped(other) == 0
    record = await shared.job(receipt.id)
    assert record == first
    assert (record.state, record.recoveries, shared.starts(receipt.id)) == ("completed", 1, 2)


async def test_workers_that_were_all_frozen_finish_their_jobs(shared: Scene) -> None:
    """No other worker recovered the jobs, so their outcomes are accepted, or the jobs run once more."""
    ids = [receipt.id for receipt in await shared.jobs.slow.enqueue_many(range(6))]
    async with shared.worker(concurrency=3) as one, shared.worker(concurrency=3) as other:
        await shared.started(6)
        processes: tuple[Process, Process] = (one, other)
        for process in processes:
            process.send_signal(signal.SIGSTOP)

        async def have_leases_expired() -> bool:
            return (await shared.jobs.inspect.get_queue_counts()).active == 6 and await shared.all_overdue()

        await until(have_leases_expired)
        shared.folder.gate.touch()
        for process in processes:
            process.send_signal(signal.SIGCONT)
        counts = await shared.until_finished()
        for process in processes:
            assert await stopped(process) == 0
    assert (counts.completed, counts.failed) == (6, 0)
    await shared.all_completed(ids)


@pytest.mark.parametrize(("how", "code"), [("exit", DIED), ("kill", -signal.SIGKILL), ("crash", -signal.SIGSEGV)])
async def test_a_job_that_kills_its_worker_fails_and_no_other_does(shared: Scene, how: str, code: int) -> None:
    """It fails with "worker lost" after four starts, and none of the 50 jobs beside it fails."""
    innocents = [receipt.id for receipt in await shared.jobs.quick.enqueue_many(range(25))]
    receipt = await shared.jobs.poison.enqueue(how)
    innocents += [receipt.id for receipt in await shared.jobs.quick.enqueue_many(range(25))]
    for _ in range(4):
        async with shared.worker(concurrency=50) as victim:
            assert await soon(victim.wait()) == code
    async with shared.worker(concurrency=50) as heir:
        counts = await shared.until_finished()
        assert await stopped(heir) == 0
    assert (counts.completed, counts.failed) == (50, 1)
    record = await shared.job(receipt.id)
    assert record.last_error is not None
    assert (record.state, record.last_error.type, shared.starts(receipt.id)) == ("failed", "WorkerLost", 4)
    await shared.all_completed(innocents)


async def test_a_blocked_loop_keeps_its_lease(shared: Scene) -> None:
    """A handler blocks the loop for twice the lease, and an idle worker does not get its job."""
    receipt = await shared.jobs.block.enqueue(2000)
    async with shared.worker() as blocked:
        await shared.started(1)
        async with shared.worker() as other:
            await shared.until_finished()
            assert await stopped(blocked) == 0
            assert await stopped(other) == 0
    record = await shared.job(receipt.id)
    assert (record.state, record.recoveries, shared.starts(receipt.id)) == ("completed", 0, 1)
