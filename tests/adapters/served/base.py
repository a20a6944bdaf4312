"""The part that the services share: jobs on the store that the environment names, and a way to crash their runner."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowli_core import Defaults, Jobs, Keep, Runner, job
from flowli_core.driver import StepAnswer
from flowli_core.drivers.redis import RedisDriver
from flowli_core.drivers.sqlite import SqliteDriver

if TYPE_CHECKING:
    from flowli_core.driver import AckAnswer, Driver, Step

FOLDER = Path(os.environ["SERVED_FOLDER"])
GO = FOLDER / "go"
BROKEN = FOLDER / "broken"
"""While this file exists, a runner on which `crash` was called keeps crashing."""

SLOW_EVERY = 50
DRAIN = "500ms"


@job(int)
async def work(input: int) -> int:
    """Finish at once, except every fiftieth job, which finishes when the test allows it."""
    while input % SLOW_EVERY == 0 and not GO.exists():  # noqa: ASYNC110 - the file comes from another process
        await asyncio.sleep(0.02)
    return input


class WorkJobs(Jobs[None]):
    """The registry."""

    work = work


def make_driver() -> Driver:
    """Make a driver on the store that the environment names."""
    url = os.environ.get("SERVED_REDIS")
    return SqliteDriver(FOLDER / "jobs.sqlite3") if url is None else RedisDriver.from_url(url, prefix="served")


def crash(jobs: Jobs[Any]) -> None:
    """Make the answers to the runner's steps crash it, until the test removes the file."""
    driver: Any = jobs._runtime.require_driver()  # pyright: ignore[reportPrivateUsage]
    step = driver.step

    async def broken(sent: Step) -> StepAnswer:
        if not BROKEN.exists():
            driver.step = step
            answer: StepAnswer = await step(sent)
            return answer
        acks: list[AckAnswer] = ["ok"] * (len(sent.acks) + 1)
        return StepAnswer(now=datetime.now(UTC), acks=tuple(acks))

    BROKEN.touch()
    driver.step = broken


jobs = WorkJobs(context=None, driver=make_driver(), defaults=Defaults(keep=Keep(completed=10_000)))
runner = Runner(jobs, concurrency=20, lease="1s")
unopened = WorkJobs(context=None, driver=make_driver())
"""A registry on the same store that is opened by its first call."""
