"""The same application in each framework: the routes of one job, whose owner is the user of a header."""

from __future__ import annotations

from typing import Any

import litestar
from fastapi import FastAPI, Request
from litestar.exceptions import NotAuthorizedException
from pydantic import BaseModel, SecretStr
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as StarletteRequest

import flowli_fastapi
import flowli_litestar
import flowli_starlette
from flowli_core import Jobs, current_job, job
from flowli_litestar import FlowliConfig, FlowliPlugin

ADA = {"X-User": "ada"}
EVE = {"X-User": "eve"}


class Report(BaseModel):
    """An input."""

    customer: str


class Written(BaseModel):
    """A result."""

    text: str
    password: SecretStr = SecretStr("open sesame")


@job(Report)
async def write_report(input: Report) -> Written:
    """Write a report; that of nobody cannot be written."""
    current_job().progress(1, 2, "half")
    if input.customer == "nobody":
        raise ValueError(f"no report of {input.customer}")
    return Written(text=f"The report of {input.customer}")


@job()
async def tidy_up() -> None:
    """Take no input."""


class ReportJobs(Jobs[None]):
    """The registry."""

    write_report = write_report
    tidy_up = tidy_up


def user_of(request: Request) -> str:
    """Return the user of a request. Refuse strangers."""
    user = request.headers.get("X-User")
    if user is None:
        raise HTTPException(401)
    return user


async def litestar_user_of(request: litestar.Request[Any, Any, Any]) -> str:
    """Return the user of a request. Refuse strangers."""
    user = request.headers.get("X-User")
    if user is None:
        raise NotAuthorizedException
    return user


def make_app(framework: str, jobs: ReportJobs) -> Any:
    """Make an application that shares its registry, which the test opens, with others."""
    if framework == "starlette":
        return Starlette(
            routes=[
                *flowli_starlette.job_routes(jobs.write_report, "/reports", owner=user_of),
                *flowli_starlette.job_routes(jobs.tidy_up, "/tidy-up", allow_anonymous=True),
            ],
            exception_handlers=flowli_starlette.jobs_exception_handlers(),
        )
    if framework == "fastapi":
        app = FastAPI()
        app.include_router(flowli_fastapi.job_routes(jobs.write_report, "/reports", owner=user_of))
        app.include_router(flowli_fastapi.job_routes(jobs.tidy_up, "/tidy-up", allow_anonymous=True))
        return app
    return litestar.Litestar(
        [
            flowli_litestar.job_routes(jobs.write_report, "/reports", owner=litestar_user_of),
            flowli_litestar.job_routes(jobs.tidy_up, "/tidy-up", allow_anonymous=True),
        ],
        plugins=[FlowliPlugin(FlowliConfig(jobs=jobs))],
        logging_config=None,
    )


def declared_app(jobs: Jobs[Any]) -> tuple[Starlette, FastAPI]:
    """Make applications whose routes find the registry, as they name the declaration of a job."""

    def owner(request: StarletteRequest[Any]) -> str:
        return request.headers["X-User"]

    fastapi = FastAPI(lifespan=flowli_fastapi.jobs_lifespan(jobs))
    fastapi.include_router(flowli_fastapi.job_routes(ReportJobs.write_report, "/reports", owner=user_of))
    routes = flowli_starlette.job_routes(ReportJobs.write_report, "/reports", owner=owner)
    return Starlette(routes=routes, lifespan=flowli_starlette.jobs_lifespan(jobs)), fastapi
