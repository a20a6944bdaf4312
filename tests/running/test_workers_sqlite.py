"""Worker processes on one SQLite file: killed, stopped, and side by side."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from tests.running.workers_app import POISON, Folder, WorkerJobs, make_jobs
from tests.support.running import soon, until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Return the folder that the processes of a test share."""
    return Folder(tmp_path)


@pytest.fixture
async def jobs(folder: Folder) -> AsyncIterator[WorkerJobs]:
    """Open a registry on the same store in the process of the test."""
    async with make_jobs(folder) as made:
        yield made


@asynccontextmanager
async def program(folder: Folder, *arguments: str) -> AsyncGenerator[Process]:
    """Run a module, and kill it at the end if it still runs."""
    with (folder.path / "stderr").open("ab") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-m", *arguments),
            env=os.environ | {"FLOWLI_TEST_FOLDER": str(folder.path)},
            cwd=ROOT,
            stderr=stderr,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def worker(folder: Folder, *, concurrency: int, drain: str = "10s") -> AbstractAsyncContextManager[Process]:
    """Run `flowli worker`."""
    options = ("--concurrency", str(concurrency), "--lease", "1s", "--drain", drain)
    return program(folder, "flowli_core.cli", "worker", "tests.running.workers_app:jobs", *options)


async def all_finished(jobs: WorkerJobs) -> bool:
    counts = await jobs.inspect.get_queue_counts()
    return counts.queued + counts.scheduled + counts.active == 0


async def test_the_jobs_of_a_killed_worker_are_run_by_another(folder: Folder, jobs: WorkerJobs) -> None:
    """Only the jobs in flight run again, with one recovery each."""
    ids = [receipt.id for receipt in await jobs.slow.enqueue_many(range(80))]
    async with worker(folder, concurrency=50) as first:
        await until(lambda: len(folder.runs()) == 50)
        first.kill()
        assert await soon(first.wait()) == -signal.SIGKILL
    in_flight = {record_id for _, record_id, _ in folder.runs()}
    folder.gate.touch()
    async with worker(folder, concurrency=50) as second:
        await until(lambda: all_finished(jobs))
        second.terminate()
        assert await soon(second.wait()) == 0
    runs = Counter(record_id for _, record_id, _ in folder.runs())
    assert runs == {record_id: 2 if record_id in in_flight else 1 for record_id in ids}
    counts = await jobs.inspect.get_queue_counts()
    assert (counts.completed, counts.failed, counts.cancelled) == (80, 0, 0)
    for record_id in ids:
        record = await jobs.inspect.get_job(record_id)
        assert record is not None
        assert record.recoveries == (record_id in in_flight)
        assert (record.state, record.attempts_made) == ("completed", 1)


async def test_two_workers_and_a_producer_share_a_file(folder: Folder, jobs: WorkerJobs) -> None:
    """Each job runs once."""
    await jobs.slow.enqueue_many(range(1000, 1020))
    async with worker(folder, concurrency=10) as one, worker(folder, concurrency=10) as other:
        await until(lambda: len(folder.runs()) == 20)
        assert {process for _, _, process in folder.runs()} == {one.pid, other.pid}
        folder.gate.touch()
        async with program(folder, "tests.running.workers_app", "500") as producer:
            assert await soon(producer.wait()) == 0
        await until(lambda: all_finished(jobs))
        for process in (one, other):
            process.terminate()
        assert [await soon(process.wait()) for process in (one, other)] == [0, 0]
    assert sorted(number for number, _, _ in folder.runs()) == [*range(500), *range(1000, 1020)]
    assert (await jobs.inspect.get_queue_counts()).completed == 520


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stopping_worker_returns_a_job_that_exceeds_the_drain(
    folder: Folder, jobs: WorkerJobs, number: signal.Signals
) -> None:
    receipt = await jobs.slow.enqueue(1)
    async with worker(folder, concurrency=10, drain="50ms") as process:
        await until(lambda: len(folder.runs()) == 1)
        process.send_signal(number)
        assert await soon(process.wait()) == 0
    record = await jobs.inspect.get_job(receipt.id)
    assert record is not None
    assert (record.state, record.attempts_made, record.recoveries) == ("queued", 0, 0)


async def test_a_stopping_worker_lets_its_jobs_end(folder: Folder, jobs: WorkerJobs) -> None:
    receipt = await jobs.slow.enqueue(1)
    async with worker(folder, concurrency=10, drain="20s") as process:
        await until(lambda: len(folder.runs()) == 1)
        process.terminate()
        folder.gate.touch()
        assert await soon(process.wait()) == 0
    record = await jobs.inspect.get_job(receipt.id)
    assert record is not None
    assert record.state == "completed"


async def test_a_job_that_ends_its_process_fails_and_no_other_does(folder: Folder, jobs: WorkerJobs) -> None:
    """The test restarts the workers, as a supervisor would."""
    innocents = [receipt.id for receipt in await jobs.quick.enqueue_many(range(10))]
    poison = (await jobs.quick.enqueue(POISON)).id
    innocents += [receipt.id for receipt in await jobs.quick.enqueue_many(range(10, 20))]
    deaths = 0
    while True:
        async with worker(folder, concurrency=50) as process:
            dead = asyncio.create_task(process.wait())
            finished = asyncio.create_task(until(lambda: all_finished(jobs)))
            await soon(asyncio.wait((dead, finished), return_when=asyncio.FIRST_COMPLETED))
            finished.cancel()
            if not dead.done():
                process.terminate()
                assert await soon(dead) == 0
                break
            assert dead.result() == 13
            deaths += 1
            assert deaths <= 4
    assert deaths == 4
    record = await jobs.inspect.get_job(poison)
    assert record is not None
    assert record.last_error is not None
    assert (record.state, record.last_error.type) == ("failed", "WorkerLost")
    counts = await jobs.inspect.get_queue_counts()
    assert (counts.completed, counts.failed) == (20, 1)
    assert sum(number == POISON for number, _, _ in folder.runs()) == 4
    assert {record_id for _, record_id, _ in folder.runs()} == {poison, *innocents}


async def test_a_process_ends_although_a_handler_and_a_hook_hang_in_threads(folder: Folder) -> None:
    """The job was returned to the queue. A process that never ends would hold up the next deployment."""
    async with program(folder, "tests.running.workers_app", "hang") as process:
        assert await soon(process.wait()) == 0
