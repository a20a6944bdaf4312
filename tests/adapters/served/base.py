"""What the services share: jobs on the store that the environment names, and how their runner is made to fall."""

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
"""While it is there, no runner lives that `crash` was called on."""

SLOW_EVERY = 50
DRAIN = "500ms"


@job(int)
async def work(input: int) -> int:
    """Be done at once, but for every fiftieth, which is done when the test allows it."""
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
    """Have the steps of the runner answered in a way that no runner survives, until the test removes a file."""
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
