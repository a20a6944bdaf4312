"""The application: the parts come from outside, so that a test can bring others."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.routing import Route

from flowli_fastapi import Healthz, jobs_exception_handlers, jobs_lifespan

from .routes import router

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ..domain.service import Parts
    from ..domain.store import RecordStore


def create_app(parts: Parts) -> FastAPI:
    """Make the application. Without a runner it enqueues, and somebody else runs the jobs: a worker, or a test."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[dict[str, RecordStore]]:
        # It goes inside of jobs_lifespan, which enters it first and leaves it last: jobs use the store to the end.
        async with parts:
            yield {"store": parts.store}

    app = FastAPI(
        title="Records",
        routes=[Route("/health", Healthz(parts.jobs))],
        lifespan=jobs_lifespan(parts.jobs, parts.runner, lifespan),
        exception_handlers=jobs_exception_handlers(),
    )
    app.include_router(router)
    return app
