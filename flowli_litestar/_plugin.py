"""The plugin that a user gives to Litestar."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litestar.plugins import CLIPlugin

from flowli_litestar._application import ApplicationPlugin

if TYPE_CHECKING:
    from click import Group  # a server does not need it


class FlowliPlugin(ApplicationPlugin, CLIPlugin):
    """`Litestar([...], plugins=[FlowliPlugin(FlowliConfig(jobs=jobs, runner=Runner(jobs)))])`.

    A handler declares `jobs: NamedDependency[AppJobs]`, whose name may be imported under TYPE_CHECKING. The registry is
    opened after the application's own `lifespan` has opened its resources, and closed before it closes them, so jobs
    may use them. `on_startup` hooks run later than the start of the runner.
    """

    def on_cli_init(self, cli: Group) -> None:
        """Add `litestar jobs`, once for all plugins of this kind."""
        from flowli_litestar._commands import jobs_group  # noqa: PLC0415 - the same

        if jobs_group.name not in cli.commands:
            cli.add_command(jobs_group)
