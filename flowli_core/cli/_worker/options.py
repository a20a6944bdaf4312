"""The options of a worker, each written once.

A new option is one `setting` and one field here; its variable, its value in the workers of `--workers`, and its place
in the command groups of adapters follow from that.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, cast

import click

from flowli_core import DefinitionError, Observer, Runner
from flowli_core._jobs.registry import Jobs
from flowli_core._running.options import DRAIN
from flowli_core.cli._common.options import (
    DurationType,
    choice,
    combine,
    setting,
    split_names,
    target_options,
    variable,
)
from flowli_core.durations import format_duration

run_options = combine(
    setting("-c --concurrency", int, 10, "Maximum number of jobs that a worker process runs at once."),
    setting(
        "-q --queues",
        str,
        None,
        "Queues to serve, separated by commas, the first served first; or with their weights: mail=3,bulk=1.",
        callback=split_names,
        show_default="those of the jobs",
    ),
    setting(
        "-b --burst/--no-burst",
        bool,
        default=False,
        help="Run the jobs that are due, and those that they make due, then exit: with code 0 even if jobs failed.",
    ),
    setting(
        "--drain",
        DurationType(zero=True),
        format_duration(DRAIN),
        "How long running jobs may continue after a stop signal.",
    ),
    setting("--lease", DurationType(), "30s", "Lease length: the jobs of a dead worker run again after this time."),
    setting(
        "--stall-limit",
        DurationType(),
        "5m",
        "Exit with code 70 if the event loop is blocked, or handlers that never end hold every slot, for this long.",
    ),
)
"""The options of one worker process, as the fields of RunOptions."""

worker_options = combine(
    target_options,
    run_options,
    setting(
        "-w --workers",
        click.IntRange(1, 1_000),
        1,
        "Number of worker processes. With more than one, a parent process restarts those that die.",
    ),
    setting("-r --reload/--no-reload", bool, False, "Restart when the code in --app-dir changes."),  # noqa: FBT003
    setting("--log-level", choice("debug", "info", "warning", "error"), "info", "Lowest level to log."),
    setting("--log-format", choice("plain", "json"), "plain", "Format of the log lines."),
    setting(
        "--health-port",
        click.IntRange(1, 65535),
        None,
        "Serve /live, /ready and /metrics on this port; with --workers, worker n (from 0) on this port + n.",
    ),
    setting("--health-host", str, "127.0.0.1", "Address to serve them on; 0.0.0.0 in a container."),
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
                queues=_weights_of(self.queues) or self.queues or None,
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


def _weights_of(queues: tuple[str, ...]) -> dict[str, int]:
    """Return the weights of queues that are given as NAME=WEIGHT. Raises UsageError if only some have one."""
    pairs = [queue.partition("=") for queue in queues]
    if not any(mark for _, mark, _ in pairs):
        return {}
    try:
        weights = {name: int(weight) for name, _, weight in pairs}
    except ValueError:
        raise click.UsageError(
            f"--queues: give a whole number as weight to each queue, as in mail=3,bulk=1, got {','.join(queues)}"
        ) from None
    if len(weights) < len(pairs):
        raise click.UsageError(f"--queues: give each queue one weight, got {','.join(queues)}")
    return weights


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
