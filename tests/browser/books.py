"""A long job that the test drives page by page, and the store that the servers and the worker share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from examples.progress_bar.app import Book
from flowli_core import Jobs, current_job, job
from flowli_core.drivers.redis import RedisDriver
from flowli_core.drivers.sqlite import SqliteDriver

if TYPE_CHECKING:
    from pathlib import Path

    from flowli_core.driver import Driver


class Press:
    """The context of the jobs. It prints a page each time that the test allows it."""

    def __init__(self) -> None:
        self.allowed = asyncio.Semaphore(0)

    def allow(self, pages: int) -> None:
        """Allow this many more pages."""
        for _ in range(pages):
            self.allowed.release()


@job(Book)
async def print_book(input: Book, ctx: Press) -> str:
    """Print a book page by page."""
    for number in range(1, input.pages + 1):
        await ctx.allowed.acquire()
        current_job().progress(number, input.pages, f"page {number} of {input.pages}")
    return f"{input.pages} pages are printed"


class BookJobs(Jobs[Press]):
    """The registry."""

    print_book = print_book


def make_driver(folder: Path, redis: str | None) -> Driver:
    """Make a driver on the store that the servers and the worker share."""
    return SqliteDriver(folder / "jobs.sqlite3") if redis is None else RedisDriver.from_url(redis, prefix="books")
