"""The application: the parts come from outside, so that a test can bring others."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from flowli_core import Health, Runner, StoreUnavailable, ValidationError
from flowli_fastapi import jobs_lifespan

from .routes import router

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from .jobs import AppJobs
    from .store import RecordStore


def create_app(jobs: AppJobs, *, store: RecordStore, runner: Runner | None = None) -> FastAPI:
    """Make the application. Without a runner it enqueues, and somebody else runs the jobs: a worker, or a test."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[dict[str, RecordStore]]:
        # It goes inside of jobs_lifespan, which enters it first and leaves it last: jobs use the store to the end.
        with store:
            yield {"store": store}

    app = FastAPI(title="Records", lifespan=jobs_lifespan(jobs, runner=runner, inner=lifespan))
    app.include_router(router)

    @app.get("/health")
    async def health(response: Response) -> Health | None:
        """Say how the runner is doing; 503 until it has reached its store, and while it does not."""
        report = runner.health() if runner else None
        if report and not report.is_ready:
            response.status_code = 503
        return report

    @app.exception_handler(ValidationError)
    async def refuse(_: Request, error: ValidationError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=422)

    @app.exception_handler(StoreUnavailable)
    async def ask_for_patience(_: Request, error: StoreUnavailable) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=503, headers={"Retry-After": "1"})

    return app
