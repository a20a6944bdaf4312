"""A service whose jobs take until a file named "go" appears. Run by test_uvicorn.py, in a process of its own."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI

from flowli_core import Jobs, Runner, job
from flowli_core.drivers.sqlite import SqliteDriver
from flowli_fastapi import get_jobs, jobs_lifespan

FOLDER = Path(os.environ["SLOW_SERVICE_FOLDER"])


@job(int)
async def slow(input: int) -> int:
    """Report to the test, and run until the file "go" appears."""
    print(f"started {input}", flush=True)  # noqa: T201 - the test reads it
    while not (FOLDER / "go").exists():  # noqa: ASYNC110 - the file comes from another process
        await asyncio.sleep(0.01)
    print(f"finished {input}", flush=True)  # noqa: T201 - the test reads it
    return input


class SlowJobs(Jobs[None]):
    """The registry."""

    slow = slow


jobs = SlowJobs(context=None, driver=SqliteDriver(FOLDER / "jobs.sqlite3"))
app = FastAPI(lifespan=jobs_lifespan(jobs, runner=Runner(jobs, concurrency=4, lease="1s"), drain="100ms"))


@app.post("/slow/{number}")
async def enqueue(number: int, jobs: Annotated[SlowJobs, Depends(get_jobs)]) -> str:
    """Enqueue a job with a known id."""
    return (await jobs.slow.options(id=f"slow-{number}").enqueue(number)).id
