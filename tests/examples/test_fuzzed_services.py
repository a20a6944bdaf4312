"""No request breaks the example service: requests of all kinds, valid and invalid, made from its OpenAPI document.

In the long form, sequences of requests also use the ids that earlier responses returned.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import schemathesis
from fastapi import FastAPI, Query
from pydantic_core import to_json
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import Failure
from schemathesis.engine import events, from_schema
from schemathesis.python import asgi

import examples.records_service.on_fastapi.app as on_fastapi
import examples.records_service.on_litestar.app as on_litestar
import examples.records_service.on_starlette.app as on_starlette
from examples.records_service.domain import service as domain
from examples.records_service.domain.service import Parts
from flowli_fastapi import jobs_router

# The services do not document 404 and 409, and their patterns refuse more than a document can say.
IGNORED = ["positive_data_acceptance", "status_code_conformance", "unsupported_method", "allow_header_conformance"]


@dataclass(frozen=True)
class Service:
    """An application and its OpenAPI document. `ignored` are the checks that it cannot pass."""

    app: Any
    document: dict[str, Any]
    ignored: tuple[str, ...] = ()


def fastapi_service(parts: Parts) -> Service:
    """The service in FastAPI, with the router that shows jobs."""
    app = on_fastapi.create_app(parts)
    app.include_router(jobs_router(allow_anonymous=True, show_payloads=True, prefix="/admin/jobs"))
    return Service(app, app.openapi())


def starlette_service(parts: Parts) -> Service:
    """The service in Starlette, which has no document: it has the same routes as the one in FastAPI, but two."""
    document = on_fastapi.create_app(parts).openapi()
    del document["paths"]["/records"]["get"], document["paths"]["/jobs"]
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)  # its format is FastAPI's own
    return Service(on_starlette.create_app(parts), document)


def litestar_service(parts: Parts) -> Service:
    """The service in Litestar, which accepts numbers as Decimals, though its document says that they are strings."""
    app = on_litestar.create_app(parts)
    return Service(app, app.openapi_schema.to_schema(), ("negative_data_rejection",))


@pytest.fixture(params=[fastapi_service, starlette_service, litestar_service], ids=lambda make: make.__name__)
def service(request: pytest.FixtureRequest, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """The service in each framework. No job runs, so a stream of events would not end: those routes are left out."""
    monkeypatch.setattr(domain, "REPORT_WITHIN", "10ms")
    make: Callable[[Parts], Service] = request.param
    made = make(parts)
    made.document["paths"] = {path: one for path, one in made.document["paths"].items() if "/events" not in path}
    yield made
    asgi.shutdown_lifespans()


def failures(service: Service, *, is_long: bool = False) -> list[Failure | Exception]:
    """Send requests, and return what the responses violate, and what the application raised."""
    untyped: Any = SchemathesisConfig  # its types are incomplete
    config = untyped.from_dict(
        {
            "checks": {name: {"enabled": False} for name in [*IGNORED, *service.ignored]},
            "generation": {"max-examples": 100 if is_long else 1, "deterministic": not is_long, "database": "none"},
            "phases": {"stateful": {"enabled": is_long}},
            "cache": {"enabled": False},
            "request-timeout": 60,  # a busy machine is no failure of the service
        }
    )
    # The documented format allows no fractions of seconds, which pydantic writes.
    text = to_json(service.document).decode().replace('"format":"duration"', '"title":"Duration"')
    schema = schemathesis.openapi.from_dict(json.loads(text), config=config)
    schema.app = service.app
    found: list[Failure | Exception] = []
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError):
            found.append(event.value)
        if isinstance(event, events.FatalError):
            found.append(event.exception)
        if isinstance(event, events.ScenarioFinished):
            checks = [check for checks in event.recorder.checks.values() for check in checks]
            found += [check.failure_info.failure for check in checks if check.failure_info is not None]
    return found


def test_no_request_breaks_a_service(service: Service) -> None:
    assert failures(service) == []


@pytest.mark.faults
def test_no_request_of_many_breaks_a_service(service: Service) -> None:
    assert failures(service, is_long=True) == []


def test_an_error_at_the_limit_of_a_parameter_is_found() -> None:
    app = FastAPI()

    @app.get("/")
    def divide(by: Annotated[int, Query(ge=0)] = 1) -> float:
        return 1 / by

    assert {type(failure) for failure in failures(Service(app, app.openapi()))} == {ZeroDivisionError}
    asgi.shutdown_lifespans()
