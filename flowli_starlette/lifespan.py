"""A lifespan that opens a registry, and runs its jobs beside the application."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from typing_extensions import TypedDict

from flowli_core import Jobs, Runner
from flowli_core.durations import Duration
from flowli_core.embedded import EmbeddedRunner, check_runner, embedded
from flowli_starlette.connection import OPENED, opened_in

if TYPE_CHECKING:
    GivenLifespan = (
        Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any]]]
        | Callable[[Any], AbstractAsyncContextManager[None]]
    )

J = TypeVar("J", bound=Jobs[Any])


class JobsState(TypedDict, Generic[J]):
    """The lifespan state, for typed access: with `request: Request[JobsState[AppJobs]]`, `request.state["jobs"]`."""

    jobs: J
    jobs_runner: EmbeddedRunner | None


def jobs_lifespan(
    jobs: J, runner: Runner | None = None, inner: GivenLifespan | None = None, *, drain: Duration = "10s"
) -> Callable[[Any], AbstractAsyncContextManager[JobsState[J]]]:
    """Make a lifespan: `Starlette(lifespan=jobs_lifespan(jobs, runner=Runner(jobs)))`, and the same for FastAPI.

    It opens the registry's context and driver, and puts the registry into the lifespan state as `jobs`, and the
    EmbeddedRunner (or None), whose `health()` says how often it was restarted, as `jobs_runner`. With a runner,
    jobs run beside the requests; when the server stops, they are given `drain` to end (keep that some seconds below
    the server's own limit), and what has not is given back.

    Another lifespan goes into `inner`: it is entered first and left last, so that jobs may use what it opens; its state
    is kept. That may be another `jobs_lifespan`: `get_jobs(request, OtherJobs)` then tells the registries apart, and
    `request.state.jobs` is that of the outermost. An application may be started again after it has ended; one
    registry cannot be open in two at once. Raises DefinitionError for a runner of another registry, StrategyError for
    one without a driver.
    """
    check_runner(jobs, runner)

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncGenerator[JobsState[J]]:
        async with AsyncExitStack() as stack:
            given = None if inner is None else await stack.enter_async_context(inner(app))
            beside = await stack.enter_async_context(embedded(jobs, runner=runner, drain=drain))
            state = given or {}
            own: Mapping[str, Any] = {"jobs": jobs, "jobs_runner": beside, OPENED: (jobs, *opened_in(state))}
            yield cast("JobsState[J]", {**state, **own})

    return lifespan
