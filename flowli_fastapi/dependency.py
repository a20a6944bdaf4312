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
    """Give a route or a websocket its registry: `jobs: Annotated[AppJobs, Depends(get_jobs)]`.

    In a test, `app.dependency_overrides[get_jobs]` may give another one. Where the app has several registries, name
    the one that is meant: `jobs_of`. Raises StrategyError where there is none: the application's lifespan has not run.
    """
    return flowli_starlette.get_jobs(connection)


JobsDep: TypeAlias = Annotated[J, Depends(get_jobs)]
"""The same, shorter: `jobs: JobsDep[AppJobs]`."""


def jobs_of(kind: type[J]) -> Callable[[HTTPConnection], Awaitable[J]]:
    """Give a route one of several registries: `jobs: Annotated[MailJobs, Depends(jobs_of(MailJobs))]`.

    Two calls with the same class are equal, so a test may write `app.dependency_overrides[jobs_of(MailJobs)]`.
    """
    return _JobsOf(kind)


@dataclass(frozen=True, slots=True)
class _JobsOf(Generic[J]):
    kind: type[J]

    async def __call__(self, connection: HTTPConnection) -> J:
        return flowli_starlette.get_jobs(connection, self.kind)
