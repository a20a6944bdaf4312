"""The routes of one job: it is started, shows its state, and sends its changes as events."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount

import flowli_fastapi
import flowli_litestar
import flowli_starlette
from flowli_core import Defaults, DefinitionError, Jobs, Keep, ValidationError, job
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import drain
from tests.adapters.apps import UnreachableDriver
from tests.adapters.exchange import Event, Exchange, request, send
from tests.adapters.job_apps import ADA, EVE, ReportJobs, declared_app, make_app, user_of

if TYPE_CHECKING:
    from flowli_core.stored import Watch

BODY = {"customer": "Ada"}
UNREAD = "unread"


class WatchedDriver(MemoryDriver):
    """A store that notes which records are watched no longer."""

    def __init__(self) -> None:
        super().__init__()
        self.left: asyncio.Queue[str] = asyncio.Queue()

    async def watch(self, watch: Watch) -> list[str]:
        for removed in watch.remove:
            self.left.put_nowait(removed)
        return await super().watch(watch)


@job(name="count")
async def count_in_words() -> str:
    return "three"


@job(name="count")
async def count() -> int:
    return 3


class Before(Jobs[None]):
    count = count_in_words


class After(Jobs[None]):
    count = count


@pytest.fixture
async def driver() -> WatchedDriver:
    return WatchedDriver()


@pytest.fixture
async def jobs(driver: WatchedDriver) -> AsyncIterator[ReportJobs]:
    async with ReportJobs(context=None, driver=driver) as jobs:
        yield jobs


@pytest.fixture(params=["starlette", "fastapi", "litestar"])
def app(request: pytest.FixtureRequest, jobs: ReportJobs) -> Any:
    return make_app(request.param, jobs)


async def start(app: Any, body: object = None) -> str:
    """Start a job of Ada's, and return its path."""
    status, headers, _ = await send(app, "POST", "/reports", headers=ADA, body=body or BODY)
    assert status == 202
    return headers["location"]


def follow(app: Any, path: str, *, last: str | None = None) -> Any:
    return request(app, "GET", f"{path}/events", headers=ADA if last is None else {**ADA, "Last-Event-ID": last})


async def rest_of(exchange: Exchange) -> list[Event]:
    events: list[Event] = []
    while event := await exchange.event():
        events.append(event)
    return events


async def test_a_started_job_is_found_at_its_location(app: Any, jobs: ReportJobs) -> None:
    status, headers, receipt = await send(app, "POST", "/reports", headers=ADA, body=BODY)
    assert (status, headers["retry-after"], headers["cache-control"]) == (202, "1", "no-store")
    assert headers["location"] == f"/reports/{receipt['id']}"
    assert (receipt["name"], receipt["disposition"]) == ("write_report", "accepted")
    status, headers, found = await send(app, "GET", headers["location"], headers=ADA)
    assert (status, headers["cache-control"]) == (200, "no-store")
    assert (found["id"], found["state"], found["result"]) == (receipt["id"], "queued", None)


async def test_the_location_has_the_root_path_that_a_proxy_removes(app: Any, jobs: ReportJobs) -> None:
    _, headers, receipt = await send(app, "POST", "/reports", headers=ADA, body=BODY, root="/api")
    assert headers["location"] == f"/api/reports/{receipt['id']}"


async def test_the_location_of_a_mounted_job_has_its_whole_path(jobs: ReportJobs) -> None:
    app = Starlette(routes=[Mount("/api", make_app("starlette", jobs))])
    _, headers, receipt = await send(app, "POST", "/api/reports", headers=ADA, body=BODY)
    assert headers["location"] == f"/api/reports/{receipt['id']}"
    assert (await send(app, "GET", headers["location"], headers=ADA))[2]["state"] == "queued"


async def test_the_state_shows_the_progress_and_the_result_without_its_secrets(app: Any, jobs: ReportJobs) -> None:
    path = await start(app)
    await drain(jobs)
    _, _, found = await send(app, "GET", path, headers=ADA)
    assert (found["state"], found["attempts_made"]) == ("completed", 1)
    assert (found["progress"]["done"], found["progress"]["total"], found["progress"]["note"]) == (1, 2, "half")
    assert found["result"] == {"text": "The report of Ada", "password": "**********"}


async def test_the_error_of_a_failed_job_is_shown_without_its_text(app: Any, jobs: ReportJobs) -> None:
    path = await start(app, {"customer": "nobody"})
    await drain(jobs)
    async with follow(app, path) as exchange:
        update, end = await rest_of(exchange)
    assert (update.data["state"], update.data["error"]) == ("failed", "ValueError")
    assert "nobody" not in str(update)
    assert end.name == "end"


async def test_a_client_gets_an_update_for_each_change_and_then_the_end(app: Any, jobs: ReportJobs) -> None:
    path = await start(app)
    async with follow(app, path) as exchange:
        assert exchange.headers["content-type"].startswith("text/event-stream")
        assert exchange.headers["cache-control"] == "no-store"
        first = await exchange.event()
        assert first is not None
        assert (first.name, first.data["state"], first.data["result"]) == ("update", "queued", None)
        await drain(jobs)
        *updates, end = await rest_of(exchange)
    assert {update.name for update in updates} == {"update"}
    assert updates[-1].data == (await send(app, "GET", path, headers=ADA))[2]
    assert end == Event("end", updates[-1].id, {})


async def test_a_client_that_connects_again_gets_no_state_twice(app: Any, jobs: ReportJobs) -> None:
    path = await start(app)
    async with follow(app, path) as exchange:
        first = await exchange.event()
    assert first is not None
    async with follow(app, path, last=first.id) as exchange:
        unread = asyncio.create_task(exchange.event())
        await asyncio.wait((unread,), timeout=0.02)
        assert not unread.done()
        await drain(jobs)
        again = await unread
    assert again is not None
    assert again.data["state"] != "queued"


async def test_a_client_that_connects_again_after_the_end_gets_a_204(app: Any, jobs: ReportJobs) -> None:
    path = await start(app)
    await drain(jobs)
    async with follow(app, path, last="unknown") as exchange:
        update, end = await rest_of(exchange)
    assert update.data["state"] == "completed"
    async with follow(app, path, last=end.id) as exchange:
        assert (exchange.status, await exchange.body()) == (204, b"")


async def test_nothing_is_watched_after_the_client_disconnects(
    app: Any, jobs: ReportJobs, driver: WatchedDriver
) -> None:
    path = await start(app)
    async with follow(app, path) as exchange:
        await exchange.event()
        exchange.disconnect()
        assert await driver.left.get() == path.removeprefix("/reports/")


async def test_nothing_is_watched_after_the_client_of_a_wrapped_response_disconnects(
    jobs: ReportJobs, driver: WatchedDriver
) -> None:
    async def pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)

    app = BaseHTTPMiddleware(make_app("starlette", jobs), dispatch=pass_on)
    path = await start(app)
    async with follow(app, path) as exchange:
        await exchange.event()
        exchange.disconnect()
        assert await driver.left.get() == path.removeprefix("/reports/")


class Stopping:
    """A server whose method handles signals, like that of uvicorn."""

    def __init__(self, *, should_exit: bool, is_serving: bool) -> None:
        self.should_exit = should_exit
        self.servers = [self]
        self._is_serving = is_serving

    def is_serving(self) -> bool:
        return self._is_serving

    def handle(self, *_: object) -> None:
        """Handle no signal."""


@pytest.mark.parametrize(
    "server", [Stopping(should_exit=True, is_serving=True), Stopping(should_exit=False, is_serving=False)]
)
async def test_a_stream_ends_without_an_end_event_when_the_server_stops(
    app: Any, jobs: ReportJobs, driver: WatchedDriver, server: Stopping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowli_core.web._stopping._EVERY", 0.01)
    path = await start(app)
    async with follow(app, path) as exchange:
        await exchange.event()
        before = signal.signal(signal.SIGTERM, server.handle)
        try:
            assert await exchange.event() is None
        finally:
            signal.signal(signal.SIGTERM, before)
    assert await driver.left.get() == path.removeprefix("/reports/")


async def test_a_stream_ends_when_the_registry_is_closed(app: Any, jobs: ReportJobs) -> None:
    path = await start(app)
    async with follow(app, path) as exchange:
        await exchange.event()
        await jobs.aclose()
        assert await exchange.event() is None


async def test_a_comment_keeps_a_connection_without_events_open(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowli_core.web._events.KEEP_ALIVE", 0.01)
    path = await start(app)
    async with follow(app, path) as exchange:
        await exchange.event()
        assert await exchange.event() == Event("", "", None)


async def test_the_stream_of_a_cancelled_job_ends(app: Any, jobs: ReportJobs) -> None:
    path = await start(app)
    async with follow(app, path) as exchange:
        await exchange.event()
        assert await jobs.control.cancel(path.removeprefix("/reports/")) == "cancelled"
        update, end = await rest_of(exchange)
    assert (update.data["state"], end.name) == ("cancelled", "end")


async def test_the_stream_of_a_removed_record_ends(driver: WatchedDriver) -> None:
    async with ReportJobs(context=None, driver=driver, defaults=Defaults(keep=Keep(completed=0))) as jobs:
        app = make_app("starlette", jobs)
        path = await start(app)
        async with follow(app, path) as exchange:
            await exchange.event()
            await drain(jobs)
            *_, end = await rest_of(exchange)
        assert end.name == "end"
        assert (await send(app, "GET", path, headers=ADA))[0] == 404


async def test_a_result_that_does_not_fit_its_type_any_more_ends_the_stream_and_is_an_error_after_that(
    driver: WatchedDriver, caplog: pytest.LogCaptureFixture
) -> None:
    async with Before(context=None, driver=driver) as before, After(context=None, driver=driver) as after:
        app = Starlette(routes=flowli_starlette.job_routes(after.count, "/counts", allow_anonymous=True))
        receipt = await before.count.enqueue()
        async with request(app, "GET", f"/counts/{receipt.id}/events") as exchange:
            await exchange.event()
            await drain(before)
            assert all(event.name == "update" for event in await rest_of(exchange))
        assert "watching it failed" in caplog.text
        with pytest.raises(ValidationError, match="reads it as JSON"):
            await send(app, "GET", f"/counts/{receipt.id}")


@pytest.mark.parametrize("what", ["", "/events"])
async def test_the_job_of_another_is_not_found(app: Any, jobs: ReportJobs, what: str) -> None:
    path = await start(app)
    other = await jobs.write_report.enqueue(customer="Ada")
    for place, user in [(path, EVE), (f"/reports/{other.id}", ADA), ("/reports/none", ADA)]:
        status, headers, _ = await send(app, "GET", place + what, headers=user)
        assert status == 404, place
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("what", ["", "/events"])
async def test_the_record_of_another_job_is_not_found(app: Any, jobs: ReportJobs, what: str) -> None:
    other = await jobs.write_report.enqueue(customer="Ada")
    tidied = await jobs.tidy_up.enqueue()
    assert (await send(app, "GET", f"/tidy-up/{other.id}{what}"))[0] == 404
    assert (await send(app, "GET", f"/tidy-up/{tidied.id}"))[0] == 200


async def test_strangers_are_refused_by_the_owner(app: Any, jobs: ReportJobs) -> None:
    path = await start(app)
    assert (await send(app, "POST", "/reports", body=BODY))[0] == 401
    assert (await send(app, "GET", path))[0] == 401
    assert (await send(app, "GET", f"{path}/events"))[0] == 401


async def test_an_invalid_input_is_refused(app: Any) -> None:
    status, _, body = await send(app, "POST", "/reports", headers=ADA, body={"x": 1})
    assert status in {400, 422}
    assert "customer" in str(body)


async def test_a_job_without_input_is_started_without_a_body(app: Any) -> None:
    status, headers, _ = await send(app, "POST", "/tidy-up")
    assert (status, headers["location"][:9]) == (202, "/tidy-up/")


@pytest.mark.parametrize("framework", ["starlette", "fastapi", "litestar"])
async def test_a_failure_of_the_store_is_a_503(framework: str) -> None:
    driver = UnreachableDriver()
    driver.is_unreachable = False
    async with ReportJobs(context=None, driver=driver) as jobs:
        app = make_app(framework, jobs)
        path = await start(app)
        driver.is_unreachable = True
        for method, place in [("POST", "/reports"), ("GET", path), ("GET", f"{path}/events")]:
            status, headers, _ = await send(app, method, place, headers=ADA, body=BODY)
            assert (status, headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize("name", ["flowli_starlette", "flowli_fastapi", "flowli_litestar"])
async def test_routes_that_anybody_may_use_must_be_asked_for(name: str, jobs: ReportJobs) -> None:
    adapter = {"flowli_starlette": flowli_starlette, "flowli_fastapi": flowli_fastapi}.get(name, flowli_litestar)
    with pytest.raises(DefinitionError, match="allow_anonymous=True"):
        adapter.job_routes(jobs.write_report, "/reports")


def test_routes_of_a_declared_job_find_the_registry_of_the_application() -> None:
    for app in declared_app(ReportJobs(context=None, driver=MemoryDriver())):
        with TestClient(app) as client:
            path = client.post("/reports", json=BODY, headers=ADA).headers["location"]
            assert client.get(path, headers=ADA).json()["state"] == "queued"
            assert client.get(path, headers=EVE).status_code == 404


async def test_an_owner_without_a_name_is_a_mistake(jobs: ReportJobs) -> None:
    app = FastAPI()
    app.include_router(flowli_fastapi.job_routes(jobs.write_report, "/reports", owner=lambda: ""))
    with pytest.raises(DefinitionError, match="not empty"):
        await send(app, "POST", "/reports", body=BODY)


async def test_dependencies_guard_a_router_whose_users_share_their_jobs(jobs: ReportJobs) -> None:
    app = FastAPI()
    app.include_router(
        flowli_fastapi.job_routes(jobs.write_report, "/reports", dependencies=[Depends(user_of)]), prefix="/api"
    )
    _, headers, receipt = await send(app, "POST", "/api/reports", headers=ADA, body=BODY)
    assert headers["location"] == f"/api/reports/{receipt['id']}"
    assert (await send(app, "GET", headers["location"], headers=EVE))[0] == 200
    assert (await send(app, "GET", headers["location"]))[0] == 401


async def test_a_head_request_for_the_events_ends(jobs: ReportJobs) -> None:
    app = make_app("starlette", jobs)
    path = await start(app)
    status, headers, body = await send(app, "HEAD", f"{path}/events", headers=ADA)
    assert (status, headers["content-type"], body) == (200, "text/event-stream; charset=utf-8", "")


async def test_the_schemas_show_the_types_of_the_job(jobs: ReportJobs) -> None:
    fastapi = make_app("fastapi", jobs).openapi()
    litestar: Any = make_app("litestar", jobs).openapi_schema.to_schema()
    for schema, path in [(fastapi, "/reports/{id}"), (litestar, "/reports/{job_id}")]:
        models, paths = schema["components"]["schemas"], schema["paths"]
        body = paths["/reports"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert body == {"$ref": "#/components/schemas/Report"}
        accepted = paths["/reports"]["post"]["responses"]["202"]["content"]["application/json"]["schema"]
        assert accepted["$ref"].startswith("#/components/schemas/Receipt")
        shown = paths[path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert "Written" in str(models[shown["$ref"].rpartition("/")[2]]["properties"]["result"])
        assert list(paths[f"{path}/events"]["get"]["responses"]["200"]["content"]) == ["text/event-stream"]
        assert "requestBody" not in paths["/tidy-up"]["post"]
