"""The lifespan and the dependency, as an application sees them."""

from __future__ import annotations

import signal
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Request, WebSocket
from fastapi.testclient import TestClient

from flowli_core import (
    DefinitionError,
    DriverError,
    Hooks,
    Runner,
    StoreUnavailable,
    StrategyError,
)
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import drain
from flowli_fastapi import get_jobs, jobs_lifespan
from tests.adapters.apps import PATIENCE, AbsentDriver, EventJobs, Events, OtherJobs, WatchedDriver

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

JobsOf = Annotated[EventJobs, Depends(get_jobs)]


def make_app(lifespan: Any = None) -> FastAPI:
    app = FastAPI(lifespan=lifespan)

    @app.get("/ping")
    async def ping() -> str:
        return "pong"

    @app.post("/double/{number}")
    async def enqueue(number: int, jobs: JobsOf) -> str:
        return (await jobs.double.enqueue(number)).id

    @app.get("/job/{job_id}")
    async def look(job_id: str, jobs: JobsOf) -> str | None:
        record = await jobs.inspect.get_job(job_id)
        return record.state if record else None

    @app.websocket("/doubles")
    async def doubles(websocket: WebSocket, jobs: JobsOf) -> None:
        await websocket.accept()
        await websocket.send_text(str(await jobs.double.run(int(await websocket.receive_text()))))
        await websocket.close()

    return app


def memory_jobs() -> EventJobs:
    return EventJobs(context=Events(), driver=MemoryDriver())


def test_the_scopes_nest_with_the_given_lifespan_outside() -> None:
    log: list[str] = []

    @asynccontextmanager
    async def inner(app: FastAPI) -> AsyncGenerator[None]:
        log.append(f"inner entered with {app.title}")
        yield
        log.append("inner left")

    @asynccontextmanager
    async def context() -> AsyncGenerator[Events]:
        log.append("context opened")
        yield Events(log)
        log.append("context closed")

    jobs = EventJobs(context=context, driver=WatchedDriver(log))
    app = make_app(jobs_lifespan(jobs, inner=inner))
    with TestClient(app) as client:
        assert client.get("/ping").json() == "pong"
        log.append("served")
    assert log == [
        f"inner entered with {app.title}",
        "driver opened",
        "context opened",
        "served",
        "context closed",
        "driver closed",
        "inner left",
    ]


def test_the_state_of_the_given_lifespan_is_kept() -> None:
    @asynccontextmanager
    async def inner(_: FastAPI) -> AsyncGenerator[dict[str, str]]:
        yield {"database": "open"}

    jobs = memory_jobs()
    app = FastAPI(lifespan=jobs_lifespan(jobs, inner=inner))

    @app.get("/")
    async def look(request: Request) -> list[Any]:
        return [request.state.database, request.state.jobs is jobs]

    with TestClient(app) as client:
        assert client.get("/").json() == ["open", True]


def test_what_the_given_lifespan_raises_reaches_the_server() -> None:
    log: list[str] = []

    def connect() -> None:
        raise RuntimeError("no database")

    @asynccontextmanager
    async def inner(_: FastAPI) -> AsyncGenerator[None]:
        connect()
        yield

    jobs = EventJobs(context=Events(log), driver=WatchedDriver(log))
    with pytest.raises(RuntimeError, match="no database"), TestClient(make_app(jobs_lifespan(jobs, inner=inner))):
        pass
    assert log == []


async def test_without_a_runner_jobs_are_enqueued_and_wait() -> None:
    driver = MemoryDriver()
    jobs = EventJobs(context=Events(), driver=driver)
    with TestClient(make_app(jobs_lifespan(jobs))) as client:
        job_id = client.post("/double/21").json()
        assert client.get(f"/job/{job_id}").json() == "queued"
    async with EventJobs(context=Events(), driver=driver) as later:
        await drain(later)
        record = await later.inspect.get_job(job_id)
    assert record is not None
    assert record.result == 42


def test_with_a_runner_jobs_are_run() -> None:
    jobs = memory_jobs()
    is_done = threading.Event()
    runner = Runner(jobs, hooks=Hooks(on_job_completed=lambda _: is_done.set()))
    with TestClient(make_app(jobs_lifespan(jobs, runner=runner))) as client:
        job_id = client.post("/double/21").json()
        assert is_done.wait(PATIENCE)
        assert client.get(f"/job/{job_id}").json() == "completed"
        assert runner.health().is_running
    assert not runner.health().is_running


def test_a_runner_of_another_registry_is_refused() -> None:
    log: list[str] = []

    @asynccontextmanager
    async def inner(_: FastAPI) -> AsyncGenerator[None]:
        log.append("entered")
        try:
            yield
        finally:
            log.append("left")

    runner = Runner(OtherJobs(context=Events(), driver=MemoryDriver()))
    app = make_app(jobs_lifespan(memory_jobs(), runner=runner, inner=inner))
    with pytest.raises(DefinitionError, match="another registry"), TestClient(app):
        pass
    assert log == ["entered", "left"]


def test_a_runner_without_a_driver_is_refused() -> None:
    jobs = EventJobs(context=Events())
    app = make_app(jobs_lifespan(jobs, runner=Runner(jobs)))
    with pytest.raises(StrategyError, match="no driver"), TestClient(app):
        pass


def test_without_a_driver_run_still_works() -> None:
    with (
        TestClient(make_app(jobs_lifespan(EventJobs(context=Events())))) as client,
        client.websocket_connect("/doubles") as socket,
    ):
        socket.send_text("4")
        assert socket.receive_text() == "8"


def test_a_store_that_is_away_does_not_keep_the_application_from_starting() -> None:
    driver = AbsentDriver()
    jobs = EventJobs(context=Events(), driver=driver)
    is_done = threading.Event()
    runner = Runner(jobs, hooks=Hooks(on_job_completed=lambda _: is_done.set()))
    with TestClient(make_app(jobs_lifespan(jobs, runner=runner))) as client:
        assert client.get("/ping").json() == "pong"
        with pytest.raises(StoreUnavailable, match="away"):
            client.post("/double/1")
        driver.is_absent = False
        client.post("/double/1")
        assert is_done.wait(PATIENCE)


def test_an_application_whose_store_never_came_still_stops() -> None:
    jobs = EventJobs(context=Events(), driver=AbsentDriver())
    runner = Runner(jobs)
    with TestClient(make_app(jobs_lifespan(jobs, runner=runner))) as client:
        assert client.get("/ping").json() == "pong"
    assert not runner.health().is_running


def test_a_store_that_can_never_be_used_keeps_the_application_from_starting() -> None:
    class WrongDriver(MemoryDriver):
        async def open(self) -> None:
            raise DriverError("this is no store of ours")

    jobs = EventJobs(context=Events(), driver=WrongDriver())
    with pytest.raises(DriverError, match="no store of ours"), TestClient(make_app(jobs_lifespan(jobs))):
        pass


def test_a_route_gets_the_registry_of_its_own_application() -> None:
    first, second = memory_jobs(), memory_jobs()
    with (
        TestClient(make_app(jobs_lifespan(first))) as one,
        TestClient(make_app(jobs_lifespan(second))) as other,
    ):
        job_id = one.post("/double/1").json()
        assert one.get(f"/job/{job_id}").json() == "queued"
        assert other.get(f"/job/{job_id}").json() is None


def test_a_websocket_gets_the_registry() -> None:
    with TestClient(make_app(jobs_lifespan(memory_jobs()))) as client, client.websocket_connect("/doubles") as socket:
        socket.send_text("21")
        assert socket.receive_text() == "42"


async def test_a_test_may_give_another_registry() -> None:
    given = memory_jobs()
    app = make_app(jobs_lifespan(memory_jobs()))
    app.dependency_overrides[get_jobs] = lambda: given
    with TestClient(app) as client:
        job_id = client.post("/double/21").json()
    assert (await drain(given)).completed == 1
    record = await given.inspect.get_job(job_id)
    assert record is not None
    assert record.result == 42
    await given.aclose()


def test_without_its_lifespan_a_route_says_what_is_missing() -> None:
    client = TestClient(make_app(jobs_lifespan(memory_jobs())))
    with pytest.raises(StrategyError, match=r"lifespan=jobs_lifespan.*with TestClient"):
        client.post("/double/1")
    with pytest.raises(StrategyError, match=r"lifespan=jobs_lifespan"), client.websocket_connect("/doubles"):
        pass
    client.close()


async def test_no_signal_handler_is_touched() -> None:
    def handlers() -> dict[int, object]:
        return {number: signal.getsignal(number) for number in signal.valid_signals()}

    before = handlers()
    jobs = memory_jobs()
    async with jobs_lifespan(jobs, runner=Runner(jobs))(FastAPI()):
        await jobs.double.enqueue(1)
        assert handlers() == before
    assert handlers() == before
