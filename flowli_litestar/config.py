"""What the plugin is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flowli_core import Jobs, Runner
from flowli_core.durations import Duration


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowliConfig:
    """Configuration of FlowliPlugin.

    For several registries, several plugins; each needs keys of its own.
    """

    jobs: Jobs[Any]
    """The registry."""
    runner: Runner | None = None
    """What runs its jobs beside the application. Without one they wait for a worker: `litestar jobs run`."""
    drain: Duration = "10s"
    """How long running jobs may go on when the server stops; keep that some seconds below the server's own limit."""
    dependency_key: str = "jobs"
    """The name of the dependency: `async def create(jobs: NamedDependency[AppJobs])`."""
    state_key: str = "jobs"
    """Where the registry is in the application's state: `request.app.state.jobs`. Under `{state_key}_runner` there is
    the EmbeddedRunner while the application runs, or None."""
    health_path: str | None = None
    """Where to answer whether the runner can reserve, such as "/healthz"; left out by guards through `opt`."""
    exception_handlers: bool = True
    """Whether StoreUnavailable is answered with 503 and ValidationError with 422, unless the application does."""
