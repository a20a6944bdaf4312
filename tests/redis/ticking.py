"""The program of processes with schedules: `python -m tests.redis.ticking run|upsert URL PREFIX [CRON...]`."""

from __future__ import annotations

import asyncio
import sys

from flowli_core import Jobs, Runner, job
from flowli_core.drivers.redis import RedisDriver


@job(name="second")
async def second() -> None:
    """Do nothing, each second."""


@job(name="minute")
async def minute() -> None:
    """Do nothing, each minute."""


class Ticking(Jobs[None]):
    """Two schedules that are declared in code."""

    second = second
    minute = minute
    schedules = (
        second.scheduled("second", every="1s", missed="all"),
        minute.scheduled("minute", cron="* * * * *", timezone="Europe/Paris", missed="all"),
    )


def say(*words: object) -> None:
    """Print a line at once."""
    print(*words, flush=True)  # noqa: T201 - how the process reports


async def run(url: str, prefix: str) -> None:
    """Run jobs until the process is killed."""
    async with Ticking(context=None, driver=RedisDriver.from_url(url, prefix=prefix)) as jobs:
        say("ready")
        await Runner(jobs, concurrency=5, lease="2s").run()


async def upsert(url: str, prefix: str, *crons: str) -> None:
    """For each line of stdin store the schedule with the next expression, as a deploy does."""
    async with Ticking(context=None, driver=RedisDriver.from_url(url, prefix=prefix)) as jobs:
        await jobs.inspect.get_schedules()
        say("ready")
        for cron in crons:
            sys.stdin.readline()
            receipt = await jobs.minute.schedule("deployed", cron=cron)
            say(receipt.disposition)


if __name__ == "__main__":
    asyncio.run({"run": run, "upsert": upsert}[sys.argv[1]](*sys.argv[2:]))
