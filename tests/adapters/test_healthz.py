"""Readiness as a load balancer sees it."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from flowli_core import Hooks, Runner
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.healthz import Healthz
from flowli_starlette import jobs_lifespan
from tests.adapters.apps import PATIENCE, AbsentDriver, BuggyDriver, EventJobs, Events

TURNS = 20_000


def served(jobs: EventJobs, runner: Runner | None = None, *, errors: bool = False) -> TestClient:
    routes = [Route("/healthz", Healthz(jobs, errors=errors))]
    return TestClient(Starlette(routes=routes, lifespan=jobs_lifespan(jobs, runner)))


def until_status(client: TestClient, status: int) -> dict[str, Any]:
    """Ask until it is so. Each question is a turn of the server's event loop."""
    for _ in range(TURNS):
        answer = client.get("/healthz", follow_redirects=False)
        if answer.status_code == status:
            said: dict[str, Any] = answer.json()
            return said
    pytest.fail(f"never {status}")


def test_it_is_ready_once_the_runner_has_reserved() -> None:
    jobs = EventJobs(context=Events(), driver=MemoryDriver())
    with served(jobs, Runner(jobs)) as client:
        said = until_status(client, 200)
    assert (said["status"], said["restarts"]) == ("ready", 0)
    assert said["since_reserve"] >= 0


def test_it_is_not_ready_while_the_runner_cannot_reserve() -> None:
    driver = AbsentDriver()
    jobs = EventJobs(context=Events(), driver=driver)
    with served(jobs, Runner(jobs)) as client:
        assert client.get("/healthz").json() == {"status": "not ready", "restarts": 0, "since_reserve": None}
        driver.is_absent = False
        until_status(client, 200)
        driver.is_absent = True
        assert until_status(client, 503)["since_reserve"] >= 0
        driver.is_absent = False
        until_status(client, 200)


def test_it_is_not_ready_while_the_runner_is_down_and_counts_the_restarts() -> None:
    fell = threading.Semaphore(0)

    class Driver(BuggyDriver):
        def on_crash(self) -> None:
            fell.release()

    driver, is_done = Driver(), threading.Event()
    jobs = EventJobs(context=Events(), driver=driver)
    with served(jobs, Runner(jobs, hooks=Hooks(on_job_completed=lambda _: is_done.set())), errors=True) as client:
        assert fell.acquire(timeout=PATIENCE)
        assert "ValueError" in until_status(client, 503)["last_error"]
        driver.is_buggy = False
        said = until_status(client, 200)
        assert said["restarts"] == driver.crashes
        assert client.portal is not None
        client.portal.call(jobs.double.enqueue, 1)
        assert is_done.wait(PATIENCE)


def test_what_is_wrong_is_told_only_where_that_was_asked_for() -> None:
    jobs = EventJobs(context=Events(), driver=AbsentDriver())
    with served(jobs, Runner(jobs)) as client:
        assert "away" not in client.get("/healthz").text
    with served(jobs, Runner(jobs), errors=True) as client:
        said: set[str | None] = set()
        while said <= {None}:
            said.add(client.get("/healthz", follow_redirects=False).json()["last_error"])
        assert said - {None} == {"StoreUnavailable: the store is away"}


def test_an_application_that_only_enqueues_is_ready_while_it_is_open() -> None:
    jobs = EventJobs(context=Events(), driver=MemoryDriver())
    with served(jobs) as client:
        assert client.get("/healthz").json() == {"status": "ready"}
    answer = TestClient(Healthz(jobs)).get("/")
    assert (answer.status_code, answer.json()) == (503, {"status": "closed"})


def test_only_get_and_head_are_answered() -> None:
    jobs = EventJobs(context=Events(), driver=MemoryDriver())
    with served(jobs) as client:
        head = client.head("/healthz")
        assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "19")
        post = client.post("/healthz")
        assert (post.status_code, post.headers["allow"]) == (405, "GET, HEAD")
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/healthz"):
            pass


async def test_it_is_no_application_of_its_own() -> None:
    nothing: Any = None
    with pytest.raises(NotImplementedError, match="mount it"):
        await Healthz(EventJobs(context=Events()))({"type": "lifespan"}, nothing, nothing)
