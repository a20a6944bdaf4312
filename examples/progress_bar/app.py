"""The application: one long job, its routes, and the page."""

import asyncio
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from flowli_core import Jobs, Runner, current_job, job
from flowli_core.driver import Driver
from flowli_core.drivers.sqlite import SqliteDriver
from flowli_fastapi import job_routes, jobs_exception_handlers, jobs_lifespan

PAGE = Path(__file__).with_name("page.html")


class Book(BaseModel):
    """The book to print. A page takes so many seconds."""

    pages: Annotated[int, Field(ge=1, le=1000)]
    seconds: Annotated[float, Field(ge=0, le=10)] = 0.5


@job(Book)
async def print_book(input: Book) -> str:
    """Print a book page by page. A job that starts again because its server stopped begins with the first page."""
    for number in range(1, input.pages + 1):
        current_job().progress(number, input.pages, f"page {number} of {input.pages}")
        await asyncio.sleep(input.seconds)
    return f"{input.pages} pages are printed"


class AppJobs(Jobs[None]):
    """The registry."""

    print_book = print_book


def create_app(driver: Driver) -> FastAPI:
    """Make the application. Anybody may use it, so it is for your own machine."""
    jobs = AppJobs(context=None, driver=driver)
    app = FastAPI(
        lifespan=jobs_lifespan(jobs, Runner(jobs, concurrency=10), drain="0s"),
        exception_handlers=jobs_exception_handlers(),
    )
    app.include_router(job_routes(jobs.print_book, "/books", allow_anonymous=True))

    @app.get("/", include_in_schema=False)
    async def show_page() -> FileResponse:
        return FileResponse(PAGE)

    return app


app = create_app(SqliteDriver("books.sqlite3"))
