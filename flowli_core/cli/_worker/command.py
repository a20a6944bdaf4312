"""`flowli worker`: the options, and what is started with them."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowli_core import DefinitionError, Runner
from flowli_core._jobs.registry import runtime_of
from flowli_core._running.run import DRAIN
from flowli_core.cli._common.options import DURATION, target_options
from flowli_core.cli._common.process import run, set_up_logs
from flowli_core.cli._common.target import load
from flowli_core.cli._worker.health_server import HealthServer
from flowli_core.cli._worker.parent import READY_VARIABLE, Parent
from flowli_core.cli._worker.serve import Lifeline, Started, Worker, leave_stalled
from flowli_core.durations import format_duration
from flowli_core.metrics import PrometheusMetrics

if TYPE_CHECKING:
    import threading

logger = logging.getLogger("flowli")

_MOST_WORKERS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What `flowli worker` was told."""

    app: str
    app_dir: str
    factory: bool
    concurrency: int
    workers: int
    queues: tuple[str, ...]
    burst: bool
    reload: bool
    drain: timedelta
    lease: timedelta
    stall_limit: timedelta
    log_level: str
    log_format: str
    health_port: int | None
    health_host: str

    def of_one(self, number: int) -> list[str]:
        """The command of one of several workers."""
        words = [sys.executable, "-m", "flowli_core.cli", "worker", "--app", self.app, "--app-dir", self.app_dir]
        words += ["--factory" if self.factory else "--no-factory", "--burst" if self.burst else "--no-burst"]
        words += ["--no-reload", "--workers", "1", "--concurrency", str(self.concurrency)]
        words += ["--drain", format_duration(self.drain), "--lease", format_duration(self.lease)]
        words += ["--stall-limit", format_duration(self.stall_limit)]
        words += ["--log-level", self.log_level, "--log-format", self.log_format]
        if self.queues:
            words += ["--queues", ",".join(self.queues)]
        if self.health_port is not None:
            words += ["--health-port", str(self.health_port + number), "--health-host", self.health_host]
        return words


def _split(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",")) if value else ()


@click.command()
@target_options(positional=True)
@click.option(
    "-c",
    "--concurrency",
    type=int,
    default=10,
    envvar="FLOWLI_CONCURRENCY",
    help="How many jobs at a time, each worker.",
)
@click.option(
    "-w",
    "--workers",
    type=click.IntRange(1, _MOST_WORKERS),
    default=1,
    envvar="FLOWLI_WORKERS",
    help="How many processes; over 1, a parent keeps them alive.",
)
@click.option(
    "-q",
    "--queues",
    callback=_split,
    envvar="FLOWLI_QUEUES",
    help="Queues to serve, in order, with commas between.  [default: those of the jobs]",
)
@click.option("-b", "--burst/--no-burst", default=False, envvar="FLOWLI_BURST", help="Run what is due, and leave.")
@click.option(
    "-r", "--reload/--no-reload", default=False, envvar="FLOWLI_RELOAD", help="Start again when the code changes."
)
@click.option(
    "--drain",
    type=DURATION,
    default=format_duration(DRAIN),
    envvar="FLOWLI_DRAIN",
    help="How long running jobs may go on after a signal.",
)
@click.option(
    "--lease",
    type=DURATION,
    default="30s",
    envvar="FLOWLI_LEASE",
    help="How soon the jobs of a dead worker are found.",
)
@click.option(
    "--stall-limit",
    type=DURATION,
    default="5m",
    envvar="FLOWLI_STALL_LIMIT",
    help="After how long a blocked event loop is given up: exit code 70.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    envvar="FLOWLI_LOG_LEVEL",
    help="What is logged.",
)
@click.option(
    "--log-format",
    type=click.Choice(["plain", "json"], case_sensitive=False),
    default="plain",
    envvar="FLOWLI_LOG_FORMAT",
    help="How it is logged.",
)
@click.option(
    "--health-port",
    type=click.IntRange(1, 65535),
    envvar="FLOWLI_HEALTH_PORT",
    help="Answer /live, /ready and /metrics here; worker n of several at this port + n.",
)
@click.option(
    "--health-host", default="127.0.0.1", envvar="FLOWLI_HEALTH_HOST", help="Where it listens; 0.0.0.0 in a container."
)
def worker(**given: Any) -> None:
    """Run the jobs of APP, which is module:attribute, such as app.jobs:jobs.

    SIGTERM or SIGINT: take no more, and finish what runs, for as long as --drain allows; the rest is given back, no
    attempt used. Once more: give everything back now. A third time: leave at once; leases end by themselves.

    Exit codes: 0 stopped as asked, 1 failed, 2 wrong usage, 70 the event loop was dead, 143 told twice to leave.
    """
    target = given.pop("target") or given["app"]
    if target is None:
        raise click.UsageError("say where the registry is: flowli worker app.jobs:jobs, or FLOWLI_APP")
    options = WorkerOptions(**given | {"app": target})
    set_up_logs(level=options.log_level, style=options.log_format)
    ready = os.environ.pop(READY_VARIABLE, None)
    if ready is None and (options.workers > 1 or options.reload):
        parent = Parent(
            options.of_one,
            workers=options.workers,
            environ=os.environ,
            burst=options.burst,
            reloads=_changes_in(options.app_dir) if options.reload else None,
        )
        code = parent.run()
    else:
        code = _serve(options, None if ready is None else Lifeline.from_variable(ready))
    click.get_current_context().exit(code)


def _serve(options: WorkerOptions, lifeline: Lifeline | None) -> int:
    if lifeline is not None:
        os.set_inheritable(lifeline.ready, False)  # noqa: FBT003 - its name says it
    jobs = load(options.app, app_dir=options.app_dir, factory=options.factory)
    metrics = _metrics() if options.health_port is not None else None
    try:
        runner = Runner(
            jobs,
            concurrency=options.concurrency,
            queues=options.queues or None,
            lease=options.lease,
            stall_limit=options.stall_limit,
            on_stall=leave_stalled,
            observers=[] if metrics is None else [metrics],
        )
    except DefinitionError as error:
        raise click.UsageError(str(error)) from error
    if lifeline is None or not lifeline.number:
        _warn_of_undeclared(runner)

    def tell(started: Started) -> None:
        if lifeline is not None:
            logger.info("worker %d is up", lifeline.number)
            if lifeline.number:
                return  # the first one says it all
        if options.log_format == "json":
            logger.info("the worker is up", extra=started.facts())
        else:
            lease, drain = format_duration(options.lease), format_duration(options.drain)
            limits = f"{options.concurrency} at a time, lease {lease}, drain {drain}"
            click.echo(started.banner(app=options.app, limits=limits), err=True)

    serving = Worker(
        jobs,
        runner,
        drain=options.drain,
        burst=options.burst,
        lifeline=lifeline,
        health=_health(options, metrics),
        on_up=tell,
    )
    code = run(serving.run())
    logger.info("the worker has stopped")
    return code


def _warn_of_undeclared(runner: Runner) -> None:
    """Say which queues no job has as its own: they may get calls with `options(queue=...)`, or be slips of the pen."""
    runtime = runtime_of(runner.jobs)
    declared = sorted({runtime.defaults.queue, *(job.queue for job in runtime.settings.values())})
    for queue in runner.queues:
        if queue not in declared:
            near = difflib.get_close_matches(queue, declared, n=1)
            cure = f"did you mean {near[0]}?" if near else f"theirs are: {', '.join(declared)}"
            logger.warning("no job of the registry declares the queue %s; %s", queue, cure)


def _metrics() -> PrometheusMetrics | None:
    if importlib.util.find_spec("prometheus_client") is None:
        return None
    made: PrometheusMetrics = importlib.import_module("flowli_core.metrics").PrometheusMetrics()
    return made


def _health(options: WorkerOptions, metrics: PrometheusMetrics | None) -> HealthServer | None:
    if options.health_port is None:
        return None
    try:
        return HealthServer(options.health_host, options.health_port, stall_limit=options.stall_limit, metrics=metrics)
    except OSError as error:
        raise click.UsageError(
            f"cannot listen on {options.health_host}:{options.health_port}: {error.strerror}"
        ) from error


def _changes_in(app_dir: str) -> Callable[[threading.Event], Iterator[object]]:
    if importlib.util.find_spec("watchfiles") is None:
        raise click.UsageError("--reload needs watchfiles: pip install flowli[reload]")
    watchfiles: Any = importlib.import_module("watchfiles")
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it tells of each change, and so do we

    def changes(ending: threading.Event) -> Iterator[object]:
        folder = Path(app_dir).absolute()
        python = watchfiles.PythonFilter()
        yield from watchfiles.watch(folder, watch_filter=python, stop_event=ending, raise_interrupt=False)

    return changes
