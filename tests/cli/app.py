"""What the worker processes of these tests run. They meet in the folder that FLOWLI_TEST_FOLDER names."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from pathlib import Path

from flowli_core import Jobs, job
from flowli_core.drivers.sqlite import SqliteDriver

logger = logging.getLogger("handlers")


@job(int)
async def count(input: int, ctx: Path) -> int:
    """Append a line to the log, in one write."""
    log = os.open(ctx / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, f"{input} {os.getpid()}\n".encode())
    os.close(log)
    await asyncio.sleep(0.01)
    return input


@job(int)
async def tell(input: int) -> None:
    """Write a log line, and so that a terminal would obey it."""
    logger.info("telling \x1b[31m%d\nforged", input)


@job(int)
def tell_in_thread(input: int) -> None:
    """The same in a thread."""
    logger.info("telling %d in %s", input, threading.current_thread().name)


@job()
async def hold(ctx: Path) -> str:
    """Run until the gate is there."""
    logger.info("holding")
    while not (ctx / "gate").exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.02)
    return "let go"


@job()
async def block() -> None:
    """Never let the event loop turn again."""
    logger.info("blocking")
    while True:
        pass


class ToldJobs(Jobs[Path]):
    """All of them."""

    count = count
    tell = tell
    tell_in_thread = tell_in_thread
    hold = hold
    block = block


def make_jobs(folder: Path) -> ToldJobs:
    """Make the registry over the store of a folder."""
    return ToldJobs(context=folder, driver=SqliteDriver(folder / "jobs.sqlite3"))


def make() -> ToldJobs:
    """Make it as a worker does."""
    return make_jobs(Path(os.environ["FLOWLI_TEST_FOLDER"]))


if "FLOWLI_TEST_FOLDER" in os.environ:
    jobs = make()
