"""The registry as a dependency of a route."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeAlias, TypeVar

from fastapi import Depends
from starlette.requests import HTTPConnection

import flowli_starlette
from flowli_core import Jobs

J = TypeVar("J", bound=Jobs[Any])


async def get_jobs(connection: HTTPConnection) -> Jobs[Any]:
    """Return the registry of a request or a websocket: `jobs: Annotated[AppJobs, Depends(get_jobs)]`.

    A test may inject another with `app.dependency_overrides[get_jobs]`. If the app has several registries, use
    `jobs_of`. Raises StrategyError if there is none: the application's lifespan has not run.
    """
    return flowli_starlette.get_jobs(connection)


JobsDep: TypeAlias = Annotated[J, Depends(get_jobs)]
"""Short for `Annotated[..., Depends(get_jobs)]`: `jobs: JobsDep[AppJobs]`."""


def jobs_of(kind: type[J]) -> Callable[[HTTPConnection], Awaitable[J]]:
    """Make the dependency of one of several registries: `jobs: Annotated[MailJobs, Depends(jobs_of(MailJobs))]`.

    Two calls with the same class are equal, so a test may set `app.dependency_overrides[jobs_of(MailJobs)]`.
    """
    return _JobsOf(kind)


@dataclass(frozen=True, slots=True)
class _JobsOf(Generic[J]):
    kind: type[J]

    async def __call__(self, connection: HTTPConnection) -> J:
        return flowli_starlette.get_jobs(connection, self.kind)
