"""The jobs of the fault tests of flow control. Their input is the name of their lane, a space, and a number.

They note when they begin and end, for the oracle in tests/faults/leases.py.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator
from contextlib import contextmanager

from flowli_core import Limit, current_job, job
from tests.faults.run_log import RunLog
from tests.running.workers_app import Folder

TAKES = 0.1
"""Seconds that a job of a lane takes."""


def lane_of(input: str) -> str:
    """Return the lane that an input names."""
    return input.split(" ", maxsplit=1)[0]


@contextmanager
def _noted(input: str, folder: Folder) -> Generator[None]:
    log, running = RunLog(folder.path), current_job()
    facts = {"pid": os.getpid(), "token": running.token}
    log.note("begin", lane=lane_of(input), record_id=running.id, **facts)
    yield
    log.note("end", lane=lane_of(input), record_id=running.id, **facts)


@job(str, limit=Limit(concurrency=2, by=lane_of))
async def in_pairs(input: str, ctx: Folder) -> None:
    with _noted(input, ctx):
        await asyncio.sleep(TAKES)


@job(str, limit=Limit(concurrency=3, by=lane_of))
async def in_threes(input: str, ctx: Folder) -> None:
    with _noted(input, ctx):
        await asyncio.sleep(TAKES)


@job(str, limit=Limit(rate="100/s"))
async def rated(input: str, ctx: Folder) -> None:
    with _noted(input, ctx):
        await asyncio.sleep(0)


@job(str)
async def reindex(input: str, ctx: Folder) -> str:
    """Take 5 ms. The lane is the key under which it was enqueued."""
    with _noted(input, ctx):
        await asyncio.sleep(0.005)
    return input
