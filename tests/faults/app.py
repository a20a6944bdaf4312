"""The jobs that the worker processes of the fault tests run: `flowli worker tests.faults.app:jobs`.

Environment variables set the store, the folder of the log of all runs, and the point at which the process dies.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import time
from pathlib import Path
from typing import cast

from flowli_core import Defaults, Jobs, current_job, job
from flowli_core.driver import Driver, Step, StepAnswer
from flowli_core.drivers.redis import RedisDriver
from flowli_core.drivers.sqlite import SqliteDriver
from flowli_core.limits import Keep
from tests.faults import limited
from tests.running.workers_app import Folder
from tests.support.faulty import FaultyDriver

DIED = 13

SQLITE = "sqlite"
"""The address of the SQLite file in the folder."""


class Failpoints(FaultyDriver):
    """A driver whose process dies once at the point named by FLOWLI_FAIL. The next process does not die there."""

    def __init__(self, inner: Driver, point: str, once: Path) -> None:
        super().__init__(inner)
        self._point = point
        self._once = once

    async def step(self, step: Step) -> StepAnswer:
        if self._point == "before_ack" and step.acks:
            self._die()
        answer = await super().step(step)
        if self._point == "after_reserve" and answer.reserved:
            self._die()
        if self._point == "after_ack" and step.acks:
            self._die()
        return answer

    def _die(self) -> None:
        try:
            self._once.touch(exist_ok=False)
        except FileExistsError:
            return
        os._exit(DIED)


@job(int)
async def quick(input: int, ctx: Folder) -> int:
    """Take 1 to 20 ms."""
    ctx.note(input)
    await asyncio.sleep((1 + input % 20) / 1000)
    return input


@job(int)
async def slow(input: int, ctx: Folder) -> int:
    """Run until the gate file exists."""
    ctx.note(input)
    while not ctx.gate.exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.01)
    return input


@job(int)
async def block(input: int, ctx: Folder) -> None:
    """Block the event loop for so many milliseconds."""
    ctx.note(input)
    time.sleep(input / 1000)  # noqa: ASYNC251 - this is the fault


@job(str)
async def poison(input: str, ctx: Folder) -> None:
    """End the process."""
    ctx.note(0)
    if input == "137":
        os._exit(137)
    if input == "exit":
        os._exit(DIED)
    if input == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    ctypes.string_at(0)


@job(int)
async def rest(input: int, ctx: Folder) -> int:
    """Take so many milliseconds."""
    ctx.note(input)
    await asyncio.sleep(input / 1000)
    return input


@job(str)
async def carry(input: str, ctx: Folder) -> int:
    """Take 20 ms."""
    ctx.note(len(input))
    await asyncio.sleep(0.02)
    return len(input)


@job()
async def token(ctx: Folder) -> int:
    """Note the token of this run, and run until the gate file exists."""
    ctx.note(current_job().token)
    while not ctx.gate.exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.01)
    return current_job().token


class FaultJobs(Jobs[Folder]):
    quick = quick
    rest = rest
    carry = carry
    token = token
    slow = slow
    block = block
    poison = poison
    in_pairs = limited.in_pairs
    in_threes = limited.in_threes
    rated = limited.rated
    reindex = limited.reindex
    queues = ("elsewhere",)


def make_driver(folder: Folder, url: str, prefix: str) -> Driver:
    """Make a driver of a store."""
    return SqliteDriver(folder.store) if url == SQLITE else RedisDriver.from_url(url, prefix=prefix)


def make_jobs(folder: Folder, url: str, prefix: str, *, fail: str = "") -> FaultJobs:
    """Make a registry on a store."""
    driver = make_driver(folder, url, prefix)
    if fail:
        driver = cast("Driver", Failpoints(driver, fail, folder.path / "died"))
    # By default keep all finished jobs, so that a test can count them.
    keep = Keep(completed=int(os.environ.get("FLOWLI_KEEP", "1000000")))
    # A storm kills so many workers that a job may lose more than three by chance.
    max_recoveries = int(os.environ.get("FLOWLI_MAX_RECOVERIES", "3"))
    return FaultJobs(context=folder, driver=driver, defaults=Defaults(keep=keep, max_recoveries=max_recoveries))


jobs = make_jobs(
    Folder(Path(os.environ.get("FLOWLI_TEST_FOLDER", "nowhere"))),
    os.environ.get("FLOWLI_TEST_URL", "redis://localhost"),
    os.environ.get("FLOWLI_TEST_PREFIX", "flowli"),
    fail=os.environ.get("FLOWLI_FAIL", ""),
)
