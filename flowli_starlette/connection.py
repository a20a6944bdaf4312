"""The registries that a request or a websocket can reach, and how one is found among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from flowli_core import Jobs, StrategyError
from flowli_core._jobs.registry import is_registry

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

J = TypeVar("J", bound=Jobs[Any])

OPENED = "flowli_registries"
"""In the lifespan state: all registries that lifespans have opened, the outermost first."""

ATTACHED = "flowli.registries"
"""In a connection's scope: all registries that middleware has attached, the nearest first."""

_CURE = (
    "give the outermost app lifespan=jobs_lifespan(jobs), for a mounted app's own never runs, or attach the registry "
    "with JobsMiddleware; and in a test enter the client: `with TestClient(app) as client:`"
)


@overload
def get_jobs(connection: HTTPConnection[Any]) -> Jobs[Any]: ...
@overload
def get_jobs(connection: HTTPConnection[Any], kind: type[J]) -> J: ...
def get_jobs(connection: HTTPConnection[Any], kind: type[Jobs[Any]] = Jobs) -> Jobs[Any]:
    """Answer the registry of a request or a websocket; of several, the one that is a `kind`.

    The nearest that JobsMiddleware has attached, or else the one that a lifespan has opened. Works in mounted apps,
    too, which see what their parent has. Raises StrategyError where there is none, or where it cannot be told which.
    """
    attached: tuple[Jobs[Any], ...] = connection.scope.get(ATTACHED, ())
    opened = opened_in(cast("Mapping[str, Any]", connection.scope.get("state") or {}))
    for jobs in attached:
        if isinstance(jobs, kind):
            return jobs
    found = [jobs for jobs in opened if isinstance(jobs, kind)]
    if len(found) == 1:
        return found[0]
    if found:
        cure = f"say which: get_jobs(connection, {_names(found[:1])}), in FastAPI Depends(jobs_of({_names(found[:1])}))"
        raise StrategyError(f"there are {len(found)} registries here ({_names(found)}); {cure}")
    if attached or opened:
        raise StrategyError(f"no {kind.__name__} among the registries of this app ({_names([*attached, *opened])})")
    raise StrategyError(f"no jobs in the lifespan state: {_CURE}")


def opened_in(state: Mapping[str, Any]) -> tuple[Jobs[Any], ...]:
    """Answer the registries in a lifespan state; `jobs` may have been put there by a lifespan of the user's own."""
    jobs = state.get("jobs")
    return state.get(OPENED) or ((jobs,) if is_registry(jobs) else ())


def _names(registries: list[Jobs[Any]]) -> str:
    return ", ".join(type(jobs).__name__ for jobs in registries)
