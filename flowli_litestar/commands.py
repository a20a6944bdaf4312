"""`litestar jobs`: what an application's registries are run and looked at with."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from flowli_core import DefinitionError, Runner
from flowli_core._running.run import DRAIN
from flowli_core.cli._common.operation import Registry
from flowli_core.cli._common.options import DURATION
from flowli_core.cli._common.process import run
from flowli_core.cli._operations.schedules import schedules
from flowli_core.cli._operations.status import status
from flowli_core.cli._worker.serve import Started, Worker, leave_stalled
from flowli_core.durations import format_duration
from flowli_litestar.plugin import FlowliPlugin

if TYPE_CHECKING:
    from litestar import Litestar


@click.group("jobs")
@click.option("--key", help="Which registry, by its dependency_key; needed where there are several.")
@click.pass_context
def jobs_group(context: click.Context, key: str | None) -> None:
    """Run the application's background jobs, and look at them."""
    app: Litestar = context.obj.app
    context.obj = _AppRegistry(app, key)


class _AppRegistry(Registry):
    """The registry of an application's plugin. What `flowli`'s own operations take."""

    def __init__(self, app: Litestar, key: str | None) -> None:
        super().__init__(lambda: _plugin(app, key).config.jobs)
        self.app = app


def _queues(_: click.Context, __: click.Parameter, value: str | None) -> list[str] | None:
    return [name.strip() for name in value.split(",")] if value else None


@jobs_group.command("run")
@click.option("-c", "--concurrency", type=int, default=10, show_default=True, help="How many jobs at a time.")
@click.option("-q", "--queues", callback=_queues, help="Queues to serve, in order, with commas between.")
@click.option("-b", "--burst", is_flag=True, help="Run what is due, and leave.")
@click.option(
    "--drain", type=DURATION, default=format_duration(DRAIN), show_default=True, help="Time for jobs after a signal."
)
@click.option("--lease", type=DURATION, default="30s", show_default=True, help="When a dead worker's jobs are found.")
@click.pass_context
def run_jobs(
    context: click.Context,
    *,
    concurrency: int,
    queues: list[str] | None,
    drain: timedelta,
    lease: timedelta,
    burst: bool,
) -> None:
    """Run jobs until SIGTERM or SIGINT, inside the application's lifespan, and without its embedded runners.

    `flowli worker module:jobs` does the same without the application, and has more to offer: --workers, --reload.
    """
    registry: _AppRegistry = context.obj
    app, jobs = registry.app, registry.load()
    try:
        runner = Runner(jobs, concurrency=concurrency, queues=queues, lease=lease, on_stall=leave_stalled)
    except DefinitionError as error:
        raise click.UsageError(str(error)) from error

    def tell(started: Started) -> None:
        click.echo(started.banner(registry=type(jobs).__name__), err=True)

    worker = Worker(jobs, runner, drain=drain, burst=burst, on_up=tell)
    code = run(_inside(app, worker, _plugins(app)))
    context.exit(code)


for _command in (status, schedules):
    jobs_group.add_command(_command)


async def _inside(app: Litestar, worker: Worker, plugins: list[FlowliPlugin]) -> int:
    async with AsyncExitStack() as stack:
        for plugin in plugins:
            plugin.is_run_by_command = True
        await stack.enter_async_context(app.lifespan())
        try:
            return await worker.run()
        finally:
            for plugin in plugins:
                await plugin.config.jobs.aclose()


def _plugins(app: Litestar) -> list[FlowliPlugin]:
    return [plugin for plugin in app.plugins.cli if isinstance(plugin, FlowliPlugin)]


def _plugin(app: Litestar, key: str | None) -> FlowliPlugin:
    found = {plugin.config.dependency_key: plugin for plugin in _plugins(app)}
    if key is None and len(found) == 1:
        (only,) = found.values()
        return only
    if key not in found:
        raise click.UsageError(f"say which registry with --key: {', '.join(found)}")
    return found[key]
