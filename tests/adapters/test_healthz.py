"""Readiness as a load balancer sees it."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from flowli_core import Hooks, Runner
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.healthz import Healthz
from flowli_core.stored import Found, RecordQuery
from flowli_starlette import jobs_lifespan
from tests.adapters.apps import PATIENCE, BuggyDriver, EventJobs, Events, UnreachableDriver

TURNS = 20_000


def served(jobs: EventJobs, runner: Runner | None = None, *, errors: bool = False) -> TestClient:
    routes = [Route("/healthz", Healthz(jobs, errors=errors))]
    return TestClient(Starlette(routes=routes, lifespan=jobs_lifespan(jobs, runner)))


def until_status(client: TestClient, status: int) -> dict[str, Any]:
    """Request until the status is this one. Each request is an iteration of the server's event loop."""
    for _ in range(TURNS):
        response = client.get("/healthz", follow_redirects=False)
        if response.status_code == status:
            body: dict[str, Any] = response.json()
            return body
    pytest.fail(f"never {status}")


def test_healthz_is_ready_once_the_runner_has_reserved() -> None:
    jobs = EventJobs(context=Events(), driver=MemoryDriver())
    with served(jobs, Runner(jobs)) as client:
        body = until_status(client, 200)
    assert (body["status"], body["restarts"]) == ("ready", 0)
    assert body["since_reserve"] >= 0


def test_healthz_is_not_ready_while_the_runner_cannot_reserve() -> None:
    driver = UnreachableDriver()
    jobs = EventJobs(context=Events(), driver=driver)
    with served(jobs, Runner(jobs)) as client:
        body = client.get("/healthz").json()
        assert body.pop("reason")
        assert body == {"status": "not ready", "restarts": 0, "since_reserve": None}
        driver.is_unreachable = False
        until_status(client, 200)
        driver.is_unreachable = True
        assert until_status(client, 503)["since_reserve"] >= 0
        driver.is_unreachable = False
        until_status(client, 200)


def test_healthz_is_not_ready_while_the_runner_is_down_and_counts_the_restarts() -> None:
    crashed = threading.Semaphore(0)

    class Driver(BuggyDriver):
        def on_crash(self) -> None:
            crashed.release()

    driver, is_done = Driver(), threading.Event()
    jobs = EventJobs(context=Events(), driver=driver)
    with served(jobs, Runner(jobs, hooks=Hooks(on_job_completed=lambda _: is_done.set())), errors=True) as client:
        assert crashed.acquire(timeout=PATIENCE)
        assert "ValueError" in until_status(client, 503)["last_error"]
        driver.is_buggy = False
        body = until_status(client, 200)
        assert body["restarts"] == driver.crashes
        assert client.portal is not None
        client.portal.call(jobs.double.enqueue, 1)
        assert is_done.wait(PATIENCE)


def test_errors_are_in_the_body_only_on_request() -> None:
    jobs = EventJobs(context=Events(), driver=UnreachableDriver())
    with served(jobs, Runner(jobs)) as client:
        assert "unreachable" not in client.get("/healthz").text
    with served(jobs, Runner(jobs), errors=True) as client:
        errors: set[str | None] = set()
        while errors <= {None}:
            errors.add(client.get("/healthz", follow_redirects=False).json()["last_error"])
        assert errors - {None} == {"StoreUnavailable: the store is unreachable"}


def test_an_application_that_only_enqueues_is_not_ready_while_its_store_is_unreachable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flowli_core.healthz._ANSWER_KEPT", 0)
    driver = UnreachableDriver()
    driver.is_unreachable = False
    jobs = EventJobs(context=Events(), driver=driver)
    with served(jobs, errors=True) as client:
        assert client.get("/healthz").json() == {"status": "ready"}
        driver.is_unreachable = True
        response = client.get("/healthz")
        assert (response.status_code, response.json()) == (
            503,
            {
                "status": "not ready",
                "reason": "the store does not answer",
                "last_error": "StoreUnavailable: the store is unreachable",
            },
        )
        driver.is_unreachable = False
        until_status(client, 200)


def test_the_store_is_asked_at_most_once_a_second() -> None:
    driver = UnreachableDriver()
    driver.is_unreachable = False
    jobs = EventJobs(context=Events(), driver=driver)
    with served(jobs) as client:
        assert client.get("/healthz").status_code == 200
        driver.is_unreachable = True
        assert client.get("/healthz").status_code == 200


def test_a_store_that_does_not_answer_in_time_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowli_core.healthz._ANSWER_WITHIN", timedelta(milliseconds=10))

    class HungDriver(MemoryDriver):
        async def records(self, query: RecordQuery) -> Found:
            await asyncio.sleep(PATIENCE)
            return await super().records(query)

    with served(EventJobs(context=Events(), driver=HungDriver()), errors=True) as client:
        body = client.get("/healthz").json()
    assert body["last_error"] == "the store did not answer within 10ms"


def test_an_application_that_only_enqueues_is_ready_while_it_is_open() -> None:
    jobs = EventJobs(context=Events(), driver=MemoryDriver())
    with served(jobs) as client:
        assert client.get("/healthz").json() == {"status": "ready"}
    response = TestClient(Healthz(jobs)).get("/")
    assert (response.status_code, response.json()) == (503, {"status": "closed"})


def test_only_get_and_head_are_answered() -> None:
    jobs = EventJobs(context=Events(), driver=MemoryDriver())
    with served(jobs) as client:
        head = client.head("/healthz")
        assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "19")
        post = client.post("/healthz")
        assert (post.status_code, post.headers["allow"]) == (405, "GET, HEAD")
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/healthz"):
            pass


async def test_healthz_refuses_to_be_the_whole_application() -> None:
    nothing: Any = None
    with pytest.raises(NotImplementedError, match="mount it"):
        await Healthz(EventJobs(context=Events()))({"type": "lifespan"}, nothing, nothing)
