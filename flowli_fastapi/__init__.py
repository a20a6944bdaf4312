"""Flowli in FastAPI: the lifespan that runs jobs beside an app, and the dependency that gives them to routes."""

from flowli_fastapi.dependency import get_jobs
from flowli_starlette import jobs_lifespan

__all__ = ["get_jobs", "jobs_lifespan"]
