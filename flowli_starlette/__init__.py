"""Flowli for Starlette, shared with FastAPI: lifespan, middleware, the registry of a connection, error responses."""

from importlib.util import find_spec

if find_spec("starlette") is None:
    raise ModuleNotFoundError("flowli_starlette needs Starlette: pip install 'flowli[starlette]'", name="starlette")

from flowli_core.healthz import Healthz
from flowli_starlette._connection import get_jobs
from flowli_starlette._errors import jobs_exception_handlers
from flowli_starlette._lifespan import JobsState, jobs_lifespan
from flowli_starlette._middleware import JobsMiddleware

__all__ = ["Healthz", "JobsMiddleware", "JobsState", "get_jobs", "jobs_exception_handlers", "jobs_lifespan"]
