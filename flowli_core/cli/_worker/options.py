"""The options of a worker, each written once.

A new option is one `setting` and one field here; its variable, its value in the workers of `--workers`, and its place
in the command groups of adapters follow from that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, cast

import click

from flowli_core import DefinitionError, Observer, Runner
from flowli_core._jobs.registry import Jobs
from flowli_core._running.run import DRAIN
from flowli_core.cli._common.options import DurationType, combine, setting, split_names, target_options, variable
from flowli_core.durations import format_duration

_MOST_WORKERS = 1_000

run_options = combine(
    setting(
        "-c",
        "--concurrency",
        type=int,
        default=10,
        show_default=True,
        help="Maximum number of jobs that a worker process runs at once.",
    ),
    setting(
        "-q",
        "--queues",
        callback=split_names,
        help="Queues to serve, separated by commas, the first served first.  [default: those of the jobs]",
    ),
    setting("-b", "--burst/--no-burst", default=False, help="Run the jobs that are due, then exit."),
    setting(
        "--drain",
        type=DurationType(zero=True),
        default=format_duration(DRAIN),
        show_default=True,
        help="How long running jobs may continue after a stop signal.",
    ),
    setting(
        "--lease",
        type=DurationType(),
        default="30s",
        show_default=True,
        help="Lease length: the jobs of a dead worker run again after this time.",
    ),
    setting(
        "--stall-limit",
        type=DurationType(),
        default="5m",
        show_default=True,
        help="Exit with code 70 if the event loop stays blocked for this long.",
    ),
)
"""The options of one worker process, as the fields of RunOptions."""

worker_options = combine(
    target_options,
    run_options,
    setting(
        "-w",
        "--workers",
        type=click.IntRange(1, _MOST_WORKERS),
        default=1,
        help="Number of worker processes. With more than one, a parent process restarts those that die.",
    ),
    setting("-r", "--reload/--no-reload", default=False, help="Restart when the code in --app-dir changes."),
    setting(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
        default="info",
        help="Lowest level to log.",
    ),
    setting(
        "--log-format",
        type=click.Choice(["plain", "json"], case_sensitive=False),
        default="plain",
        help="Format of the log lines.",
    ),
    setting(
        "--health-port",
        type=click.IntRange(1, 65535),
        help="Serve /live, /ready and /metrics on this port; with --workers, worker n (from 0) on this port + n.",
    ),
    setting("--health-host", default="127.0.0.1", help="Address to serve them on; 0.0.0.0 in a container."),
)
"""The options of `flowli worker`, as the fields of WorkerOptions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The values of `run_options`."""

    concurrency: int
    queues: tuple[str, ...]
    burst: bool
    drain: timedelta
    lease: timedelta
    stall_limit: timedelta

    def make_runner(
        self, jobs: Jobs[Any], *, on_stall: Callable[[], None], observers: Sequence[Observer] = ()
    ) -> Runner:
        """Make the runner of these options. Raises UsageError for one that it refuses."""
        try:
            return Runner(
                jobs,
                concurrency=self.concurrency,
                queues=self.queues or None,
                lease=self.lease,
                stall_limit=self.stall_limit,
                on_stall=on_stall,
                observers=observers,
            )
        except DefinitionError as error:
            raise click.UsageError(str(error)) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions(RunOptions):
    """The values of `worker_options`."""

    app: str
    app_dir: str
    factory: bool
    workers: int
    reload: bool
    log_level: str
    log_format: str
    health_port: int | None
    health_host: str

    def variables_of(self, number: int) -> dict[str, str]:
        """Return the environment variables that give worker `number` of several these options."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values |= {"workers": 1, "reload": False}
        if self.health_port is not None:
            values["health_port"] = self.health_port + number
        return {variable(name): _as_text(value) for name, value in values.items()}


def _as_text(value: object) -> str:
    """Write the value of an option as its variable holds it; empty means that the option is not given."""
    match value:
        case None:
            return ""
        case bool():
            return str(int(value))
        case timedelta():
            return format_duration(value)
        case tuple():
            return ",".join(cast("tuple[str, ...]", value))
        case _:
            return str(value)
