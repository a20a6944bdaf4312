"""Routes in each framework, as users write them: no cast, no ignore. Checked by all type checkers, and imported."""

from contextlib import asynccontextmanager
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Any, assert_type

import flowli_fastapi
import flowli_litestar
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from flowli_core import JobRecord, Jobs, NoMeta, Receipt, Runner, job
from flowli_core.drivers.memory import MemoryDriver
from flowli_fastapi import JobsDep, jobs_of, jobs_router
from flowli_litestar import FlowliConfig, FlowliPlugin
from flowli_starlette import (
    Healthz,
    JobsMiddleware,
    JobsState,
    get_jobs,
    job_routes,
    jobs_exception_handlers,
    jobs_lifespan,
)
from litestar import Litestar, get as litestar_get, post as litestar_post, websocket as litestar_websocket
from litestar import Response as LitestarResponse, WebSocket as LitestarSocket
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from pydantic import BaseModel
from fastapi.testclient import TestClient
from litestar.testing import TestClient as LitestarClient
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket as StarletteSocket


class Email(BaseModel):
    to: str
    subject: str = "hi"


@job(Email)
async def send_email(input: Email) -> int:
    return len(input.to)


class AppJobs(Jobs[None]):
    send_email = send_email


class OtherJobs(Jobs[None]):
    pass


jobs = AppJobs(context=None, driver=MemoryDriver())
others = OtherJobs(context=None)

# Starlette


class AppState(JobsState[AppJobs]):
    database: str


@asynccontextmanager
async def own(_: Starlette) -> AsyncGenerator[dict[str, str]]:
    yield {"database": "open"}


async def typed_state(request: Request[AppState]) -> JSONResponse:
    assert_type(request.state["jobs"], AppJobs)
    assert_type(request.state["database"], str)
    receipt = await request.state["jobs"].send_email.enqueue(to="ada@example.com")
    assert_type(receipt, Receipt[int])
    return JSONResponse(receipt.id)


async def typed_get(request: Request) -> JSONResponse:
    found = get_jobs(request, AppJobs)
    assert_type(found, AppJobs)
    assert_type(get_jobs(request), Jobs[Any])
    return JSONResponse(await found.send_email.run(Email(to="ada@example.com")))


async def starlette_socket(websocket: StarletteSocket) -> None:
    assert_type(get_jobs(websocket, AppJobs), AppJobs)


starlette_app = Starlette(
    routes=[
        Route("/state", typed_state),
        Route("/get", typed_get),
        WebSocketRoute("/socket", starlette_socket),
        Mount("/health", Healthz(jobs)),
        Route("/healthz", Healthz(jobs)),
    ],
    middleware=[Middleware(JobsMiddleware, jobs=others)],
    lifespan=jobs_lifespan(jobs, Runner(jobs), own),
    exception_handlers=jobs_exception_handlers(),
)
two_registries = Starlette(lifespan=jobs_lifespan(jobs, inner=jobs_lifespan(others)))

# FastAPI

router = APIRouter()
AppJobsDep = JobsDep[AppJobs]


@router.post("/plain")
async def plain(body: Email, jobs: Annotated[AppJobs, Depends(flowli_fastapi.get_jobs)]) -> Receipt:
    assert_type(jobs, AppJobs)
    return await jobs.send_email.enqueue(body)


@router.post("/typed")
async def typed_receipt(body: Email, jobs: AppJobsDep) -> Receipt[int]:
    return await jobs.send_email.enqueue(body)


@router.get("/typed/{job_id}")
async def typed_record(job_id: str, jobs: AppJobsDep) -> JobRecord[Email, NoMeta, int] | None:
    return await jobs.send_email.get(job_id)


@router.get("/plain/{job_id}")
async def plain_record(job_id: str, jobs: AppJobsDep) -> JobRecord | None:
    return await jobs.send_email.get(job_id)


@router.post("/many")
async def many(bodies: list[Email], jobs: AppJobsDep) -> Sequence[Receipt]:
    return await jobs.send_email.enqueue_many(bodies)


@router.post("/alias")
async def alias(jobs: JobsDep[AppJobs], other: Annotated[OtherJobs, Depends(jobs_of(OtherJobs))]) -> None:
    assert_type(jobs, AppJobs)
    assert_type(other, OtherJobs)


@router.websocket("/socket")
async def fastapi_socket(websocket: WebSocket, jobs: AppJobsDep) -> None:
    assert_type(jobs, AppJobs)


@router.get("/emails/{id}")
async def fastapi_status(id: str, jobs: AppJobsDep) -> flowli_fastapi.JobStatus[int]:
    return await flowli_fastapi.job_status(jobs.send_email, id, owner="ada")


@router.get("/emails/{id}/events")
async def fastapi_events(request: Request, id: str, jobs: AppJobsDep) -> Response:
    return await flowli_fastapi.job_events(request, jobs.send_email, id)


async def owner_of(request: Request) -> str:
    return str(request.user)


fastapi_app = FastAPI(
    routes=[Route("/healthz", Healthz(jobs))],
    lifespan=flowli_fastapi.jobs_lifespan(jobs, runner=Runner(jobs)),
    exception_handlers=flowli_fastapi.jobs_exception_handlers(),
)
fastapi_app.include_router(router)
fastapi_app.include_router(flowli_fastapi.job_routes(AppJobs.send_email, "/mails", owner=owner_of))
fastapi_app.include_router(flowli_fastapi.job_routes(jobs.send_email, "/bound", dependencies=[Depends(typed_get)]))
starlette_routes = job_routes(AppJobs.send_email, "/mails", owner=owner_of)
fastapi_app.include_router(jobs_router(dependencies=[Depends(typed_get)], jobs=jobs_of(AppJobs)))
fastapi_app.add_middleware(JobsMiddleware, jobs=jobs)
fastapi_app.mount("/health", Healthz(jobs))
fastapi_app.dependency_overrides[flowli_fastapi.get_jobs] = lambda: jobs
fastapi_app.dependency_overrides[jobs_of(OtherJobs)] = lambda: others
for kind, handler in flowli_fastapi.jobs_exception_handlers().items():
    fastapi_app.add_exception_handler(kind, handler)

# Litestar


@litestar_post("/emails/{to:str}")
async def litestar_enqueue(to: FromPath[str], jobs: NamedDependency[AppJobs]) -> Receipt:
    assert_type(jobs, AppJobs)
    return await jobs.send_email.enqueue(to=to)


@litestar_post("/typed")
async def litestar_typed(data: JSONBody[Email], jobs: NamedDependency[AppJobs]) -> Receipt[int]:
    return await jobs.send_email.enqueue(data)


@litestar_get("/typed/{job_id:str}")
async def litestar_record(job_id: FromPath[str], jobs: NamedDependency[AppJobs]) -> JobRecord[Email, NoMeta, int]:
    found = await jobs.send_email.get(job_id)
    assert found is not None
    return found


@litestar_get("/status/{job_id:str}")
async def litestar_status(
    job_id: FromPath[str], jobs: NamedDependency[AppJobs]
) -> LitestarResponse[flowli_litestar.JobStatus[int]]:
    return await flowli_litestar.job_status(jobs.send_email, job_id)


@litestar_get("/other")
async def litestar_other(others: NamedDependency[OtherJobs]) -> None:
    assert_type(others, OtherJobs)


@litestar_websocket("/socket")
async def litestar_socket(socket: LitestarSocket[Any, Any, Any], jobs: NamedDependency[AppJobs]) -> None:
    assert_type(jobs, AppJobs)


litestar_app = Litestar(
    [
        *[litestar_enqueue, litestar_typed, litestar_record, litestar_status, litestar_other, litestar_socket],
        flowli_litestar.job_routes(jobs.send_email, "/mails", owner=lambda request: str(request.user)),
    ],
    plugins=[
        FlowliPlugin(FlowliConfig(jobs=jobs, runner=Runner(jobs), health_path="/healthz")),
        FlowliPlugin(FlowliConfig(jobs=others, dependency_key="others", state_key="others")),
    ],
)


def typed_routes_work(client: TestClient | LitestarClient[Litestar]) -> None:
    receipt = client.post("/typed", json={"to": "ada@example.com"}).json()
    assert receipt["disposition"] == "accepted"
    record = client.get(f"/typed/{receipt['id']}").json()
    assert record["input"] == {"to": "ada@example.com", "subject": "hi"}


def send_requests() -> None:
    with TestClient(fastapi_app) as client:
        typed_routes_work(client)
        (receipt,) = client.post("/many", json=[{"to": "ada@example.com"}]).json()
        record = client.get(f"/plain/{receipt['id']}").json()
        assert record["input"] == {"to": "ada@example.com", "subject": "hi"}
        assert client.get("/openapi.json").is_success
    with LitestarClient(litestar_app) as litestar_client:
        typed_routes_work(litestar_client)
        assert litestar_client.get("/schema/openapi.json").is_success


if __name__ == "__main__":
    send_requests()
