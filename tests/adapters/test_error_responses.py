"""The response to each error of Flowli, in every framework."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from litestar import Litestar
from litestar import get as litestar_get
from litestar.testing import TestClient as LitestarClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

import flowli_fastapi
import flowli_starlette
from flowli_core import (
    DefinitionError,
    DriverError,
    FlowliError,
    LeaseLost,
    SchedulingError,
    StoreDamaged,
    StoreUnavailable,
    StrategyError,
    ValidationError,
)
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.drivers.redis._clients._errors import PermissionMissingError, WrongTypeError
from flowli_fastapi import jobs_router
from flowli_litestar import FlowliConfig, FlowliPlugin
from tests.adapters.apps import EventJobs, Events

STATUSES: dict[type[FlowliError], int] = {
    ValidationError: 422,
    SchedulingError: 422,
    DriverError: 503,
    StoreUnavailable: 503,
    StoreDamaged: 503,
    LeaseLost: 503,
    PermissionMissingError: 503,
    WrongTypeError: 503,
    # Mistakes in the program, which a client neither causes nor cures.
    FlowliError: 500,
    DefinitionError: 500,
    StrategyError: 500,
}

INTERNAL = "redis.internal refused"


def memory_jobs() -> EventJobs:
    return EventJobs(context=Events(), driver=MemoryDriver())


def on_starlette(error: FlowliError) -> Any:
    def fail(_: Request) -> Response:
        raise error

    app = Starlette(routes=[Route("/", fail)], exception_handlers=flowli_starlette.jobs_exception_handlers())
    return TestClient(app, raise_server_exceptions=False).get("/")


def on_fastapi(error: FlowliError) -> Any:
    def fail() -> None:
        raise error

    app = FastAPI(exception_handlers=flowli_fastapi.jobs_exception_handlers())
    app.get("/")(fail)
    return TestClient(app, raise_server_exceptions=False).get("/")


def on_router(error: FlowliError) -> Any:
    """Ask `jobs_router` in an application without exception handlers."""

    class Inspect:
        async def get_queue_counts(self) -> None:
            raise error

    class Registry:
        inspect = Inspect()

    app = FastAPI()
    app.include_router(jobs_router(allow_anonymous=True, jobs=Registry))
    return TestClient(app, raise_server_exceptions=False).get("/jobs/counts")


def on_litestar(error: FlowliError) -> Any:
    @litestar_get("/", sync_to_thread=False)
    def fail() -> None:
        raise error

    app = Litestar([fail], plugins=[FlowliPlugin(FlowliConfig(jobs=memory_jobs()))], logging_config=None)
    return LitestarClient(app, raise_server_exceptions=False).get("/")


Respond = Callable[[FlowliError], Any]


@pytest.fixture(params=[on_starlette, on_fastapi, on_router, on_litestar], ids=lambda respond: respond.__name__[3:])
def respond(request: pytest.FixtureRequest) -> Respond:
    """Return the response of an application whose handler raises an error."""
    chosen: Respond = request.param
    return chosen


def classes(of: type[FlowliError]) -> Iterator[type[FlowliError]]:
    yield of
    for subclass in of.__subclasses__():
        yield from classes(subclass)


def test_every_class_of_error_has_a_decided_status() -> None:
    ours = {cls for cls in classes(FlowliError) if cls.__module__.startswith("flowli_")}
    assert ours == set(STATUSES)


@pytest.mark.parametrize("kind", STATUSES, ids=lambda kind: kind.__name__)
def test_an_error_is_answered_with_its_status(kind: type[FlowliError], respond: Respond) -> None:
    assert respond(kind("why")).status_code == STATUSES[kind]


@pytest.mark.parametrize("kind", [kind for kind in STATUSES if issubclass(kind, DriverError)])
def test_a_failure_of_the_store_is_logged_and_its_cause_is_not_sent(
    kind: type[FlowliError], respond: Respond, caplog: pytest.LogCaptureFixture
) -> None:
    response = respond(kind(INTERNAL))
    assert INTERNAL not in response.text
    assert INTERNAL in caplog.text
    assert ("retry-after" in response.headers) == (kind is StoreUnavailable)


@pytest.mark.parametrize("given", [{"cron": "60 * * * *"}, {"cron": "0 8 * * *", "timezone": "Mars/X"}, {"every": "5"}])
async def test_a_wrong_time_of_a_client_is_answered_with_422_and_what_is_wrong(given: Any, respond: Respond) -> None:
    with pytest.raises(SchedulingError) as caught:
        await memory_jobs().double.schedule(input=1, **given)
    response = respond(caught.value)
    assert response.status_code == 422
    assert "must be" in response.text or "duration" in response.text
