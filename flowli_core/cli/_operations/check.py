"""`flowli check`: an exit code for container health checks and alerts."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import click

from flowli_core._jobs.outbox_state import read_outbox
from flowli_core._jobs.registry import Jobs
from flowli_core._jobs.workers import to_workers
from flowli_core._text import escape_controls
from flowli_core.cli._common import exits
from flowli_core.cli._common.operation import operation
from flowli_core.cli._common.options import DurationType, json_option
from flowli_core.cli._common.show import format_json
from flowli_core.cli._operations.served import MOST_NAMED, complain_of_unserved, excuse, format_parked, is_here
from flowli_core.durations import format_duration, format_span
from flowli_core.errors import StoreUnavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The result of `flowli check`.

    `workers` counts the living ones. `last_seen` is how many seconds ago one of them was last seen. Both are None if
    the store did not answer. `oldest` is for how many seconds the oldest due job has waited; None if none waits.
    `paused` are the paused queues.
    """

    ok: bool = False
    workers: int | None = None
    last_seen: float | None = None
    oldest: float | None = None
    paused: tuple[str, ...] = ()
    complaints: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limits:
    workers: int
    here: bool
    oldest: timedelta | None


@click.command()
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Fail if fewer workers are alive. With 0, no worker is required.",
)
@click.option("--here", is_flag=True, help="Count only the workers of this host or container.")
@click.option("--oldest", type=DurationType(zero=True), help="Fail if a due job has waited longer than this.")
@click.option(
    "--within",
    type=DurationType(),
    default="5s",
    show_default=True,
    help="Fail if the store takes longer than this to answer.",
)
@json_option
@operation
async def check(
    jobs: Jobs[Any], *, workers: int, here: bool, oldest: timedelta | None, within: timedelta, is_json: bool
) -> int:
    """Check that a job enqueued now will be run, for container health checks and alerts.

    The store must answer, and each job of the registry needs a living worker that serves its queue and knows the job. A
    worker is alive until it stops, or has not been seen for 30 seconds; so one that was killed may count for that long.
    No job may wait in a queue that no worker serves, because no worker can run it, or in the outbox for over a minute.

    A paused queue is named, but fails the check only by the age of its jobs, with --oldest: whoever has paused it wants
    its jobs to wait, and containers need no restart for it. The same holds for jobs that wait for their limit.

    With --workers 0 it passes even if no worker runs. For the health of one worker, use its --health-port. The exit
    code is 0 if all is well, and 1 if not.
    """
    limits = _Limits(workers=workers, here=here, oldest=oldest)
    try:
        async with asyncio.timeout(within.total_seconds()):
            found = await _check(jobs, limits)
    except TimeoutError:
        found = Checked(complaints=(f"the store did not answer within {format_duration(within)}",))
    except StoreUnavailable as error:
        if not is_json:
            raise
        found = Checked(complaints=(str(error),))
    if is_json:
        click.echo(format_json(found))
    else:
        for complaint in found.complaints:
            click.echo(complaint, err=True)
        if found.ok:
            click.echo(_format_ok(found))
        if found.paused:
            more = f" and {len(found.paused) - MOST_NAMED} more" if len(found.paused) > MOST_NAMED else ""
            names = escape_controls(", ".join(found.paused[:MOST_NAMED]))
            click.echo(f"paused queues: {names}{more}", err=not found.ok)
    return exits.DONE if found.ok else exits.FAILED


def _format_ok(found: Checked) -> str:
    """Say when a worker was last seen, because one that was killed since counts as alive for a while."""
    if not found.workers or found.last_seen is None:
        return "ok, but no worker is alive"
    workers = "1 worker" if found.workers == 1 else f"{found.workers} workers"
    return f"ok: {workers} alive, last seen {format_span(timedelta(seconds=found.last_seen))} ago"


async def _check(jobs: Jobs[Any], limits: _Limits) -> Checked:
    overview = await jobs.inspect.get_overview()
    workers = to_workers(overview)
    counted = [worker for worker in workers if worker.is_alive and (not limits.here or is_here(worker.name))]
    complaints: list[str] = []
    if len(counted) < limits.workers:
        where = " on this host" if limits.here else ""
        complaints.append(f"{len(counted)} of {limits.workers} workers are alive{where}")
    if limits.workers and any(worker.is_alive for worker in workers):
        complaints += complain_of_unserved(jobs, overview, workers)
    complaints += [f"parked: {one}" for one in format_parked(await jobs.inspect.get_parked(overview), overview.now)]
    outbox = await read_outbox(jobs)
    if outbox is not None and outbox.needs_attention:
        complaints.append(f"outbox: {outbox}")
    oldest = min(overview.oldest, key=overview.oldest.__getitem__, default=None)
    waited = None if oldest is None else overview.now - overview.oldest[oldest]
    if oldest is not None and waited is not None and limits.oldest is not None and waited > limits.oldest:
        reason = excuse(oldest, overview)
        where = f" in the queue {oldest}{reason}" if reason else ""
        longer = format_duration(limits.oldest)
        complaints.append(f"a due job has waited for {format_span(waited)}{where}, longer than {longer}")
    unseen = min((overview.now - worker.seen for worker in counted), default=None)
    return Checked(
        ok=not complaints,
        workers=len(counted),
        last_seen=None if unseen is None else unseen.total_seconds(),
        oldest=None if waited is None else waited.total_seconds(),
        paused=tuple(sorted(overview.paused)),
        complaints=tuple(complaints),
    )
