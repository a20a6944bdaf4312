"""`flowli worker`: start one worker process, or a parent of several."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowli_core import Runner
from flowli_core._jobs.registry import runtime_of
from flowli_core._logger import logger
from flowli_core.cli._common.operation import warn_of_private_store
from flowli_core.cli._common.process import run, set_up_logs
from flowli_core.cli._common.target import load
from flowli_core.cli._worker.health_server import HealthServer
from flowli_core.cli._worker.options import WorkerOptions, worker_options
from flowli_core.cli._worker.parent import Parent
from flowli_core.cli._worker.parent_link import ParentLink
from flowli_core.cli._worker.serve import Started, Worker

if TYPE_CHECKING:
    from flowli_core.metrics import PrometheusMetrics  # at run time it needs prometheus_client, which is optional


@click.command()
@click.argument("target", metavar="[APP]", required=False)
@worker_options
def worker(*, target: str | None, **given: Any) -> None:
    """Run the jobs of APP, which is module:attribute, such as app.jobs:jobs.

    On SIGTERM or Ctrl-C the worker reserves no more jobs and waits up to --drain for running ones; unfinished jobs
    return to the queue without using an attempt. A second signal returns them immediately. A third exits immediately:
    other workers run the jobs when the leases expire.

    Each option can also be set by an environment variable: --stall-limit by FLOWLI_STALL_LIMIT, APP by FLOWLI_APP.

    Exit codes: 0 stopped as asked, 1 failed, 2 wrong usage, 70 the event loop stayed blocked or hanging handlers took
    all slots, 143 stopped by a second signal, 128 plus the number of the third signal.
    """
    given["app"] = target or given["app"]
    if given["app"] is None:
        raise click.UsageError("name the registry: flowli worker app.jobs:jobs, or set FLOWLI_APP=app.jobs:jobs")
    options = WorkerOptions(**given)
    set_up_logs(level=options.log_level, style=options.log_format)
    link = ParentLink.take_from_environment()
    if link is None and (options.workers > 1 or options.reload):
        code = _run_parent(options)
    else:
        code = _run_worker(options, link)
    click.get_current_context().exit(code)


def _run_parent(options: WorkerOptions) -> int:
    # The workers get their options from the environment. The app is an argument too, so that `ps` shows it.
    command = [sys.executable, "-m", "flowli_core.cli", "worker", options.app]
    parent = Parent(
        command,
        workers=options.workers,
        environ_of=lambda number: {**os.environ, **options.variables_of(number)},
        burst=options.burst,
        reloads=_changes_in(options.app_dir) if options.reload else None,
    )
    return parent.run()


def _run_worker(options: WorkerOptions, link: ParentLink | None) -> int:
    jobs = load(options.app, app_dir=options.app_dir, factory=options.factory)
    metrics = _make_metrics() if options.health_port is not None else None
    is_first = link is None or link.number == 0

    def announce(started: Started) -> None:
        if link is not None:
            logger.info("worker %d is up", link.number)
        if not is_first:
            return  # the banner of the first is that of all
        if options.log_format == "json":
            logger.info("the worker is up", extra=started.facts())
        else:
            click.echo(started.banner(app=options.app), err=True)

    worker = Worker(
        jobs,
        options,
        on_up=announce,
        observers=[] if metrics is None else [metrics],
        parent=link,
        health=_make_health_server(options, metrics),
    )
    if is_first:
        warn_of_private_store(jobs)
        _warn_of_undeclared_queues(worker.runner)
    code = run(worker.run())
    logger.info("the worker has stopped")
    return code


def _warn_of_undeclared_queues(runner: Runner) -> None:
    """Warn of queues that the registry does not declare: they may hold older jobs, or be misspelled."""
    runtime = runtime_of(runner.jobs)
    declared = sorted(runtime.queues)
    for queue in runner.queues:
        if queue not in declared:
            near = difflib.get_close_matches(queue, declared, n=1)
            cure = f"did you mean {near[0]}?" if near else f"the declared queues are: {', '.join(declared)}"
            logger.warning("the registry declares no queue %s; %s", queue, cure)


def _make_metrics() -> PrometheusMetrics | None:
    if importlib.util.find_spec("prometheus_client") is None:
        return None
    made: PrometheusMetrics = importlib.import_module("flowli_core.metrics").PrometheusMetrics()
    return made


def _make_health_server(options: WorkerOptions, metrics: PrometheusMetrics | None) -> HealthServer | None:
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
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it logs each change, and so does the parent

    def changes(ending: threading.Event) -> Iterator[object]:
        folder = Path(app_dir).absolute()
        python = watchfiles.PythonFilter()
        yield from watchfiles.watch(folder, watch_filter=python, stop_event=ending, raise_interrupt=False)

    return changes
