"""The scene of a fault test: a store, worker processes, and a registry to enqueue and inspect jobs."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from flowli_core import JobRecord, QueueCounts
from tests.cli.operated import Output
from tests.faults.app import SQLITE, FaultJobs, make_jobs
from tests.redis.server import connect, findings
from tests.running.workers_app import Folder
from tests.support.running import soon, until

ROOT = Path(__file__).parents[2]


@dataclass
class Deaths:
    """The number of workers that died. It is known when all of them have ended."""

    count: int = 0


class Scene:
    """A folder, a store, and a registry on it."""

    def __init__(self, path: Path, url: str, prefix: str) -> None:
        self.folder = Folder(path)
        self.url = url
        self.prefix = prefix
        self.jobs: FaultJobs = make_jobs(self.folder, url, prefix)

    async def spawn(self, *options: str, url: str = "", **environ: str) -> Process:
        """Start `flowli worker`. The caller must end it."""
        environ = self.environ(url) | environ
        command = ("-W", "error", "-m", "flowli_core.cli", "worker", "tests.faults.app:jobs", *options)
        with self.stderr() as stderr:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, *command), env=environ, cwd=ROOT, stderr=stderr
            )

    def stderr(self) -> BinaryIO:
        """Open the file to which the processes write their log."""
        return (self.folder.path / "stderr").open("ab")

    def environ(self, url: str = "") -> dict[str, str]:
        """Return the environment of a process that uses the same folder and store."""
        return {
            **os.environ,
            "FLOWLI_TEST_FOLDER": str(self.folder.path),
            "FLOWLI_TEST_URL": url or self.url,
            "FLOWLI_TEST_PREFIX": self.prefix,
        }

    async def command(self, *words: str) -> Output:
        """Run another command of `flowli` to its end."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "flowli_core.cli", *words, "--app", "tests.faults.app:jobs"),
            env=self.environ() | {"NO_COLOR": "1"},
            cwd=ROOT,
            stdout=PIPE,
            stderr=PIPE,
        )
        out, err = await soon(process.communicate())
        return Output(process.returncode or 0, out.decode(), err.decode())

    @asynccontextmanager
    async def replaced_workers(
        self, workers: int, *, concurrency: int, lease: str, harm_every: float = 0
    ) -> AsyncGenerator[Deaths]:
        """Run so many workers in processes, each of which is replaced at once when it dies.

        Every `harm_every` seconds one of them is killed, or stopped for longer than its lease.
        """
        deaths = Deaths()
        with self.stderr() as stderr:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.faults.parent", str(workers), str(concurrency), lease, str(harm_every)),
                env=self.environ(),
                cwd=ROOT,
                stdin=PIPE,
                stdout=PIPE,
                stderr=stderr,
            )
        try:
            yield deaths
        finally:
            deaths.count = int((await soon(process.communicate(b"")))[0])  # at the end of stdin it ends

    @asynccontextmanager
    async def worker(
        self,
        *,
        concurrency: int = 10,
        lease: str = "1s",
        drain: str = "10s",
        queues: str = "",
        url: str = "",
        **environ: str,
    ) -> AsyncGenerator[Process]:
        """Run `flowli worker`, and kill it at the end if it still runs."""
        options = (
            *(("--queues", queues) if queues else ()),
            "--concurrency",
            str(concurrency),
            "--lease",
            lease,
            "--drain",
            drain,
        )
        process = await self.spawn(*options, url=url, **environ)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                await process.wait()

    def starts(self, record_id: str) -> int:
        """Count the starts of a record."""
        return sum(one == record_id for _, one, _ in self.folder.runs())

    async def started(self, count: int) -> None:
        """Wait until there were `count` starts."""
        await until(lambda: len(self.folder.runs()) >= count)

    async def all_overdue(self) -> bool:
        """Return True if all leases have expired, by the server's clock."""
        admin = connect(self.url)
        seconds, micros = admin.time()
        later = admin.zcount(f"{{{self.prefix}}}:1:lease", seconds * 1000 + micros // 1000, "+inf")
        admin.close()
        return bool(later == 0)

    async def job(self, record_id: str) -> JobRecord:
        """Return a record. Fails if it does not exist."""
        found = await self.jobs.inspect.get_job(record_id)
        assert found is not None, f"{record_id} is gone"
        return found

    async def until_finished(self) -> QueueCounts:
        """Wait until all jobs have finished, and return the counts."""

        async def is_finished() -> bool:
            counts = await self.jobs.inspect.get_queue_counts()
            return counts.queued + counts.scheduled + counts.active == 0

        await until(is_finished)
        return await self.jobs.inspect.get_queue_counts()

    async def is_sound(self) -> None:
        """Fail if the audit of the store finds anything."""
        if self.url == SQLITE:
            with closing(sqlite3.connect(self.folder.store)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        else:
            assert await findings(self.url, self.prefix) == ()

    async def all_completed(self, record_ids: Iterable[str]) -> None:
        """Fail if one of the records is not completed."""
        states = {record_id: (await self.job(record_id)).state for record_id in record_ids}
        assert {record_id: state for record_id, state in states.items() if state != "completed"} == {}


@asynccontextmanager
async def scene(path: Path, url: str, prefix: str) -> AsyncGenerator[Scene]:
    """Open a scene, and audit its store at the end."""
    made = Scene(path, url, prefix)
    async with made.jobs:
        yield made
    await made.is_sound()


async def stopped(process: Process, number: signal.Signals = signal.SIGTERM) -> int:
    """Send a signal to a process, wait until it ends, and return its exit code."""
    process.send_signal(number)
    return await soon(process.wait())
