"""A parent of workers that replaces each one at once when it dies:
`python -m tests.faults.parent WORKERS CONCURRENCY LEASE HARM_EVERY`.

It has imported the jobs and forks the workers, so a new one starts within milliseconds. Every HARM_EVERY seconds,
unless that is 0, it kills a worker, or stops one for longer than its lease. At the end of stdin it kills all of them,
and prints how many had died before.
"""

from __future__ import annotations

import asyncio
import os
import random
import select
import signal
import sys
import time
from pathlib import Path

from flowli_core import Runner
from flowli_core.durations import duration
from tests.faults.app import jobs
from tests.faults.run_log import RunLog

_CHECK_EVERY = 0.01
_STOPPED_FOR = 1.5
"""The length of a stop, in leases."""


async def work(concurrency: int, lease: str) -> None:
    """Run jobs until the process is killed."""
    async with jobs:
        await Runner(jobs, concurrency=concurrency, lease=lease).run()


def start(concurrency: int, lease: str) -> int:
    """Start a worker, and return the id of its process."""
    pid = os.fork()
    if not pid:
        try:
            asyncio.run(work(concurrency, lease))
        finally:
            os._exit(1)
    return pid


class Harm:
    """Kills and stops workers, and notes it in the log."""

    def __init__(self, log: RunLog, *, every: float, lease: float) -> None:
        self._log = log
        self._every = every
        self._stop = _STOPPED_FOR * lease
        self._next = time.monotonic() + every
        self._stopped: dict[int, float] = {}

    def step(self, alive: set[int]) -> None:
        """Harm one of the workers if it is time to, and let those continue that were stopped for long enough."""
        now = time.monotonic()
        for pid in [pid for pid, until in self._stopped.items() if until <= now]:
            del self._stopped[pid]
            os.kill(pid, signal.SIGCONT)
        running = sorted(alive - set(self._stopped))
        if self._every and self._next <= now and len(running) > 1:
            # Not at equal times: a record that is recovered after its lease would run at such a moment again and again.
            self._next = now + self._every * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
            pid = random.choice(running)  # noqa: S311 - no secret
            number = random.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP])  # noqa: S311
            if number == signal.SIGSTOP:
                self._stopped[pid] = now + self._stop
            self._log.note("signal", pid=pid)  # before it is sent
            os.kill(pid, number)


def main(workers: int, concurrency: int, lease: str, harm_every: float) -> None:
    """Keep so many workers running until stdin ends."""
    alive: set[int] = set()
    deaths = 0
    seconds = duration(lease, argument="lease").total_seconds()
    harm = Harm(RunLog(Path(os.environ["FLOWLI_TEST_FOLDER"])), every=harm_every, lease=seconds)
    while not select.select([sys.stdin], [], [], _CHECK_EVERY)[0]:
        alive |= {start(concurrency, lease) for _ in range(workers - len(alive))}
        harm.step(alive)
        while dead := os.waitpid(-1, os.WNOHANG)[0]:
            alive.remove(dead)
            deaths += 1
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    print(deaths)  # noqa: T201 - the answer of this program


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
