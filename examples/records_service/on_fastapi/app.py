"""The application. Its parts are passed in, so that a test can pass others."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.routing import Route

from flowli_fastapi import Healthz, jobs_exception_handlers, jobs_lifespan

from ..domain.service import Parts
from ..domain.store import RecordStore
from .routes import router


def create_app(parts: Parts) -> FastAPI:
    """Make the application. Without a runner it only enqueues, and a worker or a test runs the jobs."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[dict[str, RecordStore]]:
        # jobs_lifespan enters this first and leaves it last, so jobs can use the store until the end.
        async with parts:
            yield {"store": parts.store}

    app = FastAPI(
        title="Records",
        routes=[Route("/health", Healthz(parts.jobs))],
        lifespan=jobs_lifespan(parts.jobs, parts.runner, lifespan),
        exception_handlers=jobs_exception_handlers(),
    )
    app.include_router(router)
    if parts.dashboard is not None:
        app.mount("/dashboard", parts.dashboard)
    return app
