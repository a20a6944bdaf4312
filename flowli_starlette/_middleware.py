"""A middleware that attaches a registry to requests and websockets."""

from __future__ import annotations

from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from flowli_core import Jobs
from flowli_core.embedded import check_runner
from flowli_starlette._connection import ATTACHED


class JobsMiddleware:
    """A pure ASGI middleware: `Starlette(middleware=[Middleware(JobsMiddleware, jobs=jobs)])`, or around a mounted app.

    It neither opens nor closes the registry, so it works without `jobs_lifespan`: the first use opens the registry, and
    you close it (`await jobs.aclose()`). Inside, this registry comes before those of the apps around it.
    """

    def __init__(self, app: ASGIApp, *, jobs: Jobs[Any]) -> None:
        check_runner(jobs, None)
        self.app = app
        self.jobs = jobs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application with the registry attached."""
        if scope["type"] in {"http", "websocket"}:
            scope[ATTACHED] = (self.jobs, *scope.get(ATTACHED, ()))
            state = scope.setdefault("state", {})
            if state.get("jobs", self.jobs) is not self.jobs:
                # The registry of an outer app, which goes on using it. Some servers share one state among all requests.
                scope["state"] = state = dict(state)
            state["jobs"] = self.jobs
        await self.app(scope, receive, send)
