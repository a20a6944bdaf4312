"""The service in Starlette."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from flowli_starlette import Healthz, get_jobs, job_routes, jobs_exception_handlers, jobs_lifespan
from tests.adapters.served.base import DRAIN, WorkJobs, crash, jobs, runner

if TYPE_CHECKING:
    from starlette.requests import Request


async def enqueue(request: Request) -> JSONResponse:
    """Enqueue a job."""
    number: int = request.path_params["number"]
    receipt = await get_jobs(request, WorkJobs).work.options(id=f"job-{number}").enqueue(number)
    return JSONResponse(receipt.id)


async def enqueue_without_id(request: Request) -> JSONResponse:
    """Enqueue a job without an id: sent twice, it is stored twice."""
    return JSONResponse((await get_jobs(request, WorkJobs).work.enqueue(request.path_params["number"])).id)


async def ping(_: Request) -> JSONResponse:
    """Respond without the store."""
    return JSONResponse("pong")


async def crash_the_runner(request: Request) -> JSONResponse:
    """Crash the runner."""
    crash(get_jobs(request))
    return JSONResponse(None)


app = Starlette(
    routes=[
        Route("/work/{number:int}", enqueue, methods=["POST"]),
        Route("/anonymous/{number:int}", enqueue_without_id, methods=["POST"]),
        Route("/ping", ping),
        Route("/crash", crash_the_runner, methods=["POST"]),
        Route("/healthz", Healthz(jobs, errors=True)),
        *job_routes(WorkJobs.work, "/jobs", allow_anonymous=True),
    ],
    lifespan=jobs_lifespan(jobs, runner, drain=DRAIN),
    exception_handlers=jobs_exception_handlers(),
)
