"""Flowli for Starlette, shared with FastAPI: lifespan, middleware, the registry of a connection, responses, routes."""

from importlib.util import find_spec

if find_spec("starlette") is None:
    raise ModuleNotFoundError("flowli_starlette needs Starlette: pip install 'flowli[starlette]'", name="starlette")

from flowli_core.healthz import Healthz
from flowli_core.web import JobStatus, owned_id
from flowli_starlette._connection import get_jobs
from flowli_starlette._errors import jobs_exception_handlers
from flowli_starlette._events import job_events, job_status
from flowli_starlette._lifespan import JobsState, jobs_lifespan
from flowli_starlette._middleware import JobsMiddleware
from flowli_starlette._routes import job_routes

__all__ = [
    "Healthz",
    "JobStatus",
    "JobsMiddleware",
    "JobsState",
    "get_jobs",
    "job_events",
    "job_routes",
    "job_status",
    "jobs_exception_handlers",
    "jobs_lifespan",
    "owned_id",
]
