"""A lifespan that opens a registry, and runs its jobs beside the application."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from flowli_core.embedded import embedded

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from flowli_core import Jobs, Runner
    from flowli_core.durations import Duration

    Lifespan = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]
    GivenLifespan = (
        Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any]]]
        | Callable[[Any], AbstractAsyncContextManager[None]]
    )


def jobs_lifespan(
    jobs: Jobs[Any], *, runner: Runner | None = None, inner: GivenLifespan | None = None, drain: Duration = "10s"
) -> Callable[[Any], AbstractAsyncContextManager[dict[str, Any]]]:
    """Make a lifespan: `FastAPI(lifespan=jobs_lifespan(jobs, runner=Runner(jobs)))`.

    It opens the registry's context and driver, and puts the registry into the lifespan state as `jobs`, and the
    EmbeddedRunner (or None), whose `health()` says how often it was restarted, as `jobs_runner`. With a runner,
    jobs run beside the requests; when the server stops, they are given `drain` to end (keep that below the server's
    own limit), and what has not is given back. An existing lifespan goes into `inner`: it is entered first and left
    last, so that jobs may use what it opens; its state is kept.
    """

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncGenerator[dict[str, Any]]:
        async with AsyncExitStack() as stack:
            state = None if inner is None else await stack.enter_async_context(inner(app))
            beside = await stack.enter_async_context(embedded(jobs, runner=runner, drain=drain))
            yield {**(state or {}), "jobs": jobs, "jobs_runner": beside}

    return lifespan
