"""A real server is stopped or killed while jobs run; the next one finishes them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx2
import pytest

from flowli_core import JobRecord, Jobs
from flowli_core.drivers.sqlite import SqliteDriver
from tests.adapters.apps import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal that stops a process")

JOBS = 6
AT_ONCE = 4


class Server:
    """slow_service under uvicorn. The test waits for lines that it prints."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.seen: list[str] = []
        self.address = self.lines(r"Uvicorn running on (http://\S+)", count=1)[0]

    def lines(self, pattern: str, *, count: int) -> list[str]:
        """Read until `count` lines since the start have matched, and return the matches.

        A worker may run jobs before the server prints its address, so the lines that were read for that count too.
        """
        assert self.process.stdout is not None
        while len(found := re.findall(pattern, "".join(self.seen), re.MULTILINE)) < count:
            line = self.process.stdout.readline()
            assert line, f"the server ended, after printing:\n{''.join(self.seen)}"
            self.seen.append(line)
        return found

    def end(self, how: signal.Signals) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(how)
        self.process.communicate()
        return self.process.returncode


@contextmanager
def serving(folder: Path) -> Generator[Server]:
    command = [sys.executable, "-m", "uvicorn", "tests.adapters.slow_service:app", "--port", "0"]
    environment = {**os.environ, "SLOW_SERVICE_FOLDER": str(folder)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        watchdog = threading.Timer(PATIENCE, process.kill)
        watchdog.start()
        try:
            yield Server(process)
        finally:
            watchdog.cancel()
            process.kill()


async def records(folder: Path) -> list[JobRecord]:
    async with Jobs(context=None, driver=SqliteDriver(folder / "jobs.sqlite3")) as jobs:
        found = [await jobs.inspect.get_job(f"slow-{number}") for number in range(JOBS)]
    return [record for record in found if record is not None]


def enqueue_all(server: Server) -> None:
    with httpx2.Client(base_url=server.address) as client:
        for number in range(JOBS):
            assert client.post(f"/slow/{number}").json() == f"slow-{number}"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_a_server_that_stops_returns_its_jobs_to_the_queue(tmp_path: Path, how: signal.Signals) -> None:
    with serving(tmp_path) as server:
        enqueue_all(server)
        server.lines(r"^started (\d)", count=AT_ONCE)
        assert server.end(how) in {0, -how}
    left = await records(tmp_path)
    assert [(job.state, job.attempts_made, job.recoveries) for job in left] == [("queued", 0, 0)] * JOBS

    (tmp_path / "go").touch()
    with serving(tmp_path) as server:
        assert sorted(server.lines(r"^finished (\d)", count=JOBS)) == [str(number) for number in range(JOBS)]
        assert server.end(how) in {0, -how}
    done = await records(tmp_path)
    assert [(job.state, job.result) for job in done] == [("completed", number) for number in range(JOBS)]
    assert [(job.attempts_made, job.failure_count, job.recoveries) for job in done] == [(1, 0, 0)] * JOBS


async def test_the_jobs_of_a_killed_server_are_recovered_by_the_next_one(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        enqueue_all(server)
        held = {f"slow-{number}" for number in server.lines(r"^started (\d)", count=AT_ONCE)}
        server.end(signal.SIGKILL)
    left = await records(tmp_path)
    assert {job.id for job in left if job.state == "active"} == held

    (tmp_path / "go").touch()
    with serving(tmp_path) as server:
        assert sorted(server.lines(r"^finished (\d)", count=JOBS)) == [str(number) for number in range(JOBS)]
        server.end(signal.SIGTERM)
    done = await records(tmp_path)
    assert [(job.state, job.result) for job in done] == [("completed", number) for number in range(JOBS)]
    assert {job.id: (job.attempts_made, job.recoveries) for job in done} == {
        job.id: (1, int(job.id in held)) for job in done
    }
