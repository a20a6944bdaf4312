"""The registry as a dependency of a route."""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeAlias, TypeVar, get_args, get_type_hints

import fastapi.routing
from fastapi import Depends
from fastapi.params import Depends as DependsParam
from starlette.requests import HTTPConnection

import flowli_starlette
from flowli_core import DefinitionError, Jobs

J = TypeVar("J", bound=Jobs[Any])


async def get_jobs(connection: HTTPConnection) -> Jobs[Any]:
    """Return the registry of a request or a websocket: `jobs: Annotated[AppJobs, Depends(get_jobs)]`.

    A test may inject another with `app.dependency_overrides[get_jobs]`, set before the application starts. If the app
    has several registries, use `jobs_of`. Raises StrategyError if there is none: the application's lifespan has not
    run.
    """
    return flowli_starlette.get_jobs(connection)


JobsDep: TypeAlias = Annotated[J, Depends(get_jobs)]
"""Short for `Annotated[..., Depends(get_jobs)]`: `jobs: JobsDep[AppJobs]`."""


def jobs_of(kind: type[J]) -> Callable[[HTTPConnection], Awaitable[J]]:
    """Make the dependency of one of several registries: `jobs: Annotated[MailJobs, Depends(jobs_of(MailJobs))]`.

    Two calls with the same class are equal, so a test may set `app.dependency_overrides[jobs_of(MailJobs)]`.
    """
    if not _is_registry_class(kind):
        raise DefinitionError(f"jobs_of needs a class of registries, got {kind!r:.60}")
    return _JobsOf(kind)


def _is_registry_class(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Jobs)


@dataclass(frozen=True, slots=True)
class _JobsOf(Generic[J]):
    kind: type[J]

    async def __call__(self, connection: HTTPConnection) -> J:
        return flowli_starlette.get_jobs(connection, self.kind)


def _kind_of(dependency: Any) -> type[Jobs[Any]]:
    kind: type[Jobs[Any]] = dependency.kind
    return kind


def is_overridden(app: Any, jobs: Jobs[Any]) -> bool:
    """Return True if the application's `dependency_overrides` replace the registry."""
    overrides: Iterable[Any] = getattr(app, "dependency_overrides", {})
    return any(one is get_jobs or (isinstance(one, _JobsOf) and isinstance(jobs, _kind_of(one))) for one in overrides)


def check_routes(app: Any, registries: Sequence[Jobs[Any]]) -> None:
    """Raise DefinitionError if a route depends on a registry that is not among these."""
    if any(one.cls is flowli_starlette.JobsMiddleware for one in getattr(app, "user_middleware", ())):
        return  # it attaches others
    # Older releases of FastAPI have no such function, and `routes` contains the routes of included routers.
    iterate: Any = getattr(fastapi.routing, "iter_route_contexts", iter)
    seen: set[int] = set()
    for route in iterate(getattr(app, "routes", ())):
        for kind in _kinds_wanted_by(getattr(route, "endpoint", None), seen):
            if not any(isinstance(jobs, kind) for jobs in registries):
                names = ", ".join(type(jobs).__name__ for jobs in registries)
                raise DefinitionError(
                    f"the route {route.path} depends on {kind.__name__}, but the registries of this app are: {names}; "
                    "name one of these, or open the other too: jobs_lifespan(..., inner=jobs_lifespan(other))"
                )


def _kinds_wanted_by(call: Any, seen: set[int]) -> Iterator[type[Jobs[Any]]]:
    """Yield the classes of registries that a route or dependency asks for, and those that its dependencies ask for."""
    if not callable(call) or id(call) in seen:
        return
    seen.add(id(call))
    try:
        parameters = inspect.signature(call).parameters.values()
        method = getattr(call, "__init__" if inspect.isclass(call) else "__call__")
        hints = get_type_hints(call if inspect.isroutine(call) else method, include_extras=True)
    except (NameError, TypeError, ValueError):
        return  # FastAPI reports what it cannot read
    for parameter in parameters:
        annotation: Any = hints.get(parameter.name)
        kind: Any = get_args(annotation)[0] if get_args(annotation) else annotation
        marks: list[Any] = [
            mark for mark in (*get_args(annotation), parameter.default) if isinstance(mark, DependsParam)
        ]
        for dependency in (mark.dependency or kind for mark in marks):
            if isinstance(dependency, _JobsOf):
                yield _kind_of(dependency)
            elif dependency is not get_jobs:
                yield from _kinds_wanted_by(dependency, seen)
            elif _is_registry_class(kind):
                yield kind
