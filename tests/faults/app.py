"""What the worker processes of the fault tests run: `flowli worker tests.faults.app:jobs`.

The environment says where the store is, where the log of all runs is kept, and where this process is to die.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

from flowli_core import Defaults, Jobs, job
from flowli_core.driver import Keep
from flowli_core.drivers.redis import RedisDriver
from tests.running.workers_app import Folder
from tests.support.faulty import FaultyDriver

if TYPE_CHECKING:
    from flowli_core.driver import Driver, Step, StepAnswer

DIED = 13


class Failpoints(FaultyDriver):
    """A driver whose process dies at a place named by FLOWLI_FAIL: once, so that whoever comes next goes on."""

    def __init__(self, inner: Driver, place: str, once: Path) -> None:
        super().__init__(inner)
        self._place = place
        self._once = once

    async def step(self, step: Step) -> StepAnswer:
        if self._place == "before_ack" and step.acks:
            self._die()
        answer = await super().step(step)
        if self._place == "after_reserve" and answer.reserved:
            self._die()
        if self._place == "after_ack" and step.acks:
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
    """Run until the gate is there."""
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
    if input == "exit":
        os._exit(DIED)
    if input == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    ctypes.string_at(0)


class FaultJobs(Jobs[Folder]):
    quick = quick
    slow = slow
    block = block
    poison = poison


def make_jobs(folder: Folder, url: str, prefix: str, *, fail: str = "") -> FaultJobs:
    """Make a registry on a store."""
    driver: Driver = RedisDriver.from_url(url, prefix=prefix)
    if fail:
        driver = cast("Driver", Failpoints(driver, fail, folder.path / "died"))
    # Unless told otherwise, all that has finished stays, so that a test can count it.
    keep = Keep(completed=int(os.environ.get("FLOWLI_KEEP", "1000000")))
    return FaultJobs(context=folder, driver=driver, defaults=Defaults(keep=keep))


jobs = make_jobs(
    Folder(Path(os.environ.get("FLOWLI_TEST_FOLDER", "nowhere"))),
    os.environ.get("FLOWLI_TEST_URL", "redis://localhost"),
    os.environ.get("FLOWLI_TEST_PREFIX", "flowli"),
    fail=os.environ.get("FLOWLI_FAIL", ""),
)
