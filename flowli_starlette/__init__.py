"""Flowli for Starlette, shared with FastAPI: lifespan, middleware, the registry of a connection, error responses."""

from flowli_core.healthz import Healthz
from flowli_starlette.connection import get_jobs
from flowli_starlette.errors import jobs_exception_handlers
from flowli_starlette.lifespan import JobsState, jobs_lifespan
from flowli_starlette.middleware import JobsMiddleware

__all__ = ["Healthz", "JobsMiddleware", "JobsState", "get_jobs", "jobs_exception_handlers", "jobs_lifespan"]
