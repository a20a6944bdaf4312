"""Flowli for FastAPI: lifespan, dependencies, error responses, and a router that shows jobs."""

from importlib.util import find_spec

if find_spec("fastapi") is None:
    raise ModuleNotFoundError("flowli_fastapi needs FastAPI: pip install 'flowli[fastapi]'", name="fastapi")

from flowli_core.healthz import Healthz
from flowli_fastapi._dependency import JobsDep, get_jobs, jobs_of
from flowli_fastapi._errors import jobs_exception_handlers
from flowli_fastapi._lifespan import jobs_lifespan
from flowli_fastapi._router import jobs_router
from flowli_starlette import JobsMiddleware, JobsState

__all__ = [
    "Healthz",
    "JobsDep",
    "JobsMiddleware",
    "JobsState",
    "get_jobs",
    "jobs_exception_handlers",
    "jobs_lifespan",
    "jobs_of",
    "jobs_router",
]
