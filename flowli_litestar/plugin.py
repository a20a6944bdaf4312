"""The plugin."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from litestar import Litestar, asgi
from litestar.di import Provide
from litestar.exceptions import ImproperlyConfiguredException
from litestar.plugins import CLIPlugin, InitPlugin
from litestar.types import Receive, Scope, Send

from flowli_core import StoreUnavailable, ValidationError
from flowli_core.embedded import check_runner, embedded
from flowli_core.healthz import Healthz
from flowli_litestar.config import FlowliConfig
from flowli_litestar.errors import on_invalid, on_unavailable

if TYPE_CHECKING:
    from click import Group
    from litestar.config.app import AppConfig


class FlowliPlugin(InitPlugin, CLIPlugin):
    """`Litestar([...], plugins=[FlowliPlugin(FlowliConfig(jobs=jobs, runner=Runner(jobs)))])`.

    A handler asks for its registry with `jobs: NamedDependency[AppJobs]`; the name may stay behind TYPE_CHECKING. The
    registry is opened after what the application's own `lifespan` opens, and closed before it, so that jobs may use
    that; what `on_startup` makes is there later than the runner.
    """

    def __init__(self, config: FlowliConfig) -> None:
        check_runner(config.jobs, config.runner)
        self.config = config
        self.is_run_by_command = False
        """Whether `litestar jobs run` has the registry, which then opens and closes it."""

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add the dependency, the state, the lifespan, and what else the configuration asks for."""
        jobs, config = self.config.jobs, self.config
        app: Any = app_config  # some of its types are not known
        if config.dependency_key in app_config.dependencies:
            raise ImproperlyConfiguredException(
                f"there is a dependency {config.dependency_key!r} already; give FlowliConfig another dependency_key"
            )
        if config.state_key in app_config.state:
            raise ImproperlyConfiguredException(
                f"there is something else under {config.state_key!r} in the state; give FlowliConfig another state_key"
            )

        def provide_jobs() -> Any:
            return jobs

        app_config.dependencies[config.dependency_key] = Provide(provide_jobs, sync_to_thread=False)
        app_config.state[config.state_key] = jobs
        app_config.state[f"{config.state_key}_runner"] = None
        app_config.signature_namespace.setdefault(type(jobs).__name__, type(jobs))
        app.lifespan.append(self._lifespan)
        if config.exception_handlers:
            handlers: dict[type[Exception], Any] = {StoreUnavailable: on_unavailable, ValidationError: on_invalid}
            app.exception_handlers = {**handlers, **app.exception_handlers}
        if config.health_path is not None:
            app.route_handlers.append(_health_route(config.health_path, Healthz(jobs)))
        return app_config

    def on_cli_init(self, cli: Group) -> None:
        """Add `litestar jobs`, once for all plugins of this kind."""
        from flowli_litestar.commands import jobs_group  # noqa: PLC0415 - a server needs nothing of it

        if jobs_group.name not in cli.commands:
            cli.add_command(jobs_group)

    @asynccontextmanager
    async def _lifespan(self, app: Litestar) -> AsyncGenerator[None]:
        if self.is_run_by_command:
            yield
            return
        key = f"{self.config.state_key}_runner"
        async with embedded(self.config.jobs, runner=self.config.runner, drain=self.config.drain) as beside:
            app.state[key] = beside
            try:
                yield
            finally:
                app.state[key] = None


def _health_route(path: str, endpoint: Healthz) -> Any:
    @asgi(path, copy_scope=True, exclude_from_auth=True)
    async def healthz(scope: Scope, receive: Receive, send: Send) -> None:
        given: Any = (scope, receive, send)
        await endpoint(*given)

    return healthz
