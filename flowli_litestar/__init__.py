"""Flowli for Litestar: a plugin that injects the registry and runs an embedded runner, commands, and routes of jobs."""

from importlib.util import find_spec

if find_spec("litestar") is None:
    raise ModuleNotFoundError("flowli_litestar needs Litestar: pip install 'flowli[litestar]'", name="litestar")

from flowli_core.healthz import Healthz
from flowli_core.web import JobStatus, owned_id
from flowli_litestar._config import FlowliConfig
from flowli_litestar._events import job_events, job_status
from flowli_litestar._plugin import FlowliPlugin
from flowli_litestar._routes import job_routes

__all__ = [
    "FlowliConfig",
    "FlowliPlugin",
    "Healthz",
    "JobStatus",
    "job_events",
    "job_routes",
    "job_status",
    "owned_id",
]
