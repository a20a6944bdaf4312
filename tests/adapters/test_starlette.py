"""The registry in Starlette: lifespan, middleware, mounted apps, several registries, errors."""

from __future__ import annotations

import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from flowli_core import DefinitionError, Hooks, JobEvent, Runner, StrategyError
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.drivers.redis import RedisDriver
from flowli_core.drivers.sqlite import SqliteDriver
from flowli_starlette import JobsMiddleware, get_jobs, jobs_exception_handlers, jobs_lifespan
from tests.adapters.apps import PATIENCE, EventJobs, Events, OtherJobs, UnreachableDriver
from tests.redis.server import clean_up, fresh_prefix, shared_url

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from starlette.requests import Request

    from flowli_core.driver import Driver


async def enqueue(request: Request) -> JSONResponse:
    jobs = get_jobs(request, EventJobs)
    return JSONResponse((await jobs.double.enqueue(request.path_params["number"])).id)


async def enqueue_body(request: Request) -> JSONResponse:
    body: Any = await request.json()
    return JSONResponse((await get_jobs(request, EventJobs).double.enqueue(body)).id)


async def look(request: Request) -> JSONResponse:
    record = await get_jobs(request, EventJobs).inspect.get_job(request.path_params["job_id"])
    return JSONResponse(record.state if record else None)


async def which(request: Request) -> JSONResponse:
    """Return the name of the registry that a handler gets if it names no class."""
    return JSONResponse([type(get_jobs(request)).__name__, type(request.state.jobs).__name__])


async def doubles(websocket: WebSocket) -> None:
    await websocket.accept()
    jobs = get_jobs(websocket, EventJobs)
    async for text in websocket.iter_text():
        await jobs.double.enqueue(int(text))
        await websocket.send_text("enqueued")


ROUTES = [
    Route("/double/{number:int}", enqueue, methods=["POST"]),
    Route("/double", enqueue_body, methods=["POST"]),
    Route("/job/{job_id}", look),
    Route("/which", which),
    WebSocketRoute("/doubles", doubles),
]


def memory_jobs() -> EventJobs:
    return EventJobs(context=Events(), driver=MemoryDriver())


def other_jobs() -> OtherJobs:
    return OtherJobs(context=Events(), driver=MemoryDriver())


def test_a_request_enqueues_and_the_runner_runs_it() -> None:
    jobs, is_done = memory_jobs(), threading.Event()
    runner = Runner(jobs, hooks=Hooks(on_job_completed=lambda _: is_done.set()))
    with TestClient(Starlette(routes=ROUTES, lifespan=jobs_lifespan(jobs, runner))) as client:
        job_id = client.post("/double/21").json()
        assert is_done.wait(PATIENCE)
        assert client.get(f"/job/{job_id}").json() == "completed"


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis"])
def test_an_application_can_be_started_again(kind: str, tmp_path: Path) -> None:
    """A test suite does this if each test enters the client: another event loop, the same registry."""
    drivers: dict[str, Driver] = {
        "memory": MemoryDriver(),
        "sqlite": SqliteDriver(tmp_path / "jobs.sqlite3"),
        "redis": RedisDriver.from_url(shared_url(), prefix=fresh_prefix()),
    }
    is_done = threading.Event()
    made: list[Events] = []

    def context() -> Events:
        made.append(Events())
        return made[-1]

    jobs = EventJobs(context=context, driver=drivers[kind])
    runner = Runner(jobs, hooks=Hooks(on_job_completed=lambda _: is_done.set()))
    app = Starlette(routes=ROUTES, lifespan=jobs_lifespan(jobs, runner))
    for number in range(3):
        is_done.clear()
        with TestClient(app) as client:
            job_id = client.post(f"/double/{number}").json()
            assert is_done.wait(PATIENCE)
            assert client.get(f"/job/{job_id}").json() == "completed"
    assert [events.log for events in made] == [["double 0"], ["double 1"], ["double 2"]]
    if kind == "redis":
        clean_up()


def test_the_registry_is_closed_between_two_starts() -> None:
    jobs = memory_jobs()
    with TestClient(Starlette(routes=ROUTES, lifespan=jobs_lifespan(jobs))) as client:
        client.post("/double/1")
    attached = Starlette(routes=ROUTES, middleware=[Middleware(JobsMiddleware, jobs=jobs)])
    with TestClient(attached) as client, pytest.raises(StrategyError, match="closed"):
        client.post("/double/1")


def test_one_registry_is_not_open_in_two_applications_at_once() -> None:
    jobs = memory_jobs()
    app = Starlette(routes=ROUTES, lifespan=jobs_lifespan(jobs, Runner(jobs)))
    twice = Starlette(lifespan=jobs_lifespan(jobs, Runner(jobs)))
    with TestClient(app) as client:
        with pytest.raises(StrategyError, match="this EventJobs is open already"), TestClient(twice):
            pass
        assert client.post("/double/1").status_code == 200
    with TestClient(twice):
        pass


def test_without_its_lifespan_a_request_raises_an_error_that_names_the_cure() -> None:
    client = TestClient(Starlette(routes=ROUTES, lifespan=jobs_lifespan(memory_jobs())))
    with pytest.raises(StrategyError, match=r"lifespan=jobs_lifespan.*JobsMiddleware.*with TestClient"):
        client.post("/double/1")
    client.close()


def test_the_lifespans_of_two_registries_compose() -> None:
    first, second = memory_jobs(), other_jobs()

    @asynccontextmanager
    async def innermost(_: Starlette) -> AsyncGenerator[dict[str, str]]:
        yield {"database": "open"}

    async def look_at_all(request: Request) -> JSONResponse:
        found = [get_jobs(request, EventJobs) is first, get_jobs(request, OtherJobs) is second]
        return JSONResponse([*found, request.state.jobs is first, request.state.database])

    lifespan = jobs_lifespan(first, inner=jobs_lifespan(second, inner=innermost))
    with TestClient(Starlette(routes=[*ROUTES, Route("/all", look_at_all)], lifespan=lifespan)) as client:
        assert client.get("/all").json() == [True, True, True, "open"]
        with pytest.raises(StrategyError, match=r"2 registries here \(EventJobs, OtherJobs\).*get_jobs\(connection, "):
            client.get("/which")


def test_each_of_two_registries_has_its_runner() -> None:
    done: list[str] = []
    both = threading.Semaphore(0)

    def note(name: str) -> Hooks:
        def on_job_completed(_: JobEvent) -> None:
            done.append(name)
            both.release()

        return Hooks(on_job_completed=on_job_completed)

    first, second = memory_jobs(), other_jobs()
    inner = jobs_lifespan(second, Runner(second, hooks=note("second")))
    lifespan = jobs_lifespan(first, Runner(first, hooks=note("first")), inner)

    async def enqueue_both(request: Request) -> JSONResponse:
        await get_jobs(request, EventJobs).double.enqueue(1)
        await get_jobs(request, OtherJobs).double.enqueue(1)
        return JSONResponse(None)

    with TestClient(Starlette(routes=[Route("/", enqueue_both)], lifespan=lifespan)) as client:
        client.get("/")
        for _ in range(2):
            assert both.acquire(timeout=PATIENCE)
    assert sorted(done) == ["first", "second"]


def test_the_error_for_a_missing_registry_names_its_class() -> None:
    with (
        TestClient(Starlette(routes=ROUTES, lifespan=jobs_lifespan(other_jobs()))) as client,
        pytest.raises(StrategyError, match=r"no EventJobs among the registries of this app \(OtherJobs\)"),
    ):
        client.post("/double/1")


def test_a_lifespan_of_the_users_own_may_provide_the_registry() -> None:
    jobs = memory_jobs()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[dict[str, EventJobs]]:
        async with jobs:
            yield {"jobs": jobs}

    with TestClient(Starlette(routes=ROUTES, lifespan=lifespan)) as client:
        job_id = client.post("/double/1").json()
        assert client.get(f"/job/{job_id}").json() == "queued"


def test_a_mounted_application_sees_the_registry_of_its_parent() -> None:
    """The mounted application's own lifespan never runs."""
    entered: list[str] = []

    @asynccontextmanager
    async def never(_: Starlette) -> AsyncGenerator[None]:
        entered.append("mounted")
        yield

    mounted = Starlette(routes=ROUTES, lifespan=never)
    app = Starlette(routes=[Mount("/sub", mounted), *ROUTES], lifespan=jobs_lifespan(memory_jobs()))
    with TestClient(app) as client:
        job_id = client.post("/sub/double/1").json()
        assert client.get(f"/job/{job_id}").json() == "queued"
        with client.websocket_connect("/sub/doubles") as socket:
            socket.send_text("1")
            assert socket.receive_text() == "enqueued"
    assert entered == []


async def test_the_middleware_needs_no_lifespan() -> None:
    jobs = memory_jobs()
    app = Starlette(routes=ROUTES, middleware=[Middleware(JobsMiddleware, jobs=jobs)])
    with TestClient(app) as client:
        job_id = client.post("/double/1").json()
        assert client.get(f"/job/{job_id}").json() == "queued"
        assert client.get("/which").json() == ["EventJobs", "EventJobs"]
        with client.websocket_connect("/doubles") as socket:
            socket.send_text("1")
            assert socket.receive_text() == "enqueued"
    assert (await jobs.inspect.get_queue_counts()).queued == 2
    await jobs.aclose()


def test_the_middleware_of_a_mounted_application_comes_before_the_parents_registry() -> None:
    mounted = Starlette(routes=ROUTES, middleware=[Middleware(JobsMiddleware, jobs=other_jobs())])
    app = Starlette(routes=[Mount("/sub", mounted), *ROUTES], lifespan=jobs_lifespan(memory_jobs()))
    with TestClient(app) as client:
        assert client.get("/sub/which").json() == ["OtherJobs", "OtherJobs"]
        assert client.get("/which").json() == ["EventJobs", "EventJobs"]
        assert client.post("/sub/double/1").status_code == 200, "the class still finds the parent's registry"


async def test_if_a_server_shares_one_state_among_requests_a_mounted_registry_stays_inside() -> None:
    """Hypercorn shares it."""
    first, second = memory_jobs(), other_jobs()
    seen: list[object] = []

    async def note(scope: Any, _: Any, __: Any) -> None:
        seen.append(scope["state"]["jobs"])

    nothing: Any = None
    shared = {"jobs": first}
    await JobsMiddleware(note, jobs=second)({"type": "http", "state": shared}, nothing, nothing)
    await note({"state": shared}, nothing, nothing)
    assert seen == [second, first]


def test_anything_but_a_registry_is_refused_at_once() -> None:
    not_a_registry: Any = EventJobs
    with pytest.raises(DefinitionError, match="must be an instance of a registry"):
        JobsMiddleware(Starlette(), jobs=not_a_registry)


@pytest.fixture
def guarded() -> tuple[TestClient, UnreachableDriver]:
    driver = UnreachableDriver()
    app = Starlette(
        routes=ROUTES,
        middleware=[Middleware(JobsMiddleware, jobs=EventJobs(context=Events(), driver=driver))],
        exception_handlers=jobs_exception_handlers(),
    )
    return TestClient(app), driver


def test_an_unreachable_store_is_a_503_with_retry_after(
    guarded: tuple[TestClient, UnreachableDriver], caplog: pytest.LogCaptureFixture
) -> None:
    client, driver = guarded
    response = client.post("/double/1")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert response.json() == {"detail": "the job store is unreachable, try again in a moment"}
    assert "the store is unreachable" in caplog.text
    driver.is_unreachable = False
    assert client.post("/double/1").status_code == 200


def test_an_invalid_input_is_a_422_that_does_not_repeat_it(guarded: tuple[TestClient, UnreachableDriver]) -> None:
    client, _ = guarded
    response = client.post("/double", json="secret")
    assert response.status_code == 422
    assert [issue["path"] for issue in response.json()["issues"]] == [""]
    assert "int" in response.text
    assert "secret" not in response.text


def test_a_websocket_is_closed_while_the_store_is_unreachable(guarded: tuple[TestClient, UnreachableDriver]) -> None:
    client, _ = guarded
    with client.websocket_connect("/doubles") as socket:
        socket.send_text("1")
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
    assert closed.value.code == 1013
