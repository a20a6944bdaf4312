"""The service in each framework, and a payment that its tests send."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import litestar.testing
import starlette.testclient

import examples.records_service.on_fastapi.app as on_fastapi
import examples.records_service.on_litestar.app as on_litestar
import examples.records_service.on_starlette.app as on_starlette
from examples.records_service.domain.service import Parts
from flowli_core import RunCounts
from flowli_core.testing import drain

PAYMENT = {
    "reference": "INV-2025-0001",
    "name": "Zoë Ångström",
    "email": "zoe@example.org",
    "amount": "12.50",
    "currency": "EUR",
    "booked_on": "2025-02-28",
}


@dataclass(frozen=True)
class Framework:
    """The functions that make and call an application. `refusal` is its status for an invalid body."""

    create_app: Callable[[Parts], Any]
    client: Callable[[Any], Any]
    drained: Callable[[Any, Parts], RunCounts]
    refusal: int


def drained_in_portal(client: Any, parts: Parts) -> RunCounts:
    """Run the jobs that are due, on the service's event loop."""
    counts: RunCounts = client.portal.call(drain, parts.jobs)
    return counts


def drained_beside_litestar(client: Any, parts: Parts) -> RunCounts:
    """Run the jobs that are due, on the service's event loop."""
    with client.portal() as portal:
        counts: RunCounts = portal.call(drain, parts.jobs)
        return counts


FRAMEWORKS = {
    "fastapi": Framework(
        create_app=on_fastapi.create_app,
        client=starlette.testclient.TestClient,
        drained=drained_in_portal,
        refusal=422,
    ),
    "starlette": Framework(
        create_app=on_starlette.create_app,
        client=starlette.testclient.TestClient,
        drained=drained_in_portal,
        refusal=422,
    ),
    "litestar": Framework(
        create_app=on_litestar.create_app,
        client=litestar.testing.TestClient,
        drained=drained_beside_litestar,
        refusal=400,
    ),
}


def post(client: Any, **changes: str) -> dict[str, Any]:
    answer = client.post("/records", json={**PAYMENT, **changes}, headers={"X-Request-ID": "req_1"})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made
