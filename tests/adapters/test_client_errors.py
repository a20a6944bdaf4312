"""A refused call is a 422 if a refused value comes from the request, and a 500 if the application made it up."""

# FastAPI evaluates the annotations of functions that are local to a test, so they are not text here.
import asyncio
from collections.abc import Awaitable, Callable
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
from starlette.routing import Route
from starlette.testclient import TestClient

import flowli_fastapi
import flowli_starlette
from flowli_core import Jobs, SchedulingError, ValidationError, job
from flowli_core.driver import NewRecord
from flowli_core.drivers.memory import MemoryDriver
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


async def fixed_field(_: Any) -> None:
    await jobs.send.enqueue(to=5)


async def fixed_field_beside_one_of_the_request(request: Any) -> None:
    await jobs.send.enqueue(to=(await request.json())["to"], copies="three")


async def missing_field(_: Any) -> None:
    await jobs.send.enqueue()


async def fixed_model(_: Any) -> None:
    await jobs.send.enqueue({"to": 5})


async def one_of_many(_: Any) -> None:
    await jobs.send.enqueue_many([{"to": "a"}, {"to": 5}])


async def fixed_meta(request: Any) -> None:
    await jobs.send.options(meta={"name": 5}).enqueue(to=(await request.json())["to"])


async def fixed_delay(request: Any) -> None:
    await jobs.send.delay("5", to=(await request.json())["to"])


async def fixed_rule(request: Any) -> None:
    await jobs.send.schedule(cron="60 * * * *", input=await request.json())


async def fixed_id(request: Any) -> None:
    await jobs.send.options(id="no id").enqueue(to=(await request.json())["to"])


async def fixed_state(_: Any) -> None:
    await jobs.inspect.get_jobs_by_state("lost")


async def stored_record(request: Any) -> None:
    """The record was stored by another release of the application."""
    await request.json()
    await jobs.send.get("stored")


PROGRAM: list[Handler] = [
    fixed_field,
    fixed_field_beside_one_of_the_request,
    missing_field,
    fixed_model,
    one_of_many,
    fixed_meta,
    fixed_delay,
    fixed_rule,
    fixed_id,
    fixed_state,
    stored_record,
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


async def delay(request: Any) -> None:
    await jobs.send.delay((await request.json())["copies"], to="a")


async def rule(request: Any) -> None:
    await jobs.send.schedule(every=(await request.json())["copies"], input={"to": "a"})


async def state(request: Any) -> None:
    await jobs.inspect.get_jobs_by_state((await request.json())["copies"])


CLIENT: list[Handler] = [field, fields, model, many, meta, delay, rule, state]


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
def test_a_value_of_the_program_is_a_500(handler: Handler, serve: Callable[[Handler], Any]) -> None:
    asyncio.run(
        driver.enqueue([NewRecord(id="stored", name="send", queue="default", input=b'{"to":5}', policy=POLICY)])
    )
    client = serve(handler)
    for path in ("/", "/at/home", "/?page=7", "/at/stored"):
        body = {"to": "ada", "id": None, "queue": "mail", "state": ["draft"]}
        assert client.post(path, json=body, headers={"X-Request-ID": "req-9"}).status_code == 500


@pytest.mark.parametrize("handler", CLIENT, ids=lambda handler: handler.__name__)
@pytest.mark.parametrize("value", ["-5 x", "", [], {"deep": ["zeta"]}])
def test_a_value_of_the_client_is_a_422(handler: Handler, value: Any, serve: Callable[[Handler], Any]) -> None:
    assert serve(handler).post("/", json={"to": "ada", "copies": value}).status_code == 422


def test_a_text_with_a_value_of_the_client_is_a_422(serve: Callable[[Handler], Any]) -> None:
    async def id_(request: Any) -> None:
        await jobs.send.options(id=f"letter {(await request.json())['copies']}").enqueue(to="a")

    assert serve(id_).post("/", json={"copies": 5}).status_code == 422


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/?q=no%20id", {}), ("/at/no%20id", {}), ("/", {"Idempotency-Key": "no id"}), ("/", {"X-Key": "no id"})],
)
def test_a_value_of_the_path_the_query_or_a_header_is_a_422(
    path: str, headers: dict[str, str], serve: Callable[[Handler], Any]
) -> None:
    client = serve(lambda _: jobs.inspect.get_job("no id"))
    assert client.post(path, headers=headers).status_code == 422
    assert client.post("/", headers={"User-Agent": "no id"}).status_code == 500


@pytest.mark.parametrize("body", [b"no json", b"[" * 10_000, b'"' + b"x" * 70_000 + b'"'])
def test_a_request_whose_body_cannot_be_compared_may_have_caused_it(body: bytes) -> None:
    async def read_then_fail(request: Any) -> None:
        await request.body()
        await fixed_field(request)

    assert on_starlette(read_then_fail).post("/", content=body).status_code == 422


@pytest.mark.parametrize("error", [ValidationError, SchedulingError])
def test_an_error_that_the_application_itself_raises_is_a_422_if_the_request_has_data(error: Any) -> None:
    async def refuse(_: Any) -> None:
        raise error("why")

    client = on_starlette(refuse)
    assert [client.post(path).status_code for path in ("/?a=1", "/")] == [422, 500]
