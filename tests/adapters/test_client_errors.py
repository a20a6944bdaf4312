"""An invalid value is a 422 if the request carries data. Without data, and for mistakes in the program, it is a 500."""

# FastAPI evaluates the annotations of functions that are local to a test, so they are not text here.
import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi import Request as FastAPIRequest
from litestar import Litestar, post
from litestar import Request as LitestarRequest
from litestar.testing import TestClient as LitestarClient
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

import flowli_fastapi
import flowli_starlette
from flowli_core import Jobs, SchedulingError, ValidationError, job
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.new_records import NewRecord
from flowli_litestar import FlowliConfig, FlowliPlugin


class Letter(BaseModel):
    to: str
    copies: int = 1


class Sender(BaseModel):
    name: str
    since: int = 0


@job(Letter, meta=Sender)
async def send(input: Letter) -> None: ...


@job(Letter, name="call")
async def call_(input: Letter) -> None: ...


class LetterJobs(Jobs[None]):
    send = send
    call = call_


driver = MemoryDriver()
jobs: Any = LetterJobs(context=None, driver=driver)

POLICY = b'{"v":1,"max_attempts":1,"backoff":{"delay":"PT0S"}}'

Handler = Callable[[Any], Awaitable[object]]


async def delay_of_another_type(request: Any) -> None:
    await jobs.send.delay(5, to=(await request.json())["to"])


async def no_delay(request: Any) -> None:
    await jobs.send.delay(to=(await request.json())["to"])


async def interval_of_another_type(request: Any) -> None:
    await jobs.send.schedule(every=5, input=await request.json())


async def start_of_another_type(request: Any) -> None:
    await jobs.send.schedule(every="5m", start="2026-01-01", input=await request.json())


async def id_of_another_type(request: Any) -> None:
    await jobs.send.options(id=5).enqueue(to=(await request.json())["to"])


async def key_of_another_type(request: Any) -> None:
    await jobs.send.options(key=5).enqueue(to=(await request.json())["to"])


async def limit_of_another_type(_: Any) -> None:
    await jobs.inspect.find("failed", limit="9")


async def unknown_option(request: Any) -> None:
    await jobs.send.enqueue(Letter(**await request.json()), delay="5m")


async def unknown_option_of_a_schedule(request: Any) -> None:
    await jobs.send.schedule(every="5m", **await request.json())


async def two_rules(request: Any) -> None:
    await jobs.send.schedule(every="5m", cron="0 8 * * *", input=await request.json())


async def undeclared_queue(request: Any) -> None:
    await jobs.send.options(queue="defualt").enqueue(**await request.json())


async def meta_of_a_job_without_meta(request: Any) -> None:
    await jobs.call.options(meta={"name": "a"}).enqueue(**await request.json())


async def meta_of_many_without_meta(request: Any) -> None:
    await jobs.call.options(meta={"name": "a"}).enqueue_many([await request.json()])


async def key_for_many(request: Any) -> None:
    await jobs.send.options(key="k").enqueue_many([await request.json()])


async def stored_record(request: Any) -> None:
    """The record was stored by another release of the application."""
    await request.json()
    await jobs.send.get("stored")


PROGRAM: list[Handler] = [
    delay_of_another_type,
    no_delay,
    interval_of_another_type,
    start_of_another_type,
    id_of_another_type,
    key_of_another_type,
    limit_of_another_type,
    unknown_option,
    unknown_option_of_a_schedule,
    two_rules,
    undeclared_queue,
    meta_of_a_job_without_meta,
    meta_of_many_without_meta,
    key_for_many,
    stored_record,
]


async def fixed_field(_: Any) -> None:
    await jobs.send.enqueue(to=5)


async def missing_field(_: Any) -> None:
    await jobs.send.enqueue()


async def fixed_model(_: Any) -> None:
    await jobs.send.enqueue({"to": 5})


async def one_of_many(_: Any) -> None:
    await jobs.send.enqueue_many([{"to": "a"}, {"to": 5}])


async def fixed_meta(_: Any) -> None:
    await jobs.send.options(meta={"name": 5}).enqueue(to="a")


async def fixed_delay(_: Any) -> None:
    await jobs.send.delay("5", to="a")


async def fixed_rule(_: Any) -> None:
    await jobs.send.schedule(cron="60 * * * *", input={"to": "a"})


async def fixed_id(_: Any) -> None:
    await jobs.send.options(id="no id").enqueue(to="a")


async def fixed_state(_: Any) -> None:
    await jobs.inspect.find("lost")


FIXED: list[Handler] = [
    fixed_field,
    missing_field,
    fixed_model,
    one_of_many,
    fixed_meta,
    fixed_delay,
    fixed_rule,
    fixed_id,
    fixed_state,
]


async def field(request: Any) -> None:
    await jobs.send.enqueue(to="a", copies=(await request.json())["copies"])


async def fields(request: Any) -> None:
    await jobs.send.enqueue(**await request.json())


async def model(request: Any) -> None:
    await jobs.send.enqueue(await request.json())


async def many(request: Any) -> None:
    await jobs.send.enqueue_many([{"to": "a"}, await request.json()])


async def meta(request: Any) -> None:
    await jobs.send.options(meta={"name": "a", "since": (await request.json())["copies"]}).enqueue(to="a")


async def state(request: Any) -> None:
    await jobs.inspect.find((await request.json())["copies"])


CLIENT: list[Handler] = [field, fields, model, many, meta, state]


async def number(request: Any) -> int:
    given: int = (await request.json())["copies"]
    return given


async def computed_field(request: Any) -> None:
    await jobs.send.enqueue(to="a", copies=await number(request) / 2)


async def computed_delay(request: Any) -> None:
    await jobs.send.delay(timedelta(minutes=-await number(request)), to="a")


async def computed_text_delay(request: Any) -> None:
    await jobs.send.delay(f"{await number(request)} minutes", to="a")


async def computed_moment(request: Any) -> None:
    await jobs.send.delay(datetime(2000 + await number(request), 1, 1), to="a")  # noqa: DTZ001 - naive, so refused


async def computed_interval(request: Any) -> None:
    await jobs.send.schedule(every=timedelta(milliseconds=await number(request)), input={"to": "a"})


async def computed_end(request: Any) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    end = start - timedelta(days=await number(request))
    await jobs.send.schedule(every="1h", start=start, end=end, input={"to": "a"})


async def computed_rule(request: Any) -> None:
    await jobs.send.schedule(cron=f"{100 * await number(request)} * * * *", input={"to": "a"})


async def computed_id(request: Any) -> None:
    await jobs.send.options(id=f"letter {await number(request)}").enqueue(to="a")


async def computed_key(request: Any) -> None:
    await jobs.send.options(key=1_000 * str(await number(request))).enqueue(to="a")


async def computed_limit(request: Any) -> None:
    await jobs.inspect.find("failed", limit=-await number(request))


COMPUTED: list[Handler] = [
    computed_field,
    computed_delay,
    computed_text_delay,
    computed_moment,
    computed_interval,
    computed_end,
    computed_rule,
    computed_id,
    computed_key,
    computed_limit,
]


def on_starlette(handler: Handler) -> Any:
    async def endpoint(request: Request) -> Response:
        await handler(request)
        return PlainTextResponse("")

    routes = [Route(path, endpoint, methods=["POST"]) for path in ("/", "/at/{place}")]
    app = Starlette(routes=routes, exception_handlers=flowli_starlette.jobs_exception_handlers())
    return TestClient(app, raise_server_exceptions=False)


def on_fastapi(handler: Handler) -> Any:
    app = FastAPI(exception_handlers=flowli_fastapi.jobs_exception_handlers())

    @app.post("/")
    @app.post("/at/{place}")
    async def endpoint(request: FastAPIRequest, body: dict[str, Any] | None = None) -> None:
        del body
        await handler(request)

    return TestClient(app, raise_server_exceptions=False)


def on_litestar(handler: Handler) -> Any:
    @post(["/", "/at/{place:str}"])
    async def endpoint(request: LitestarRequest[Any, Any, Any]) -> None:
        await handler(request)

    app = Litestar([endpoint], plugins=[FlowliPlugin(FlowliConfig(jobs=jobs))], logging_config=None)
    return LitestarClient(app, raise_server_exceptions=False)


@pytest.fixture(params=[on_starlette, on_fastapi, on_litestar], ids=lambda serve: serve.__name__[3:])
def serve(request: pytest.FixtureRequest) -> Callable[[Handler], Any]:
    """Make a client of an application with one handler."""
    made: Callable[[Handler], Any] = request.param
    return made


@pytest.mark.parametrize("handler", PROGRAM, ids=lambda handler: handler.__name__)
def test_a_mistake_in_the_program_is_a_500_whatever_the_request_carries(
    handler: Handler, serve: Callable[[Handler], Any]
) -> None:
    asyncio.run(
        driver.enqueue([NewRecord(id="stored", name="send", queue="default", input=b'{"to":5}', policy=POLICY)])
    )
    client = serve(handler)
    for path in ("/", "/at/home", "/?page=7"):
        assert client.post(path, json={"to": "ada"}, headers={"X-Letter": "9"}).status_code == 500


@pytest.mark.parametrize("handler", FIXED, ids=lambda handler: handler.__name__)
def test_an_invalid_value_is_a_500_if_the_request_carries_no_data(
    handler: Handler, serve: Callable[[Handler], Any]
) -> None:
    client = serve(handler)
    assert client.post("/", headers={"User-Agent": "five", "X-Request-ID": "5"}).status_code == 500
    assert client.post("/", json={"to": "ada"}).status_code == 422


@pytest.mark.parametrize("handler", CLIENT, ids=lambda handler: handler.__name__)
@pytest.mark.parametrize("value", ["-5 x", "", [], {"deep": ["zeta"]}])
def test_a_value_of_the_client_is_a_422(handler: Handler, value: Any, serve: Callable[[Handler], Any]) -> None:
    assert serve(handler).post("/", json={"to": "ada", "copies": value}).status_code == 422


@pytest.mark.parametrize("handler", COMPUTED, ids=lambda handler: handler.__name__)
def test_a_value_that_the_application_computes_from_the_request_is_a_422(
    handler: Handler, serve: Callable[[Handler], Any]
) -> None:
    assert serve(handler).post("/", json={"copies": 5}).status_code == 422


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/?q=5", {}), ("/at/home", {}), ("/", {"Idempotency-Key": "5"}), ("/", {"X-Letter": "5"})],
)
def test_the_path_the_query_and_headers_of_the_application_are_data(
    path: str, headers: dict[str, str], serve: Callable[[Handler], Any]
) -> None:
    assert serve(fixed_id).post(path, headers=headers).status_code == 422


@pytest.mark.parametrize("error", [ValidationError, SchedulingError])
def test_an_error_that_the_application_itself_raises_is_a_422_if_the_request_has_data(error: Any) -> None:
    async def refuse(_: Any) -> None:
        raise error("why")

    client = on_starlette(refuse)
    assert [client.post(path).status_code for path in ("/?a=1", "/")] == [422, 500]


@pytest.mark.parametrize(
    "handlers", [flowli_starlette.jobs_exception_handlers(), flowli_fastapi.jobs_exception_handlers()]
)
def test_a_websocket_is_closed_for_an_invalid_value_and_fails_for_a_mistake_in_the_program(handlers: Any) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await jobs.send.delay(await websocket.receive_json(), to="a")

    app = Starlette(routes=[WebSocketRoute("/", endpoint)], exception_handlers=handlers)
    with TestClient(app).websocket_connect("/") as client:
        client.send_json("soon")
        with pytest.raises(WebSocketDisconnect) as closed:
            client.receive_text()
    assert closed.value.code == 1008

    def send_number() -> None:
        with TestClient(app).websocket_connect("/") as client:
            client.send_json(5)
            client.receive_text()

    with pytest.raises(SchedulingError, match="got int"):
        send_number()
