"""A read-only router that shows jobs and schedules."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.params import Depends as DependsParam
from fastapi.routing import APIRoute

from flowli_core import DefinitionError, DriverError, Jobs, QueueCounts, State, ValidationError
from flowli_core.embedded import DEFAULT_PER_PAGE, MOST_PER_PAGE
from flowli_fastapi._dependency import get_jobs
from flowli_fastapi._errors import invalid_detail
from flowli_fastapi._models import ErrorOut, FullJobOut, FullScheduleOut, JobOut, PageOut, ScheduleOut
from flowli_starlette._errors import store_failure

UNAVAILABLE_RESPONSE: dict[int | str, dict[str, Any]] = {
    503: {"model": ErrorOut, "description": "The job store is unreachable or failed"}
}

_NO_STORE = {"Cache-Control": "no-store"}

Limit = Annotated[int, Query(ge=1, le=MOST_PER_PAGE, description="Maximum number of items in a page")]
Cursor = Annotated[str | None, Query(description="The cursor of the page before; none for the first page")]


def jobs_router(
    *,
    dependencies: Sequence[DependsParam] = (),
    allow_anonymous: bool = False,
    show_payloads: bool = False,
    jobs: Callable[..., Any] = get_jobs,
    prefix: str = "/jobs",
) -> APIRouter:
    """Make a read-only router: `app.include_router(jobs_router(dependencies=[Depends(require_admin)]))`.

    It shows the number of jobs in each state (`/counts`), the jobs of a state page by page, one job (`/{id}`, or
    `/by-id/{id}` if the id is a path of this router, such as "counts"), and the schedules (`/schedules`). Inputs,
    metas, keys, results and the text of errors (which may quote them) are shown only with `show_payloads`. `jobs` is
    the dependency that returns the registry; if the app has several, pass `jobs_of(...)`. Raises DefinitionError unless
    `dependencies` guard the router, or `allow_anonymous` says that anybody may read it.
    """
    router = _guarded_router(dependencies, allow_anonymous=allow_anonymous, prefix=prefix)
    job: Any = FullJobOut if show_payloads else JobOut
    schedule: Any = FullScheduleOut if show_payloads else ScheduleOut
    registry: Any = Depends(jobs)

    @router.get("/counts", summary="Count the jobs in each state")
    async def count_jobs(jobs: Jobs[Any] = registry) -> QueueCounts:
        with as_http_errors():
            return await jobs.inspect.get_queue_counts()

    @router.get("", summary="List the jobs in a state, newest first", response_model=PageOut[job])
    async def list_jobs(
        state: State, limit: Limit = DEFAULT_PER_PAGE, cursor: Cursor = None, jobs: Jobs[Any] = registry
    ) -> object:
        with as_http_errors("query", "cursor"):
            return await jobs.inspect.find(state, limit=limit, cursor=cursor, payloads=show_payloads)

    @router.get("/schedules", summary="List the schedules", response_model=PageOut[schedule])
    async def list_schedules(
        limit: Limit = DEFAULT_PER_PAGE, cursor: Cursor = None, jobs: Jobs[Any] = registry
    ) -> object:
        with as_http_errors("query", "cursor"):
            return await jobs.inspect.get_schedules(limit=limit, cursor=cursor)

    missing: dict[int | str, dict[str, Any]] = {404: {"model": ErrorOut}}

    # The short path cannot show jobs whose ids are paths of this router, such as "counts". It is added last.
    @router.get("/{job_id:path}", summary="Show a job", response_model=job, responses=missing)
    @router.get("/by-id/{job_id:path}", summary="Show a job, whatever its id", response_model=job, responses=missing)
    async def read_job(job_id: str, jobs: Jobs[Any] = registry) -> object:
        with as_http_errors("path", "job_id"):
            record = await jobs.inspect.get_job(job_id)
        if record is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "there is no job with this id")
        return record

    return router


def _guarded_router(dependencies: Sequence[DependsParam], *, allow_anonymous: bool, prefix: str) -> APIRouter:
    """Make a router without routes. Raises DefinitionError if nothing guards it."""
    if not dependencies and not allow_anonymous:
        cure = "pass dependencies=[Depends(...)] that refuse strangers, or allow_anonymous=True"
        raise DefinitionError(f"jobs_router shows jobs to anybody: {cure}")
    return APIRouter(
        prefix=prefix,
        tags=["jobs"],
        dependencies=list(dependencies),
        responses=UNAVAILABLE_RESPONSE,
        route_class=NoStoreRoute,
    )


class NoStoreRoute(APIRoute):
    """A route whose responses no cache may store."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                response = await handler(request)
            except HTTPException as error:
                error.headers = {**_NO_STORE, **(error.headers or {})}
                raise
            response.headers.update(_NO_STORE)
            return response

        return handle


@contextmanager
def as_http_errors(*checked: str) -> Generator[None]:
    """Turn errors into HTTP errors, so that the router also works in an app without `jobs_exception_handlers`.

    `checked` is the location of the value of the request that the call checks; FastAPI has checked all others.
    """
    try:
        yield
    except ValidationError as error:
        if not checked:
            raise
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, invalid_detail(error, *checked)) from error
    except DriverError as error:
        raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, *store_failure(error)) from error
