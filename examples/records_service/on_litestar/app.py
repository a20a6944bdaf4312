"""The application. Its parts are passed in, so that a test can pass others."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from litestar import Litestar
from litestar.di import Provide

from flowli_litestar import FlowliConfig, FlowliPlugin

from ..domain.service import Parts
from ..domain.store import RecordStore
from .routes import ROUTES


def create_app(parts: Parts) -> Litestar:
    """Make the application. Without a runner it only enqueues, and a worker or a test runs the jobs."""

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncGenerator[None]:
        # The plugin's lifespan is entered after this one and left before it, so jobs can use the store until the end.
        async with parts:
            yield

    def provide_store() -> RecordStore:
        return parts.store

    config = FlowliConfig(
        jobs=parts.jobs,
        runner=parts.runner,
        health_path="/health",
        dashboard=parts.dashboard,
        dashboard_path="/dashboard",
    )
    return Litestar(
        ROUTES,
        dependencies={"store": Provide(provide_store, sync_to_thread=False)},
        lifespan=[lifespan],
        plugins=[FlowliPlugin(config)],
    )
