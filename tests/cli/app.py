"""The jobs of the worker processes in these tests. FLOWLI_TEST_FOLDER names the folder that the processes share."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import threading
import time
import warnings
from logging.config import dictConfig
from pathlib import Path

from flowli_core import Jobs, current_job, job
from flowli_core.drivers.sqlite import SqliteDriver

logger = logging.getLogger("handlers")


@job(int)
async def count(input: int, ctx: Path) -> int:
    """Append a line to the file `log` in one write."""
    current_job().progress(min(input, 10), 10, "counted")
    current_job().log("one\ntwo")
    log = os.open(ctx / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, f"{input} {os.getpid()}\n".encode())
    os.close(log)
    await asyncio.sleep(0.01)
    return input


@job()
async def translate() -> None:
    """Report progress with a note that is wide on a terminal."""
    current_job().progress(3, 3, "第三ページを訳しました。" * 5)


@job(int)
async def log_control_characters(input: int) -> None:
    """Log a line that would change the colour of a terminal and begin another line."""
    logger.info("logging \x1b[31m%d\nforged", input)


@job(int)
def log_in_thread(input: int) -> None:
    """Log a line from a thread."""
    logger.info("logging %d in %s", input, threading.current_thread().name)


@job()
async def hold(ctx: Path) -> str:
    """Run until the file `gate` exists."""
    logger.info("holding")
    while not (ctx / "gate").exists():  # noqa: ASYNC110 - another process creates it
        await asyncio.sleep(0.02)
    return "released"


@job()
def read_stdin() -> str:
    """Start a child process that reads its stdin to the end."""
    child = subprocess.run(["cat"], stdout=subprocess.PIPE, timeout=10, check=True)  # noqa: S607
    return f"read {len(child.stdout)} bytes"


@job()
def end_child() -> int:
    """Send SIGTERM to a forked child process, and return the signal that ended it."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this process has several threads
        child = os.fork()
    if not child:
        os.write(writing, b"up")
        time.sleep(10)
        os._exit(0)
    os.read(reading, 2)
    os.kill(child, signal.SIGTERM)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


@job()
async def take_over_log() -> None:
    """Configure the log as Alembic and many applications do, which disables all loggers that are not named."""
    handlers = {"stderr": {"class": "logging.StreamHandler"}}
    dictConfig({"version": 1, "handlers": handlers, "root": {"handlers": ["stderr"], "level": "INFO"}})
    raise ValueError


@job()
async def fail() -> None:
    """Raise an error."""
    raise ValueError("not sent \N{CROSS MARK}")


@job()
async def block() -> None:
    """Block the event loop for ever."""
    logger.info("blocking")
    while True:
        pass


class WorkerJobs(Jobs[Path]):
    """The registry of all these jobs."""

    count = count
    log_control_characters = log_control_characters
    log_in_thread = log_in_thread
    hold = hold
    read_stdin = read_stdin
    end_child = end_child
    take_over_log = take_over_log
    fail = fail
    block = block
    translate = translate
    queues = ("mail", "unserved")


def make_jobs(folder: Path) -> WorkerJobs:
    """Make the registry on the store in a folder."""
    return WorkerJobs(context=folder, driver=SqliteDriver(folder / "jobs.sqlite3"))


def make() -> WorkerJobs:
    """Make the registry as a worker does."""
    return make_jobs(Path(os.environ["FLOWLI_TEST_FOLDER"]))


if "FLOWLI_TEST_FOLDER" in os.environ:
    jobs = make()
