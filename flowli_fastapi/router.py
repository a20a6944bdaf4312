"""A router that shows jobs and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query

from flowli_core import DefinitionError, Jobs, State, StoreUnavailable, ValidationError
from flowli_core._jobs.inspect import DEFAULT_PER_PAGE, MOST_PER_PAGE
from flowli_fastapi.dependency import get_jobs
from flowli_fastapi.errors import invalid_detail
from flowli_fastapi.models import (
    ErrorOut,
    FullJobOut,
    FullJobPageOut,
    FullSchedulePageOut,
    JobCountsOut,
    JobOut,
    JobPageOut,
    SchedulePageOut,
)
from flowli_starlette.errors import RETRY_AFTER, TRY_LATER

if TYPE_CHECKING:
    from fastapi.params import Depends as DependsParam

_RESPONSES: dict[int | str, dict[str, Any]] = {
    503: {"model": ErrorOut, "description": "The jobs' store cannot be reached just now"}
}

Limit = Annotated[int, Query(ge=1, le=MOST_PER_PAGE, description="How many a page holds at the most")]
Cursor = Annotated[str | None, Query(description="What the page before gave; none for the first")]


def jobs_router(
    *,
    dependencies: Sequence[DependsParam] = (),
    allow_anonymous: bool = False,
    show_payloads: bool = False,
    jobs: Callable[..., Any] = get_jobs,
    prefix: str = "/jobs",
) -> APIRouter:
    """Make a read-only router: `app.include_router(jobs_router(dependencies=[Depends(require_admin)]))`.

    It shows how many jobs are in each state, the jobs in a state page by page, one job, and schedules. Inputs, metas,
    keys, results, and what errors say (which may quote them) are shown only with `show_payloads`. `jobs` is the
    dependency that gives the registry; of several, name one with `jobs_of(...)`. Raises DefinitionError where neither
    `dependencies` guard it nor `allow_anonymous` says that anybody may read it.
    """
    if not dependencies and not allow_anonymous:
        raise DefinitionError(
            "jobs_router shows jobs to whoever asks: give it dependencies=[Depends(...)] that refuse strangers, or "
            "allow_anonymous=True"
        )
    router = APIRouter(prefix=prefix, tags=["jobs"], dependencies=list(dependencies), responses=_RESPONSES)
    job, page = (FullJobOut, FullJobPageOut) if show_payloads else (JobOut, JobPageOut)
    schedules = FullSchedulePageOut if show_payloads else SchedulePageOut
    registry: Any = Depends(jobs)

    @router.get("/counts", summary="Count the jobs in each state")
    async def count_jobs(jobs: Jobs[Any] = registry) -> JobCountsOut:
        with _as_http_errors():
            return JobCountsOut.model_validate(await jobs.inspect.get_queue_counts())

    @router.get("", summary="List the jobs in a state, newest first", response_model=page)
    async def list_jobs(
        state: State, limit: Limit = DEFAULT_PER_PAGE, cursor: Cursor = None, jobs: Jobs[Any] = registry
    ) -> object:
        with _as_http_errors():
            return await jobs.inspect.get_jobs_by_state(state, limit=limit, cursor=cursor)

    @router.get("/schedules", summary="List the recurring definitions", response_model=schedules)
    async def list_schedules(
        limit: Limit = DEFAULT_PER_PAGE, cursor: Cursor = None, jobs: Jobs[Any] = registry
    ) -> object:
        with _as_http_errors():
            return await jobs.inspect.get_schedules(limit=limit, cursor=cursor)

    @router.get("/{job_id:path}", summary="Show a job", response_model=job, responses={404: {"model": ErrorOut}})
    async def read_job(job_id: str, jobs: Jobs[Any] = registry) -> object:
        with _as_http_errors():
            record = await jobs.inspect.get_job(job_id)
        if record is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "there is no such job (any more)")
        return record

    return router


@contextmanager
def _as_http_errors() -> Generator[None]:
    """Answer with the right status also where the app has not the handlers of `jobs_exception_handlers`."""
    try:
        yield
    except ValidationError as error:
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, invalid_detail(error)) from error
    except StoreUnavailable as error:
        raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, TRY_LATER, {"Retry-After": RETRY_AFTER}) from error
