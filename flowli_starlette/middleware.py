"""A middleware that attaches a registry to requests and websockets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowli_core import Jobs
from flowli_core._jobs.registry import runtime_of
from flowli_starlette.connection import ATTACHED

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


class JobsMiddleware:
    """Pure ASGI: `Starlette(middleware=[Middleware(JobsMiddleware, jobs=jobs)])`, or around one mounted app.

    It opens and closes nothing, so it works without `jobs_lifespan`: the registry is opened by its first use, and who
    made it closes it (`await jobs.aclose()`). Inside, this registry goes before those of the apps around.
    """

    def __init__(self, app: ASGIApp, *, jobs: Jobs[Any]) -> None:
        runtime_of(jobs)
        self.app = app
        self.jobs = jobs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on, with the registry attached."""
        if scope["type"] in {"http", "websocket"}:
            scope[ATTACHED] = (self.jobs, *scope.get(ATTACHED, ()))
            state = scope.setdefault("state", {})
            if state.get("jobs", self.jobs) is not self.jobs:
                # Another app's, which goes on using it; and some servers share one state among requests.
                scope["state"] = state = dict(state)
            state["jobs"] = self.jobs
        await self.app(scope, receive, send)
