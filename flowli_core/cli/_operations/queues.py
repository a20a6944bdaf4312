"""`flowli queues`: list, pause and resume queues."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import nlargest
from typing import Any

import click

from flowli_core._jobs.registry import Jobs, runtime_of
from flowli_core._jobs.workers import WorkerRecord, to_workers
from flowli_core.cli._common.operation import complete_queue, operation
from flowli_core.cli._common.options import json_option
from flowli_core.cli._common.show import fail, format_json, format_table, is_terminal, succeed
from flowli_core.cli._operations.lanes import name_deepest
from flowli_core.durations import format_span
from flowli_core.stored import STATES, Overview, QueueCounts, StateCounts

_MOST_QUEUES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue: its counts, the due time of its oldest job, and the living workers that serve it."""

    name: str
    counts: StateCounts
    oldest: datetime | None
    paused_since: datetime | None
    served_by: tuple[str, ...]


class _ListByDefault(click.Group):
    """A group that runs its command `list` if it is called with options only."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        names_command = args and (args[0] == "--help" or not args[0].startswith("-"))
        return super().parse_args(ctx, args if names_command else ["list", *args])


@click.group(cls=_ListByDefault)
def queues() -> None:
    """List, pause and resume queues."""


@queues.command("list")
@json_option
@operation
async def list_queues(registry: Jobs[Any], *, is_json: bool) -> None:
    """List the queues that are declared, hold jobs or are paused.

    For each queue: the number of jobs in each state, how long its oldest due job has waited, how many living workers
    serve it, and for how long it has been paused.
    """
    overview, declared = await registry.inspect.get_overview(), runtime_of(registry).queues
    workers = to_workers(overview)
    if is_json:
        click.echo(format_json(_read_queues(overview, workers, declared)))
    else:
        click.echo(format_queues(overview, workers, declared, most=None))
        if overview.lane_count and is_terminal():
            click.echo(f"\nlanes: {name_deepest(overview)}")


@queues.command()
@click.argument("name", shell_complete=complete_queue)
@operation
async def pause(registry: Jobs[Any], *, name: str) -> int:
    """Pause the queue NAME until it is resumed: workers take no more jobs from it.

    Jobs that are running go on. Jobs can still be enqueued, and wait. Deploys do not resume the queue.
    """
    return succeed("paused" if await registry.control.pause_queue(name) else "it was paused already")


@queues.command()
@click.argument("name", shell_complete=complete_queue)
@operation
async def resume(registry: Jobs[Any], *, name: str) -> int:
    """Resume the paused queue NAME: workers take its jobs again."""
    return succeed("resumed") if await registry.control.resume_queue(name) else fail(f"the queue {name} is not paused")


def format_queues(
    overview: Overview,
    workers: Sequence[WorkerRecord],
    declared: Collection[str] = (),
    *,
    most: int | None = _MOST_QUEUES,
) -> str:
    """Format queues as a table: the paused ones, those with the most due and running jobs, and one row for the others.

    There is a column for paused queues only if there are any.
    """
    known = _read_queues(overview, workers, declared)
    shown = known if most is None else nlargest(most, known, key=_importance)
    names = {one.name for one in shown}
    others = [one for one in known if one.name not in names]
    alive = sum(worker.is_alive for worker in workers)
    rows = [_row(one, overview.now) for one in sorted(shown, key=lambda one: one.name)]
    if others:
        rows.append([*_row(_add(f"({len(others)} others)", others), overview.now)[:-2], "", ""])
    rows.append([*_row(_add("all", known), overview.now)[:-2], alive, ""])
    headers = ["queue", *STATES, "oldest", "workers", "paused"]
    if not overview.paused:
        headers, rows = headers[:-1], [row[:-1] for row in rows]
    return format_table(headers, rows, right=[*STATES, "oldest", "workers"])


def _read_queues(overview: Overview, workers: Sequence[WorkerRecord], declared: Collection[str] = ()) -> list[Queue]:
    by_queue = overview.counts.by_queue
    return [
        Queue(
            name=name,
            counts=by_queue.get(name, StateCounts()),
            oldest=overview.oldest.get(name),
            paused_since=overview.paused.get(name),
            served_by=tuple([worker.name for worker in workers if worker.is_alive and worker.serves(name)]),
        )
        for name in sorted({*declared, *by_queue, *overview.paused})
    ]


def _importance(queue: Queue) -> tuple[bool, int]:
    return queue.paused_since is not None, queue.counts.queued + queue.counts.active


def _add(name: str, queues: Sequence[Queue]) -> Queue:
    """Return a queue with the counts of several."""
    counts = QueueCounts.of({one.name: one.counts for one in queues})
    oldest = min((one.oldest for one in queues if one.oldest is not None), default=None)
    return Queue(name=name, counts=counts, oldest=oldest, paused_since=None, served_by=())


def _row(queue: Queue, now: datetime) -> list[object]:
    counts, since = queue.counts, queue.paused_since
    waited = "" if queue.oldest is None else format_span(now - queue.oldest)
    is_unserved = not queue.served_by and since is None and (counts.queued or counts.scheduled)
    workers = "none" if is_unserved else len(queue.served_by)
    paused = "" if since is None else f"paused for {format_span(max(now, since) - since)}"
    return [queue.name, *(getattr(counts, state) for state in STATES), waited, workers, paused]
