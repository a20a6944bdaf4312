"""The application. Its parts are passed in, so that a test can pass others."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flowli_starlette import Healthz, jobs_exception_handlers, jobs_lifespan

from ..domain.service import Parts
from ..domain.store import RecordStore
from .routes import ROUTES


async def refuse(_: Request, error: Any) -> Response:
    """Respond with 422 and the errors that pydantic found in the body."""
    return Response(error.json(include_input=False, include_url=False), 422, media_type="application/json")


def create_app(parts: Parts) -> Starlette:
    """Make the application. Without a runner it only enqueues, and a worker or a test runs the jobs."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[dict[str, RecordStore]]:
        # jobs_lifespan enters this first and leaves it last, so jobs can use the store until the end.
        async with parts:
            yield {"store": parts.store}

    app = Starlette(
        routes=[*ROUTES, Route("/health", Healthz(parts.jobs))],
        lifespan=jobs_lifespan(parts.jobs, parts.runner, lifespan),
        exception_handlers={**jobs_exception_handlers(), ValidationError: refuse},
    )
    if parts.dashboard is not None:
        app.mount("/dashboard", parts.dashboard)
    return app
