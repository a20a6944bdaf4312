"""The part of the plugin that connects a registry with an application: dependency, state, lifespan, errors, health."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, asgi
from litestar.config.app import AppConfig
from litestar.di import Provide
from litestar.exceptions import ImproperlyConfiguredException
from litestar.plugins import InitPlugin
from litestar.types import Receive, Scope, Send

from flowli_core import DriverError, Jobs, RecordNotFound, SchedulingError, ValidationError
from flowli_core.embedded import check_runner, embedded
from flowli_core.healthz import Healthz
from flowli_litestar._config import FlowliConfig
from flowli_litestar._dashboard import dashboard_route
from flowli_litestar._errors import on_invalid, on_not_found, on_store_failure


class ApplicationPlugin(InitPlugin):
    """Connects the registry of a configuration with the application."""

    def __init__(self, config: FlowliConfig) -> None:
        check_runner(config.jobs, config.runner)
        self.config = config
        self._provider = Provide(self._provide_jobs, sync_to_thread=False)
        self.opens_registry = True
        """False while `litestar jobs run` runs the jobs: it then opens and closes the registry itself."""

    def _provide_jobs(self) -> Any:
        return self.config.jobs

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add the dependency, the state and the lifespan, and if configured handlers of errors and routes."""
        jobs, config = self.config.jobs, self.config
        app: Any = app_config  # some of its types are incomplete
        if config.dependency_key in app_config.dependencies:
            raise ImproperlyConfiguredException(
                f"there is already a dependency {config.dependency_key!r}; give FlowliConfig another dependency_key"
            )
        if config.state_key in app_config.state:
            raise ImproperlyConfiguredException(
                f"the state already has a value under {config.state_key!r}; give FlowliConfig another state_key"
            )

        app_config.dependencies[config.dependency_key] = self._provider
        app_config.state[config.state_key] = jobs
        app_config.state[f"{config.state_key}_runner"] = None
        # Litestar evaluates the annotations of routes as text: `jobs: AppJobs` needs the name.
        app_config.signature_namespace.setdefault(type(jobs).__name__, type(jobs))
        app.lifespan.append(self._lifespan)
        if config.exception_handlers:
            handlers: dict[type[Exception], Any] = {
                DriverError: on_store_failure,
                ValidationError: on_invalid,
                SchedulingError: on_invalid,
                RecordNotFound: on_not_found,
            }
            app.exception_handlers = {**handlers, **app.exception_handlers}
        if config.health_path is not None:
            app.route_handlers.append(_health_route(config.health_path, Healthz(jobs)))
        if config.dashboard is not None:
            app.route_handlers.append(
                dashboard_route(config.dashboard, config.dashboard_path, app_path=app_config.path or "")
            )
        return app_config

    @asynccontextmanager
    async def _lifespan(self, app: Litestar) -> AsyncGenerator[None]:
        if not self.opens_registry:
            yield
            return
        self._check_handlers(app)
        key = f"{self.config.state_key}_runner"
        async with embedded(self.config.jobs, runner=self.config.runner, drain=self.config.drain) as embedded_runner:
            app.state[key] = embedded_runner
            try:
                yield
            finally:
                app.state[key] = None

    def _check_handlers(self, app: Litestar) -> None:
        """Raise ImproperlyConfiguredException if a handler declares the dependency as another registry."""
        key, jobs = self.config.dependency_key, self.config.jobs
        for route in app.routes:
            handlers: Any = getattr(route, "route_handlers", None) or [getattr(route, "route_handler", None)]
            for handler in handlers:
                parameter = handler.parsed_fn_signature.parameters.get(key)
                kind: object = None if parameter is None else parameter.annotation
                is_ours = handler.resolve_dependencies().get(key) is self._provider
                if is_ours and isinstance(kind, type) and issubclass(kind, Jobs) and not isinstance(jobs, kind):
                    raise ImproperlyConfiguredException(
                        f"the handler {handler} declares {key}: {kind.__name__}, but it is a {type(jobs).__name__}; "
                        "another registry needs another FlowliPlugin, with its own dependency_key and state_key"
                    )


def _health_route(path: str, endpoint: Healthz) -> Any:
    @asgi(path, copy_scope=True, exclude_from_auth=True)
    async def healthz(scope: Scope, receive: Receive, send: Send) -> None:
        given: Any = (scope, receive, send)
        await endpoint(*given)

    return healthz
