"""The application: the parts come from outside, so that a test can bring others."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from litestar import Litestar
from litestar.di import Provide

from flowli_litestar import FlowliConfig, FlowliPlugin

from ..domain.store import RecordStore
from .routes import ROUTES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ..domain.service import Parts


def create_app(parts: Parts) -> Litestar:
    """Make the application. Without a runner it enqueues, and somebody else runs the jobs: a worker, or a test."""

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncGenerator[None]:
        # The plugin's own comes after it: jobs use the store to the end.
        async with parts:
            yield

    def provide_store() -> RecordStore:
        return parts.store

    return Litestar(
        ROUTES,
        dependencies={"store": Provide(provide_store, sync_to_thread=False)},
        lifespan=[lifespan],
        plugins=[FlowliPlugin(FlowliConfig(jobs=parts.jobs, runner=parts.runner, health_path="/health"))],
    )
