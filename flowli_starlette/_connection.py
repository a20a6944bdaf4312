"""Finding the registry of a request or a websocket among those of the application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast, overload

from starlette.requests import HTTPConnection

from flowli_core import Jobs, StrategyError
from flowli_core.embedded import is_registry

J = TypeVar("J", bound=Jobs[Any])

OPENED = "flowli_registries"
"""The key in the lifespan state of all registries that lifespans have opened, the outermost first."""

ATTACHED = "flowli.registries"
"""The key in a connection's scope of all registries that JobsMiddleware has attached, the nearest first."""

_CURE = (
    "give the outermost app lifespan=jobs_lifespan(jobs) (the lifespan of a mounted app never runs), or attach the "
    "registry with JobsMiddleware; in a test enter the client: `with TestClient(app) as client:`"
)


@overload
def get_jobs(connection: HTTPConnection[Any]) -> Jobs[Any]: ...
@overload
def get_jobs(connection: HTTPConnection[Any], kind: type[J]) -> J: ...
def get_jobs(connection: HTTPConnection[Any], kind: type[Jobs[Any]] = Jobs) -> Jobs[Any]:
    """Return the registry of a request or a websocket; if there are several, the one of class `kind`.

    The nearest that JobsMiddleware has attached comes first, then those that a lifespan has opened. A mounted app also
    sees the registries of its parents. Raises StrategyError if there is none, or several that fit.
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
        first = _names(found[:1])
        cure = f"name one: get_jobs(connection, {first}), in FastAPI Depends(jobs_of({first}))"
        raise StrategyError(f"there are {len(found)} registries here ({_names(found)}); {cure}")
    if attached or opened:
        raise StrategyError(f"no {kind.__name__} among the registries of this app ({_names([*attached, *opened])})")
    raise StrategyError(f"no registry in the lifespan state: {_CURE}")


def opened_in(state: Mapping[str, Any]) -> tuple[Jobs[Any], ...]:
    """Return the registries in a lifespan state. A lifespan that is the user's own may have put one there as `jobs`."""
    jobs = state.get("jobs")
    return state.get(OPENED) or ((jobs,) if is_registry(jobs) else ())


def _names(registries: list[Jobs[Any]]) -> str:
    return ", ".join(type(jobs).__name__ for jobs in registries)
