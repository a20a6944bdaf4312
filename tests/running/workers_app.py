"""The jobs of the worker processes of test_workers_sqlite, and a program that enqueues them.

The processes share the folder FLOWLI_TEST_FOLDER: it holds the store, a log with one line for each run, and the gate, a
file that lets the waiting jobs end once it exists.
"""

import asyncio
import os
import sys
import threading
from datetime import timedelta
from pathlib import Path

from flowli_core import Hooks, JobEvent, Jobs, Runner, current_job, job
from flowli_core._running import hooks
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.drivers.sqlite import SqliteDriver

POISON = -1


class Folder:
    """The folder that the processes share."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = path / "jobs.sqlite3"
        self.gate = path / "go"
        self._log = path / "log"

    def note(self, number: int) -> None:
        """Append a line to the log, in one write, so that the lines of several processes do not mix."""
        log = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(log, f"{number} {current_job().id} {os.getpid()}\n".encode())
        finally:
            os.close(log)

    def runs(self) -> list[tuple[int, str, int]]:
        """Return the number, the record id and the process id of each run in the log."""
        if not self._log.exists():
            return []
        lines = [line.split() for line in self._log.read_text().splitlines()]
        return [(int(number), record_id, int(process)) for number, record_id, process in lines]


@job(int)
async def quick(input: int, ctx: Folder) -> int:
    """Run, or kill the worker."""
    ctx.note(input)
    if input == POISON:
        os._exit(13)
    await asyncio.sleep(0.005)
    return input


@job(int)
async def slow(input: int, ctx: Folder) -> int:
    """Run until the gate exists."""
    ctx.note(input)
    while not ctx.gate.exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.02)
    return input


class WorkerJobs(Jobs[Folder]):
    quick = quick
    slow = slow


def make_jobs(folder: Folder) -> WorkerJobs:
    """Make a registry on the store in a folder."""
    return WorkerJobs(context=folder, driver=SqliteDriver(folder.store))


jobs = make_jobs(Folder(Path(os.environ.get("FLOWLI_TEST_FOLDER", "nowhere"))))


async def enqueue(count: int) -> None:
    """Enqueue jobs, half of them one by one and half of them in batches."""
    async with jobs:
        for number in range(0, count, 10):
            await asyncio.gather(*[jobs.quick.enqueue(number + i) for i in range(5)])
            await jobs.quick.enqueue_many(range(number + 5, number + 10))


async def hang() -> None:
    """Stop a runner whose handler and whose hook hang in their threads, and return."""
    hooks.HOOK_TIMEOUT = timedelta(milliseconds=500)  # Long enough for the thread of the hook to start under load.
    never, begun = threading.Event(), [threading.Event(), threading.Event()]

    @job()
    def hang() -> None:
        begun[0].set()
        never.wait()

    def hook(_: JobEvent) -> None:
        begun[1].set()
        never.wait()

    class HangingJobs(Jobs[None]):
        hanging = hang

    async with HangingJobs(context=None, driver=MemoryDriver()) as hanging:
        await hanging.hanging.enqueue()
        runner = Runner(hanging, cancel_grace="10ms", hooks=Hooks(on_job_started=hook))
        async with runner:
            await asyncio.gather(*[asyncio.to_thread(one.wait) for one in begun])
            await runner.stop(drain="0s")


if __name__ == "__main__":
    asyncio.run(hang() if sys.argv[1] == "hang" else enqueue(int(sys.argv[1])))
