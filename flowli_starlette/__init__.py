"""Flowli in Starlette, and what FastAPI shares with it: the lifespan."""

from flowli_starlette.lifespan import jobs_lifespan

__all__ = ["jobs_lifespan"]
