"""The response to each error of Flowli, in every framework. The requests carry data unless a test says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from fastapi import FastAPI
from litestar import Litestar
from litestar import route as litestar_route
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
    JobCancelled,
    JobFailed,
    LeaseLost,
    OutboxUnavailable,
    RecordNotFound,
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
    RecordNotFound: 404,
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
    # The database of the application failed, whose other errors are a 500 too.
    OutboxUnavailable: 500,
    # The end of another job is not that of this request, unless the application says so.
    JobFailed: 500,
    JobCancelled: 500,
}

INTERNAL = "redis.internal refused"


def memory_jobs() -> EventJobs:
    return EventJobs(context=Events(), driver=MemoryDriver())


def on_starlette(error: FlowliError, *request: Any, **options: Any) -> Any:
    def fail(_: Request) -> Response:
        raise error

    routes = [Route(path, fail, methods=["GET", "POST"]) for path in ("/", "/at/{place}")]
    app = Starlette(routes=routes, exception_handlers=flowli_starlette.jobs_exception_handlers())
    return ask(TestClient(app, raise_server_exceptions=False), *request, **options)


def on_fastapi(error: FlowliError, *request: Any, **options: Any) -> Any:
    def fail() -> None:
        raise error

    app = FastAPI(exception_handlers=flowli_fastapi.jobs_exception_handlers())
    for path in ("/", "/at/{place}"):
        app.api_route(path, methods=["GET", "POST"])(fail)
    return ask(TestClient(app, raise_server_exceptions=False), *request, **options)


def on_router(error: FlowliError, *_: Any) -> Any:
    """Ask `jobs_router` in an application without exception handlers."""

    class Inspect:
        async def get_queue_counts(self) -> None:
            raise error

    class Registry:
        inspect = Inspect()

    app = FastAPI()
    app.include_router(jobs_router(allow_anonymous=True, jobs=Registry))
    return TestClient(app, raise_server_exceptions=False).get("/jobs/counts")


def on_litestar(error: FlowliError, *request: Any, **options: Any) -> Any:
    @litestar_route(["/", "/at/{place:str}"], http_method=["GET", "POST"], sync_to_thread=False)
    def fail() -> None:
        raise error

    app = Litestar([fail], plugins=[FlowliPlugin(FlowliConfig(jobs=memory_jobs()))], logging_config=None)
    return ask(LitestarClient(app, raise_server_exceptions=False), *request, **options)


def ask(client: Any, method: str = "GET", path: str = "/?data=1", **options: Any) -> Any:
    """Send a request that carries data, unless another is given."""
    return client.request(method, path, **options)


Respond = Callable[..., Any]


@pytest.fixture(params=[on_starlette, on_fastapi, on_litestar], ids=lambda respond: respond.__name__[3:])
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


@pytest.mark.parametrize("kind", STATUSES, ids=lambda kind: kind.__name__)
def test_the_router_fails_with_500_for_errors_that_are_not_of_the_store(kind: type[FlowliError]) -> None:
    assert on_router(kind("why")).status_code == (503 if issubclass(kind, DriverError) else 500)


@pytest.mark.parametrize("kind", [ValidationError, SchedulingError])
@pytest.mark.parametrize(
    "request_",
    [
        {"path": "/?to=5"},
        {"path": "/at/home"},
        {"method": "POST", "path": "/", "data": {"to": 5}},
        {"method": "POST", "path": "/", "content": [b"chunk"]},
    ],
    ids=["query", "path", "form", "stream"],
)
def test_an_invalid_value_in_a_request_with_data_is_logged_with_the_line_of_the_call(
    kind: type[FlowliError], request_: dict[str, Any], respond: Respond, caplog: pytest.LogCaptureFixture
) -> None:
    """The client may have caused it, or the application."""
    assert respond(kind("why"), **request_).status_code == 422
    assert f"request refused: why (called at {__file__}:" in caplog.text


@pytest.mark.parametrize("kind", [ValidationError, SchedulingError])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_invalid_value_in_a_request_without_data_is_a_mistake_in_the_program(
    kind: type[FlowliError], method: str, respond: Respond
) -> None:
    assert respond(kind("why"), method, "/").status_code == 500


def test_a_mistake_in_the_program_reaches_the_log() -> None:
    """Starlette and FastAPI pass it on to the server, which logs it. Litestar does not."""
    app = FastAPI(exception_handlers=flowli_fastapi.jobs_exception_handlers())

    @app.post("/")
    async def enqueue() -> None:
        wrong: Any = memory_jobs().double
        await wrong.enqueue("five")

    with TestClient(app) as client, pytest.raises(ValidationError, match="valid integer"):
        client.post("/")


def test_litestar_logs_a_mistake_in_the_program(caplog: pytest.LogCaptureFixture) -> None:
    assert on_litestar(ValidationError("why"), "POST", "/").json()["detail"] == "Internal Server Error"
    (line,) = [line for line in caplog.records if line.name == "flowli"]
    assert (line.getMessage(), line.levelname) == ("request failed", "ERROR")
    assert line.exc_info


@pytest.mark.parametrize("respond", [on_starlette, on_fastapi, on_litestar, on_router])
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
    response = respond(caught.value, path=f"/?{urlencode(given)}")
    assert response.status_code == 422
    assert "must be" in response.text or "duration" in response.text
