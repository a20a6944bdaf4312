"""The page of examples/progress_bar, and the routes of its job, in each framework.

The servers only enqueue and watch: the worker runs in the process of the test.
"""

from __future__ import annotations

import os
from pathlib import Path

from fastapi import FastAPI
from litestar import Litestar, get
from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Route

import flowli_fastapi
import flowli_litestar
import flowli_starlette
from examples.progress_bar.app import PAGE
from flowli_litestar import FlowliConfig, FlowliPlugin
from tests.browser.books import BookJobs, Press, make_driver

jobs = BookJobs(context=Press, driver=make_driver(Path(os.environ["SERVED_FOLDER"]), os.environ.get("SERVED_REDIS")))


def page(_: object) -> FileResponse:
    """Respond with the page."""
    return FileResponse(PAGE)


@get("/", media_type="text/html", sync_to_thread=True)
def read_page() -> str:
    """Respond with the page."""
    return PAGE.read_text()


starlette_app = Starlette(
    routes=[
        Route("/", page),
        *flowli_starlette.job_routes(jobs.print_book, "/books", allow_anonymous=True),
    ],
    lifespan=flowli_starlette.jobs_lifespan(jobs),
)

fastapi_app = FastAPI(routes=[Route("/", page)], lifespan=flowli_fastapi.jobs_lifespan(jobs))
fastapi_app.include_router(flowli_fastapi.job_routes(jobs.print_book, "/books", allow_anonymous=True))

litestar_app = Litestar(
    [read_page, flowli_litestar.job_routes(jobs.print_book, "/books", allow_anonymous=True)],
    plugins=[FlowliPlugin(FlowliConfig(jobs=jobs))],
)
