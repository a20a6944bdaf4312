"""The configuration of the plugin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flowli_core import Jobs, Runner
from flowli_core.durations import Duration

if TYPE_CHECKING:
    from flowli_core.dashboard import Dashboard  # it needs Jinja, which is optional


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowliConfig:
    """The configuration of a FlowliPlugin.

    For several registries use several plugins, each with its own keys.
    """

    jobs: Jobs[Any]
    """The registry."""
    runner: Runner | None = None
    """The runner that runs the jobs in the application's process. Without it, a worker does: `litestar jobs run`."""
    drain: Duration = "10s"
    """The time that running jobs have to end when the server stops. Keep it below the server's own shutdown timeout."""
    dependency_key: str = "jobs"
    """The name of the dependency: `async def create(jobs: NamedDependency[AppJobs])`."""
    state_key: str = "jobs"
    """The key of the registry in the application's state: `request.app.state.jobs`. `{state_key}_runner` holds the
    EmbeddedRunner while the application runs, and None otherwise or without a runner."""
    health_path: str | None = None
    """The path of a route that says whether the runner is ready, such as "/healthz". It is excluded from authentication
    (`exclude_from_auth`)."""
    dashboard: Dashboard | None = None
    """The dashboard of the registry: `Dashboard(jobs, authorize=...)`. Its requests pass through the application's
    authentication first, so `authorize` may read `request.scope["user"]`."""
    dashboard_path: str = "/jobs"
    """The path of the dashboard."""
    exception_handlers: bool = True
    """Turn DriverError into 503, and ValidationError and SchedulingError into 422, unless the app handles them."""
