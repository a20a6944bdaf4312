"""Where a fault happens: a store, the processes that work on it, and a registry to enqueue and to look."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.app import FaultJobs, make_jobs
from tests.redis.server import connect, findings
from tests.running.workers_app import Folder
from tests.support.running import soon, until

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncGenerator, Iterable

    from flowli_core import JobRecord, QueueCounts

ROOT = Path(__file__).parents[2]


class Scene:
    """A folder, a store, and a registry on it."""

    def __init__(self, path: Path, url: str, prefix: str) -> None:
        self.folder = Folder(path)
        self.url = url
        self.prefix = prefix
        self.jobs: FaultJobs = make_jobs(self.folder, url, prefix)

    async def spawn(self, *options: str, url: str = "", **environ: str) -> Process:
        """Start `flowli worker`; who asks for it ends it."""
        here = {
            "FLOWLI_TEST_FOLDER": str(self.folder.path),
            "FLOWLI_TEST_URL": url or self.url,
            "FLOWLI_TEST_PREFIX": self.prefix,
        }
        command = ("-W", "error", "-m", "flowli_core.cli", "worker", "tests.faults.app:jobs", *options)
        with (self.folder.path / "stderr").open("ab") as stderr:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, *command), env=os.environ | here | environ, cwd=ROOT, stderr=stderr
            )

    @asynccontextmanager
    async def worker(
        self, *, concurrency: int = 10, lease: str = "1s", drain: str = "10s", url: str = "", **environ: str
    ) -> AsyncGenerator[Process]:
        """Run `flowli worker`; at the end it is killed, where it has not ended."""
        options = ("--concurrency", str(concurrency), "--lease", lease, "--drain", drain)
        process = await self.spawn(*options, url=url, **environ)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                await process.wait()

    def starts(self, record_id: str) -> int:
        """How often a record was started."""
        return sum(one == record_id for _, one, _ in self.folder.runs())

    async def started(self, count: int) -> None:
        """Wait until there were so many starts."""
        await until(lambda: len(self.folder.runs()) >= count)

    async def all_overdue(self) -> bool:
        """Whether all leases have ended: told from the store, since nobody is there to renew them."""
        admin = connect(self.url)
        seconds, micros = admin.time()
        later = admin.zcount(f"{{{self.prefix}}}:1:lease", seconds * 1000 + micros // 1000, "+inf")
        admin.close()
        return bool(later == 0)

    async def job(self, record_id: str) -> JobRecord:
        """Answer a record that must be there."""
        found = await self.jobs.inspect.get_job(record_id)
        assert found is not None, f"{record_id} is gone"
        return found

    async def until_finished(self) -> QueueCounts:
        """Wait until nothing waits or runs; answer the counts."""

        async def is_finished() -> bool:
            counts = await self.jobs.inspect.get_queue_counts()
            return counts.queued + counts.scheduled + counts.active == 0

        await until(is_finished)
        return await self.jobs.inspect.get_queue_counts()

    async def is_sound(self) -> None:
        """Fail where the store is not as it must be."""
        assert await findings(self.url, self.prefix) == ()

    async def all_completed(self, record_ids: Iterable[str]) -> None:
        """Fail where one of the records has not completed."""
        states = {record_id: (await self.job(record_id)).state for record_id in record_ids}
        assert {record_id: state for record_id, state in states.items() if state != "completed"} == {}


@asynccontextmanager
async def scene(path: Path, url: str, prefix: str) -> AsyncGenerator[Scene]:
    """Open a scene; at the end the store must be sound."""
    made = Scene(path, url, prefix)
    async with made.jobs:
        yield made
    await made.is_sound()


async def stopped(process: Process, number: signal.Signals = signal.SIGTERM) -> int:
    """Tell a process to stop, and answer how it ended."""
    process.send_signal(number)
    return await soon(process.wait())
