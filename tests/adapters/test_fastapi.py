"""The lifespan, the dependencies and the error responses in FastAPI."""

from __future__ import annotations

import signal
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from fastapi import APIRouter, BackgroundTasks, Body, Depends, FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.testclient import TestClient
from starlette.datastructures import State

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
from flowli_fastapi import JobsDep, JobsState, get_jobs, jobs_exception_handlers, jobs_lifespan, jobs_of
from tests.adapters.apps import PATIENCE, EventJobs, Events, OtherJobs, UnreachableDriver, WatchedDriver

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

JobsOf = Annotated[EventJobs, Depends(get_jobs)]


class AppRequest(Request[JobsState[EventJobs]]):
    """A class, because FastAPI does not accept a generic alias of Request."""


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


def test_the_inner_lifespan_is_entered_first_and_left_last() -> None:
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


def test_the_state_of_the_inner_lifespan_is_kept() -> None:
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


def test_an_error_in_the_inner_lifespan_reaches_the_server() -> None:
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


async def test_without_a_runner_enqueued_jobs_wait() -> None:
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


def test_with_a_runner_jobs_run() -> None:
    jobs = memory_jobs()
    is_done = threading.Event()
    runner = Runner(jobs, hooks=Hooks(on_job_completed=lambda _: is_done.set()))
    with TestClient(make_app(jobs_lifespan(jobs, runner=runner))) as client:
        job_id = client.post("/double/21").json()
        assert is_done.wait(PATIENCE)
        assert client.get(f"/job/{job_id}").json() == "completed"
        assert runner.health().is_running
    assert not runner.health().is_running


def test_a_runner_of_another_registry_is_refused_at_once() -> None:
    with pytest.raises(DefinitionError, match="another registry"):
        jobs_lifespan(memory_jobs(), Runner(OtherJobs(context=Events(), driver=MemoryDriver())))


def test_a_runner_without_a_driver_is_refused_at_once() -> None:
    jobs = EventJobs(context=Events())
    with pytest.raises(StrategyError, match="no driver"):
        jobs_lifespan(jobs, Runner(jobs))


def test_without_a_driver_run_still_works() -> None:
    with (
        TestClient(make_app(jobs_lifespan(EventJobs(context=Events())))) as client,
        client.websocket_connect("/doubles") as socket,
    ):
        socket.send_text("4")
        assert socket.receive_text() == "8"


def test_an_application_starts_while_the_store_is_unreachable() -> None:
    driver = UnreachableDriver()
    jobs = EventJobs(context=Events(), driver=driver)
    is_done = threading.Event()
    runner = Runner(jobs, hooks=Hooks(on_job_completed=lambda _: is_done.set()))
    with TestClient(make_app(jobs_lifespan(jobs, runner=runner))) as client:
        assert client.get("/ping").json() == "pong"
        with pytest.raises(StoreUnavailable, match="unreachable"):
            client.post("/double/1")
        driver.is_unreachable = False
        client.post("/double/1")
        assert is_done.wait(PATIENCE)


def test_an_application_stops_while_the_store_is_unreachable() -> None:
    jobs = EventJobs(context=Events(), driver=UnreachableDriver())
    runner = Runner(jobs)
    with TestClient(make_app(jobs_lifespan(jobs, runner=runner))) as client:
        assert client.get("/ping").json() == "pong"
    assert not runner.health().is_running


def test_an_application_with_an_unusable_store_does_not_start() -> None:
    class WrongDriver(MemoryDriver):
        async def open(self) -> None:
            raise DriverError("not a store of ours")

    jobs = EventJobs(context=Events(), driver=WrongDriver())
    with pytest.raises(DriverError, match="not a store of ours"), TestClient(make_app(jobs_lifespan(jobs))):
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


async def test_a_test_can_inject_another_registry() -> None:
    injected = memory_jobs()
    app = make_app(jobs_lifespan(memory_jobs()))
    app.dependency_overrides[get_jobs] = lambda: injected
    with TestClient(app) as client:
        job_id = client.post("/double/21").json()
    assert (await drain(injected)).completed == 1
    record = await injected.inspect.get_job(job_id)
    assert record is not None
    assert record.result == 42
    await injected.aclose()


def test_without_its_lifespan_a_route_raises_an_error_that_names_the_cure() -> None:
    client = TestClient(make_app(jobs_lifespan(memory_jobs())))
    with pytest.raises(StrategyError, match=r"lifespan=jobs_lifespan.*with TestClient"):
        client.post("/double/1")
    with pytest.raises(StrategyError, match=r"lifespan=jobs_lifespan"), client.websocket_connect("/doubles"):
        pass
    client.close()


async def test_signal_handlers_are_left_alone() -> None:
    def handlers() -> dict[int, object]:
        return {number: signal.getsignal(number) for number in signal.valid_signals()}

    before = handlers()
    jobs = memory_jobs()
    async with jobs_lifespan(jobs, runner=Runner(jobs))(FastAPI()):
        await jobs.double.enqueue(1)
        assert handlers() == before
    assert handlers() == before


def test_jobs_dep_injects_the_registry() -> None:
    app = FastAPI(lifespan=jobs_lifespan(memory_jobs()))
    router = APIRouter()

    @router.post("/double/{number}")
    async def enqueue(number: int, jobs: JobsDep[EventJobs]) -> str:
        return (await jobs.double.enqueue(number)).id

    app.include_router(router, prefix="/api")
    with TestClient(app) as client:
        assert client.post("/api/double/1").status_code == 200
        assert "jobs" not in client.get("/openapi.json").text, "not a parameter of the request"


def test_a_route_can_name_one_of_several_registries() -> None:
    first, second = memory_jobs(), OtherJobs(context=Events(), driver=MemoryDriver())
    app = FastAPI(lifespan=jobs_lifespan(first, inner=jobs_lifespan(second)))

    @app.get("/")
    async def look(
        one: Annotated[EventJobs, Depends(jobs_of(EventJobs))], other: Annotated[OtherJobs, Depends(jobs_of(OtherJobs))]
    ) -> list[bool]:
        return [one is first, other is second]

    @app.get("/which")
    async def which(jobs: JobsDep[EventJobs]) -> None:
        raise AssertionError(jobs)

    with TestClient(app) as client:
        assert client.get("/").json() == [True, True]
        with pytest.raises(StrategyError, match=r"2 registries here.*Depends\(jobs_of\(EventJobs\)\)"):
            client.get("/which")
        injected = OtherJobs(context=Events(), driver=MemoryDriver())
        app.dependency_overrides[jobs_of(OtherJobs)] = lambda: injected
        assert client.get("/").json() == [True, False]


def test_a_mounted_application_sees_the_registry_of_its_parent() -> None:
    app = FastAPI(lifespan=jobs_lifespan(memory_jobs()))
    app.mount("/sub", make_app())
    with TestClient(app) as client:
        job_id = client.post("/sub/double/1").json()
        assert client.get(f"/sub/job/{job_id}").json() == "queued"


async def test_a_background_task_can_enqueue_or_run_a_job() -> None:
    jobs = memory_jobs()
    app = FastAPI(lifespan=jobs_lifespan(jobs))

    @app.post("/later/{number}")
    async def later(number: int, jobs: JobsDep[EventJobs], background: BackgroundTasks) -> None:
        background.add_task(jobs.double.run, number)
        background.add_task(jobs.double.enqueue, number)

    with TestClient(app) as client:
        assert client.post("/later/21").status_code == 200
        assert client.portal is not None
        assert client.portal.call(jobs.inspect.get_queue_counts).queued == 1


@pytest.mark.skipif(not hasattr(State, "__getitem__"), reason="Starlette can do this from 0.52 on")
def test_the_lifespan_state_is_typed() -> None:
    jobs = memory_jobs()
    app = FastAPI(lifespan=jobs_lifespan(jobs))

    @app.get("/")
    async def look(request: AppRequest) -> list[bool]:
        state = request.state
        return [state["jobs"] is jobs, state["jobs_runner"] is None]

    with TestClient(app) as client:
        assert client.get("/").json() == [True, True]


def test_errors_have_the_format_of_fastapis_own() -> None:
    driver = UnreachableDriver()
    jobs = EventJobs(context=Events(), driver=driver)
    app = make_app(jobs_lifespan(jobs))
    for kind, handler in jobs_exception_handlers().items():
        app.add_exception_handler(kind, handler)

    @app.post("/double")
    async def anything(jobs: JobsDep[EventJobs], body: Annotated[Any, Body()]) -> None:
        await jobs.double.enqueue(body)

    with TestClient(app) as client:
        response = client.post("/double/1")
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
        assert client.get("/ping").json() == "pong"
        driver.is_unreachable = False
        assert client.post("/double/1").status_code == 200
        (place,) = client.post("/double", json="secret").json()["detail"]
        assert (place["loc"], place["type"]) == (["job"], "value_error")
        assert "secret" not in place["msg"]
        (place,) = client.get("/job/%20").json()["detail"]
        assert place["loc"] == ["job"]


def test_a_websocket_that_sends_an_invalid_input_is_closed() -> None:
    app = FastAPI(lifespan=jobs_lifespan(memory_jobs()), exception_handlers=jobs_exception_handlers())

    @app.websocket("/doubles")
    async def doubles(websocket: WebSocket, jobs: JobsDep[EventJobs]) -> None:
        await websocket.accept()
        text: Any = await websocket.receive_text()
        await jobs.double.enqueue(text)
        await websocket.close(1000)

    with TestClient(app) as client, client.websocket_connect("/doubles") as socket:
        socket.send_text("nonsense")
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
    assert closed.value.code == 1008
