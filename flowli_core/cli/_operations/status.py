"""`flowli status`: queues, workers and the next schedule runs at a glance."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from flowli_core._jobs.history import HistoryNumbers
from flowli_core._jobs.inspect import MOST_PER_PAGE
from flowli_core._jobs.outbox_state import OutboxState, read_outbox
from flowli_core._jobs.parked import ParkedJobs
from flowli_core._jobs.records import ScheduleRecord
from flowli_core._jobs.registry import Jobs, runtime_of
from flowli_core._jobs.workers import WorkerRecord, to_workers
from flowli_core._text import escape_controls
from flowli_core.cli._common.operation import operation
from flowli_core.cli._common.options import DurationType, json_option
from flowli_core.cli._common.show import format_fields, format_json, format_moment, is_terminal
from flowli_core.cli._operations.history import format_numbers, to_json
from flowli_core.cli._operations.lanes import name_deepest
from flowli_core.cli._operations.queues import format_queues
from flowli_core.cli._operations.schedules import format_schedules
from flowli_core.cli._operations.served import excuse, format_parked, name_some
from flowli_core.durations import format_duration, format_span
from flowli_core.errors import StoreUnavailable
from flowli_core.lanes import StoredLane
from flowli_core.stored import Overview, QueueCounts

_CLEAR = "\x1b[H\x1b[2J"
_MOST_WORKERS = 8
_MOST_SCHEDULES = 10
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The state of a store, and what it counted within an hour.

    `schedules` are those that run next, out of the first 1,000 by key.
    """

    now: datetime
    counts: QueueCounts
    oldest: Mapping[str, datetime]
    paused: Mapping[str, datetime]
    lanes: tuple[StoredLane, ...]
    lane_count: int
    workers: tuple[WorkerRecord, ...]
    driver: str
    last_hour: HistoryNumbers
    parked: tuple[ParkedJobs, ...]
    outbox: OutboxState | None
    schedules: tuple[ScheduleRecord, ...]


async def read_status(jobs: Jobs[Any]) -> Status:
    """Read the status from the store."""
    overview = await jobs.inspect.get_overview()
    found = await jobs.inspect.get_schedules(limit=MOST_PER_PAGE)
    schedules = sorted(found.items, key=lambda schedule: schedule.next_tick or _NEVER)
    return Status(
        now=overview.now,
        counts=overview.counts,
        oldest=overview.oldest,
        paused=overview.paused,
        lanes=overview.lanes,
        lane_count=overview.lane_count,
        workers=to_workers(overview),
        driver=repr(runtime_of(jobs).require_driver()),
        last_hour=(await jobs.inspect.history("1h")).total,
        parked=await jobs.inspect.get_parked(overview),
        outbox=await read_outbox(jobs),
        schedules=tuple(schedules[:_MOST_SCHEDULES]),
    )


def format_status(status: Status, declared: Collection[str]) -> str:
    """Format the status for people. Queues with waiting jobs that are not in `declared` are named."""
    overview = Overview(
        now=status.now,
        counts=status.counts,
        oldest=status.oldest,
        paused=status.paused,
        lanes=status.lanes,
        lane_count=status.lane_count,
    )
    head = [
        ("driver", status.driver),
        ("workers", _format_workers(status.workers, status.now)),
        ("oldest", _format_oldest(overview)),
        ("last hour", format_numbers(status.last_hour)),
    ]
    if status.lane_count:
        head.append(("lanes", name_deepest(overview)))
    if status.outbox is not None:
        head.append(("outbox", str(status.outbox)))
    if status.parked:
        head.append(("parked", ("\n" if is_terminal() else ", ").join(format_parked(status.parked, status.now))))
    undeclared = _format_undeclared(status.counts, declared)
    if undeclared:
        head.append(("undeclared", ("\n" if is_terminal() else ", ").join(undeclared)))
    parts = [format_fields(head), format_queues(overview, status.workers)]
    if status.schedules:
        parts.append(format_schedules(status.schedules, status.now))
    return "\n\n".join(parts)


@click.command()
@json_option
@click.option("--watch", is_flag=True, help="Refresh until Ctrl-C.")
@click.option("--every", type=DurationType(), default="2s", help="Time between two refreshes.", show_default=True)
@operation
async def status(jobs: Jobs[Any], *, is_json: bool, watch: bool, every: timedelta) -> None:
    """Show queues, workers and the next schedule runs.

    For each queue: the number of jobs in each state, how long its oldest due job has waited, and how many living
    workers serve it. A paused queue is marked. The 100 queues with the most due and running jobs have a row each, and
    the others share one. Use --json to list all. Parked jobs wait for another worker, because the one that met them
    does not know them, or a later release wrote them. A queue with waiting jobs is called undeclared if the registry
    does not declare it. A worker that was killed counts as alive for up to 30 seconds, and is listed for a minute. The
    last hour is that of flowli history. Jobs wait in a lane if they share a limit: see flowli lanes.

    The exit code is 0 whatever is shown, and 1 if the store is unreachable: for alerts, use flowli check.
    """
    while True:
        try:
            found = await read_status(jobs)
        except StoreUnavailable as error:
            if not watch:
                raise
            click.echo(f"flowli: {escape_controls(error)}", err=True)  # and go on: the store may come back
        else:
            text = _format_json(found) if is_json else format_status(found, runtime_of(jobs).queues)
            if watch and not is_json:
                text = f"every {format_duration(every)}, {found.now:%H:%M:%S} UTC, until Ctrl-C\n\n{text}"
            click.echo((_CLEAR if watch and is_terminal() else "") + text)
        if not watch:
            return
        await asyncio.sleep(every.total_seconds())


def _format_json(status: Status) -> str:
    values = {field.name: getattr(status, field.name) for field in fields(status)}
    return format_json(values | {"last_hour": to_json(status.last_hour)})


def _format_workers(workers: Sequence[WorkerRecord], now: datetime) -> str:
    alive = sum(worker.is_alive for worker in workers)
    lines = [f"{alive} alive" if alive else "none alive"]
    for worker in workers[:_MOST_WORKERS]:
        state = "last seen" if worker.is_alive else "not alive, last seen"
        queues = "" if worker.queues is None else f", queues {', '.join(worker.queues)}"
        lines.append(f"{worker.name} ({state} {format_moment(worker.seen, now)}{queues})")
    if len(workers) > _MOST_WORKERS:
        lines.append(f"and {len(workers) - _MOST_WORKERS} more")
    return ("\n" if is_terminal() else ", ").join(lines)


def _format_oldest(overview: Overview) -> str:
    if not overview.oldest:
        return "no due job is waiting"
    queue, since = min(overview.oldest.items(), key=lambda pair: pair[1])
    return f"waiting for {format_span(overview.now - since)} in queue {queue}{excuse(queue, overview)}"


def _format_undeclared(counts: QueueCounts, declared: Collection[str]) -> list[str]:
    """Name ten queues with waiting jobs that the registry does not declare, and count the others."""
    waiting = {name: one.queued + one.scheduled for name, one in counts.by_queue.items() if name not in declared}
    queues = {name: count for name, count in waiting.items() if count}
    named, others, count = name_some(queues)
    lines = [f"{name} ({queues[name]} waiting): only workers with --queues serve it" for name in named]
    return [*lines, f"other queues: {others} ({count} waiting)"] if others else lines
