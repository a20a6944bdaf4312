"""The program of worker processes: `python -m tests.redis.programs hold|finish URL PREFIX`. It writes to stdout."""

from __future__ import annotations

import asyncio
import sys

from flowli_core import Runner, current_job
from flowli_core.drivers.redis import RedisDriver
from tests.support.running import Deeds, Duties

LEASE = "1s"


def say(*words: object) -> None:
    """Print a line at once."""
    print(*words, flush=True)  # noqa: T201 - how the process reports


async def hold(_: int) -> object:
    """Print the id of the job, and never end."""
    say(current_job().id)
    return await asyncio.Event().wait()


async def finish(_: int) -> object:
    """Print the id of the job, and end."""
    say(current_job().id)
    return None


PROGRAMS = {"hold": hold, "finish": finish}


async def main(name: str, url: str, prefix: str) -> None:
    """Run jobs until the process is killed."""
    driver = RedisDriver.from_url(url, prefix=prefix)
    async with Duties(context=Deeds(act=PROGRAMS[name]), driver=driver) as jobs:
        say("ready")
        await Runner(jobs, concurrency=50, lease=LEASE).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
