"""Flowli for FastAPI: lifespan, dependencies, error responses, routes of single jobs, and a router that shows all."""

from importlib.util import find_spec

if find_spec("fastapi") is None:
    raise ModuleNotFoundError("flowli_fastapi needs FastAPI: pip install 'flowli[fastapi]'", name="fastapi")

from flowli_core.healthz import Healthz
from flowli_core.web import JobStatus, owned_id
from flowli_fastapi._dependency import JobsDep, get_jobs, jobs_of
from flowli_fastapi._errors import jobs_exception_handlers
from flowli_fastapi._events import job_events, job_status
from flowli_fastapi._job_routes import job_routes
from flowli_fastapi._lifespan import jobs_lifespan
from flowli_fastapi._router import jobs_router
from flowli_starlette import JobsMiddleware, JobsState

__all__ = [
    "Healthz",
    "JobStatus",
    "JobsDep",
    "JobsMiddleware",
    "JobsState",
    "get_jobs",
    "job_events",
    "job_routes",
    "job_status",
    "jobs_exception_handlers",
    "jobs_lifespan",
    "jobs_of",
    "jobs_router",
    "owned_id",
]
