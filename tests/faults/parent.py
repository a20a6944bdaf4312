"""A parent of workers that replaces each one at once when it dies:
`python -m tests.faults.parent WORKERS CONCURRENCY LEASE`.

It has imported the jobs and forks the workers, so a new one starts within milliseconds. At the end of stdin it kills
them, and prints how many had died before.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys

from flowli_core import Runner
from tests.faults.app import jobs

_CHECK_EVERY = 0.01


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


def main(workers: int, concurrency: int, lease: str) -> None:
    """Keep so many workers running until stdin ends."""
    alive: set[int] = set()
    deaths = 0
    while not select.select([sys.stdin], [], [], _CHECK_EVERY)[0]:
        alive |= {start(concurrency, lease) for _ in range(workers - len(alive))}
        while dead := os.waitpid(-1, os.WNOHANG)[0]:
            alive.remove(dead)
            deaths += 1
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    print(deaths)  # noqa: T201 - the answer of this program


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
