"""`litestar jobs`: run, enqueue, show and change the jobs of an application's registries."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import click
from litestar import Litestar

from flowli_core.cli import RegistryLoader, RunOptions, Worker, operations, run, run_options
from flowli_litestar._application import ApplicationPlugin


@click.group("jobs")
@click.option("--key", help="Registry to use, by its dependency_key; needed if there are several.")
@click.pass_context
def jobs_group(context: click.Context, key: str | None) -> None:
    """Run and manage the application's background jobs."""
    context.obj = _AppRegistry(context.obj.app, key)


class _AppRegistry(RegistryLoader):
    """Loads the registry of an application's plugin."""

    def __init__(self, app: Litestar, key: str | None) -> None:
        super().__init__(lambda: _find_plugin(app, key).config.jobs)
        self.app = app


@jobs_group.command("run")
@run_options
@click.pass_context
def run_jobs(context: click.Context, /, **given: Any) -> None:
    """Run jobs until SIGTERM or Ctrl-C, inside the application's lifespan and without its embedded runners.

    `flowli worker module:jobs` does the same without the application, and also has --workers and --reload.
    """
    registry: _AppRegistry = context.obj
    found = registry.load()
    worker = Worker(
        found,
        RunOptions(**given),
        on_up=lambda started: click.echo(started.banner(registry=type(found).__name__), err=True),
    )
    context.exit(run(_run_in_lifespan(registry.app, worker)))


for _operation in operations:
    if _operation.name == "jobs" and isinstance(_operation, click.Group):
        for _command in _operation.commands.values():
            jobs_group.add_command(_command)
    elif _operation.name != "run":  # `litestar jobs run` is the worker
        jobs_group.add_command(_operation)


async def _run_in_lifespan(app: Litestar, worker: Worker) -> int:
    plugins = _find_plugins(app)
    async with AsyncExitStack() as stack:
        for plugin in plugins:
            plugin.opens_registry = False
        await stack.enter_async_context(app.lifespan())
        try:
            return await worker.run()
        finally:
            for plugin in plugins:
                await plugin.config.jobs.aclose()


def _find_plugins(app: Litestar) -> list[ApplicationPlugin]:
    return [plugin for plugin in app.plugins.init if isinstance(plugin, ApplicationPlugin)]


def _find_plugin(app: Litestar, key: str | None) -> ApplicationPlugin:
    found = {plugin.config.dependency_key: plugin for plugin in _find_plugins(app)}
    if key is None and len(found) == 1:
        (only,) = found.values()
        return only
    if key not in found:
        raise click.UsageError(f"name the registry with --key: {', '.join(found)}")
    return found[key]
