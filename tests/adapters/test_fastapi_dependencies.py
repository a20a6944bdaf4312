"""The registries that the routes of a FastAPI application depend on."""

# FastAPI evaluates the annotations of functions that are local to a test, so they are not text here.
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.testclient import TestClient

from flowli_core import DefinitionError, Jobs, Runner
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import drain
from flowli_fastapi import JobsDep, JobsMiddleware, get_jobs, jobs_lifespan, jobs_of
from tests.adapters.apps import EventJobs, Events, OtherJobs, WatchedDriver


def memory_jobs() -> EventJobs:
    return EventJobs(context=Events(), driver=MemoryDriver())


def needs_another(_: JobsDep[OtherJobs]) -> None:
    """A dependency of a route."""


class NeedsAnother:
    """A class as a dependency of a route."""

    def __init__(self, _: JobsDep[OtherJobs]) -> None: ...


async def by_jobs_dep(_: JobsDep[OtherJobs]) -> None: ...
async def by_annotation(_: Annotated[OtherJobs, Depends(get_jobs)]) -> None: ...
async def by_default(_: OtherJobs = Depends(get_jobs)) -> None: ...  # noqa: B008
async def by_class(_: Annotated[OtherJobs, Depends(jobs_of(OtherJobs))]) -> None: ...
async def by_dependency(_: Annotated[None, Depends(needs_another)]) -> None: ...
async def by_class_dependency(_: Annotated[NeedsAnother, Depends()]) -> None: ...


WANT_ANOTHER = [by_jobs_dep, by_annotation, by_default, by_class, by_dependency, by_class_dependency]


def app_with(route: Any, lifespan: Any) -> FastAPI:
    app, router = FastAPI(lifespan=lifespan), APIRouter()
    router.get("/route")(route)
    app.include_router(router, prefix="/api")
    return app


@pytest.mark.parametrize("route", WANT_ANOTHER)
def test_a_route_that_depends_on_another_registry_is_refused_at_the_start(route: Any) -> None:
    app = app_with(route, jobs_lifespan(memory_jobs()))
    with (
        pytest.raises(DefinitionError, match=r"route /api/route depends on OtherJobs.*are: EventJobs"),
        TestClient(app),
    ):
        pass


@pytest.mark.parametrize("route", WANT_ANOTHER)
def test_a_route_may_depend_on_each_registry_of_the_application(route: Any) -> None:
    other = OtherJobs(context=Events(), driver=MemoryDriver())
    for lifespan in (jobs_lifespan(other), jobs_lifespan(other, inner=jobs_lifespan(memory_jobs()))):
        with TestClient(app_with(route, lifespan)):
            pass
    app = app_with(route, jobs_lifespan(memory_jobs()))
    app.add_middleware(JobsMiddleware, jobs=other)
    with TestClient(app):
        pass


def test_a_route_may_depend_on_any_registry() -> None:
    async def look(jobs: JobsDep[Jobs[Any]]) -> str:
        return type(jobs).__name__

    with TestClient(app_with(look, jobs_lifespan(memory_jobs()))) as client:
        assert client.get("/api/route").json() == "EventJobs"


@pytest.mark.parametrize("wrong", ["jobs", None, int, memory_jobs()])
def test_jobs_of_needs_a_class_of_registries(wrong: Any) -> None:
    with pytest.raises(DefinitionError, match="jobs_of needs a class of registries"):
        jobs_of(wrong)


@pytest.mark.parametrize("overridden", [get_jobs, jobs_of(EventJobs)])
async def test_while_a_test_overrides_the_registry_the_real_one_is_not_opened_and_its_jobs_do_not_run(
    overridden: Any,
) -> None:
    async def double(jobs: Annotated[EventJobs, Depends(overridden)]) -> None:
        await jobs.double.enqueue(21)

    log: list[str] = []
    real = EventJobs(context=Events(log), driver=WatchedDriver(log))
    await real.double.enqueue(1)
    await real.aclose()
    log.clear()

    @asynccontextmanager
    async def inner(_: FastAPI) -> AsyncGenerator[dict[str, str]]:
        yield {"database": "open"}

    app = app_with(double, jobs_lifespan(real, Runner(real), inner))
    injected = memory_jobs()
    app.dependency_overrides = {overridden: lambda: injected}
    with TestClient(app) as client:
        client.get("/api/route")
        assert client.app_state["database"] == "open"
    assert log == []
    assert (await drain(injected)).completed == 1
    await injected.aclose()
