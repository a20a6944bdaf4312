"""`run_sync` in plain routes, which the frameworks call in threads."""

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from litestar import Litestar, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.testing import TestClient as LitestarClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flowli_core import Jobs, Receipt, Runner, job, run_sync
from flowli_core.driver import Driver
from flowli_core.drivers.memory import MemoryDriver
from flowli_fastapi import JobsDep, get_jobs, jobs_exception_handlers, jobs_lifespan
from flowli_litestar import FlowliConfig, FlowliPlugin
from flowli_starlette import get_jobs as starlette_jobs
from flowli_starlette import jobs_lifespan as starlette_lifespan
from tests.adapters.apps import PATIENCE
from tests.support.stores import STORES, driver_of


@job(int)
async def double(input: int) -> int:
    if input < 0:
        raise ValueError("negative")
    return 2 * input


class AppJobs(Jobs[None]):
    double = double


@pytest.fixture(params=STORES)
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Driver]:
    with driver_of(request.param, tmp_path) as made:
        yield made


def on_fastapi(jobs: AppJobs) -> FastAPI:
    app = FastAPI(lifespan=jobs_lifespan(jobs, runner=Runner(jobs)), exception_handlers=jobs_exception_handlers())

    @app.post("/double/{number}", status_code=202)
    def enqueue(number: str, jobs: Annotated[AppJobs, Depends(get_jobs)]) -> Receipt[int]:
        given: Any = int(number) if number.isdigit() else number
        return run_sync(jobs.double.enqueue(given))

    @app.get("/double/{id}")
    def look(id: str, jobs: JobsDep[AppJobs]) -> int | None:
        record = run_sync(jobs.double.get(id))
        return record.result if record else None

    return app


def until(look: Callable[[], object], expected: object) -> None:
    limit = time.monotonic() + PATIENCE
    while (found := look()) != expected:
        assert time.monotonic() < limit, found
        time.sleep(0.005)


def test_a_plain_route_of_fastapi_enqueues_and_reads(driver: Driver) -> None:
    with TestClient(on_fastapi(AppJobs(context=None, driver=driver))) as client:
        answer = client.post("/double/21")
        assert answer.status_code == 202
        until(lambda: client.get(f"/double/{answer.json()['id']}").json(), 42)


def test_an_invalid_input_in_a_plain_route_is_a_422_and_is_logged_with_its_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = on_fastapi(AppJobs(context=None, driver=MemoryDriver()))
    with TestClient(app) as client, caplog.at_level(logging.WARNING, logger="flowli"):
        answer = client.post("/double/many")
    assert answer.status_code == 422
    assert f"called at {__file__}:" in caplog.text


def test_a_plain_endpoint_of_starlette_enqueues() -> None:
    def enqueue(request: Request) -> Response:
        receipt = run_sync(starlette_jobs(request, AppJobs).double.enqueue(21))
        return JSONResponse(receipt.id)

    jobs = AppJobs(context=None, driver=MemoryDriver())
    app = Starlette(routes=[Route("/", enqueue)], lifespan=starlette_lifespan(jobs, Runner(jobs)))
    with TestClient(app) as client:
        job_id = client.get("/").json()
        until(lambda: getattr(run_sync(jobs.double.get(job_id)), "result", None), 42)


@post("/{number:int}", sync_to_thread=True)
def enqueue_in_litestar(number: FromPath[int], jobs: NamedDependency[AppJobs]) -> str:
    return run_sync(jobs.double.enqueue(number)).id


def test_a_plain_handler_of_litestar_enqueues() -> None:
    jobs = AppJobs(context=None, driver=MemoryDriver())
    plugin = FlowliPlugin(FlowliConfig(jobs=jobs, runner=Runner(jobs)))
    with LitestarClient(Litestar([enqueue_in_litestar], plugins=[plugin])) as client:
        job_id = client.post("/21").text
        until(lambda: getattr(run_sync(jobs.double.get(job_id)), "result", None), 42)
