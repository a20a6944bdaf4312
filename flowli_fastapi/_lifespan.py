"""The lifespan for FastAPI: that of Starlette, which also looks at the overrides and the routes of the application."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, cast

import flowli_starlette
from flowli_core import Jobs, Runner
from flowli_core.durations import Duration
from flowli_fastapi._dependency import check_routes, is_overridden
from flowli_starlette._connection import opened_in
from flowli_starlette._lifespan import JobsState, Lifespan

J = TypeVar("J", bound=Jobs[Any])

_is_inside_another: ContextVar[bool] = ContextVar("flowli_is_inside_another", default=False)
"""True while a lifespan enters its `inner`. Only the outermost one knows all registries of the application."""


def jobs_lifespan(
    jobs: J, runner: Runner | None = None, inner: Lifespan | None = None, *, drain: Duration = "10s"
) -> Callable[[Any], AbstractAsyncContextManager[JobsState[J]]]:
    """Make a lifespan: `FastAPI(lifespan=jobs_lifespan(jobs, runner=Runner(jobs)))`.

    It is `flowli_starlette.jobs_lifespan`, with two differences. A route that depends on another registry than those of
    the application is refused at the start, with DefinitionError. And while a test overrides the registry
    (`app.dependency_overrides[get_jobs]`), the lifespan neither opens `jobs` nor starts the runner, so the test cannot
    run jobs of the real store.
    """
    opening = flowli_starlette.jobs_lifespan(jobs, runner, inner, drain=drain)

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncGenerator[JobsState[J]]:
        async with AsyncExitStack() as stack:
            if is_overridden(app, jobs):
                state = None if inner is None else await stack.enter_async_context(inner(app))
                yield cast("JobsState[J]", state or {})
                return
            is_outermost = not _is_inside_another.get()
            token = _is_inside_another.set(True)
            try:
                opened = await stack.enter_async_context(opening(app))
            finally:
                _is_inside_another.reset(token)
            if is_outermost:
                check_routes(app, opened_in(opened))
            yield opened

    return lifespan
