"""The service in FastAPI."""

import asyncio
from typing import Annotated

from fastapi import Depends, FastAPI
from starlette.routing import Route

from flowli_fastapi import Healthz, get_jobs, job_routes, jobs_exception_handlers, jobs_lifespan
from tests.adapters.served.base import DRAIN, WorkJobs, crash, jobs, runner, unopened

app = FastAPI(
    routes=[Route("/healthz", Healthz(jobs, errors=True))],
    lifespan=jobs_lifespan(jobs, runner, drain=DRAIN),
    exception_handlers=jobs_exception_handlers(),
)
app.include_router(job_routes(WorkJobs.work, "/jobs", allow_anonymous=True))


@app.post("/work/{number}")
async def enqueue(number: int, jobs: Annotated[WorkJobs, Depends(get_jobs)]) -> str:
    """Enqueue a job."""
    return (await jobs.work.options(id=f"job-{number}").enqueue(number)).id


@app.post("/anonymous/{number}")
async def enqueue_without_id(number: int, jobs: Annotated[WorkJobs, Depends(get_jobs)]) -> str:
    """Enqueue a job without an id: sent twice, it is stored twice."""
    return (await jobs.work.enqueue(number)).id


@app.post("/opened-elsewhere/{number}")
def enqueue_in_thread(number: int, jobs: Annotated[WorkJobs, Depends(get_jobs)]) -> str:
    """Enqueue a job in a thread, with a registry that the server's event loop has opened."""
    return asyncio.run(jobs.work.enqueue(number)).id


@app.post("/opened-here/{number}")
def enqueue_first(number: int) -> str:
    """Enqueue a job in a thread, with a registry that the first such call opens."""
    return asyncio.run(unopened.work.enqueue(number)).id


@app.get("/ping")
async def ping() -> str:
    """Respond without the store."""
    return "pong"


@app.post("/crash")
async def crash_the_runner(jobs: Annotated[WorkJobs, Depends(get_jobs)]) -> None:
    """Crash the runner."""
    crash(jobs)
