"""The service in Litestar."""

from litestar import Litestar, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from flowli_litestar import FlowliConfig, FlowliPlugin, job_routes
from tests.adapters.served.base import DRAIN, WorkJobs, crash, jobs, runner


@post("/work/{number:int}")
async def enqueue(number: FromPath[int], jobs: NamedDependency[WorkJobs]) -> str:
    """Enqueue a job."""
    return (await jobs.work.options(id=f"job-{number}").enqueue(number)).id


@post("/anonymous/{number:int}")
async def enqueue_without_id(number: FromPath[int], jobs: NamedDependency[WorkJobs]) -> str:
    """Enqueue a job without an id: sent twice, it is stored twice."""
    return (await jobs.work.enqueue(number)).id


@get("/ping")
async def ping() -> str:
    """Respond without the store."""
    return "pong"


@post("/crash")
async def crash_the_runner(jobs: NamedDependency[WorkJobs]) -> None:
    """Crash the runner."""
    crash(jobs)


app = Litestar(
    [enqueue, enqueue_without_id, ping, crash_the_runner, job_routes(jobs.work, "/jobs", allow_anonymous=True)],
    plugins=[FlowliPlugin(FlowliConfig(jobs=jobs, runner=runner, drain=DRAIN, health_path="/healthz"))],
)
