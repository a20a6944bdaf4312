"""The registry as a dependency of a route."""

from __future__ import annotations

from typing import Any, cast

from starlette.requests import HTTPConnection  # noqa: TC002 - FastAPI reads the annotation at run time

from flowli_core import Jobs, StrategyError
from flowli_core.registry import is_registry


def get_jobs(connection: HTTPConnection) -> Jobs[Any]:
    """Give a route its registry: `jobs: Annotated[AppJobs, Depends(get_jobs)]`, for HTTP and websockets.

    Raises StrategyError where the application's lifespan has not run.
    """
    state = cast("dict[str, Any]", connection.scope.get("state") or {})
    jobs = state.get("jobs")
    if not is_registry(jobs):
        raise StrategyError(
            "no jobs in the lifespan state: give the app lifespan=jobs_lifespan(jobs), "
            "and in a test enter its client: `with TestClient(app) as client:`"
        )
    return jobs
