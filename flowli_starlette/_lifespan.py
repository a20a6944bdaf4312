"""A lifespan that opens a registry and runs its jobs in the application's process."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Generic, TypeAlias, TypeVar, cast

from typing_extensions import TypedDict

from flowli_core import Jobs, Runner
from flowli_core.durations import Duration
from flowli_core.embedded import EmbeddedRunner, check_runner, embedded
from flowli_starlette._connection import OPENED, opened_in

Lifespan: TypeAlias = (
    Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any]]] | Callable[[Any], AbstractAsyncContextManager[None]]
)

J = TypeVar("J", bound=Jobs[Any])


class JobsState(TypedDict, Generic[J]):
    """The lifespan state, for typed access: with `request: Request[JobsState[AppJobs]]`, `request.state["jobs"]`.

    That needs Starlette 0.52. With an earlier one, use `get_jobs(request, AppJobs)`.
    """

    jobs: J
    jobs_runner: EmbeddedRunner | None


def jobs_lifespan(
    jobs: J, runner: Runner | None = None, inner: Lifespan | None = None, *, drain: Duration = "10s"
) -> Callable[[Any], AbstractAsyncContextManager[JobsState[J]]]:
    """Make a lifespan: `Starlette(lifespan=jobs_lifespan(jobs, runner=Runner(jobs)))`, and the same for FastAPI.

    It opens the registry's context and driver, and puts the registry into the lifespan state as `jobs`. With a runner,
    jobs run in the application's process. When the server stops, running jobs may continue for `drain` (keep it below
    the server's own shutdown timeout); unfinished jobs return to the queue. The EmbeddedRunner, whose `health()` tells
    how often it was restarted, is in the state as `jobs_runner`; it is None without a runner.

    Pass a lifespan of your own as `inner`: it is entered first and left last, so jobs may use what it opens, and its
    state is kept. `inner` may be another `jobs_lifespan`: then `get_jobs(request, OtherJobs)` finds each registry, and
    `request.state.jobs` is the registry of the outermost. An application may be started again after it has ended, but
    two applications cannot have one registry open at once. Raises DefinitionError for a runner of another registry, and
    StrategyError for a runner of a registry without a driver.
    """
    check_runner(jobs, runner)

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncGenerator[JobsState[J]]:
        async with AsyncExitStack() as stack:
            state = (None if inner is None else await stack.enter_async_context(inner(app))) or {}
            embedded_runner = await stack.enter_async_context(embedded(jobs, runner=runner, drain=drain))
            own: Mapping[str, Any] = {"jobs": jobs, "jobs_runner": embedded_runner, OPENED: (jobs, *opened_in(state))}
            yield cast("JobsState[J]", {**state, **own})

    return lifespan
