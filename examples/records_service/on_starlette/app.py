"""The application: the parts come from outside, so that a test can bring others."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from flowli_starlette import Healthz, jobs_exception_handlers, jobs_lifespan

from .routes import ROUTES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request

    from ..domain.service import Parts
    from ..domain.store import RecordStore


async def refuse(_: Request, error: Any) -> Response:
    """Say what is wrong with a body, in the words of pydantic's ValidationError."""
    return Response(error.json(include_input=False, include_url=False), 422, media_type="application/json")


def create_app(parts: Parts) -> Starlette:
    """Make the application. Without a runner it enqueues, and somebody else runs the jobs: a worker, or a test."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[dict[str, RecordStore]]:
        # It goes inside of jobs_lifespan, which enters it first and leaves it last: jobs use the store to the end.
        async with parts:
            yield {"store": parts.store}

    return Starlette(
        routes=[*ROUTES, Route("/health", Healthz(parts.jobs))],
        lifespan=jobs_lifespan(parts.jobs, parts.runner, lifespan),
        exception_handlers={**jobs_exception_handlers(), ValidationError: refuse},
    )
