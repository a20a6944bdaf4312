"""`flowli status`: what waits, what runs, who works."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from flowli_core._jobs.inspect import MOST_PER_PAGE
from flowli_core._jobs.records import ScheduleRecord
from flowli_core._jobs.registry import Jobs, runtime_of
from flowli_core._text import escape_controls
from flowli_core.cli._common.operation import json_option, operation
from flowli_core.cli._common.options import DURATION
from flowli_core.cli._common.show import as_json, fields, format_span, is_terminal, table, when
from flowli_core.cli._operations.schedule_tables import schedule_rows
from flowli_core.driver import STATES, Activity, QueueCounts, StateCounts
from flowli_core.errors import StoreUnavailable

_CLEAR = "\x1b[H\x1b[2J"
_MOST_WORKERS = 8
_MOST_SCHEDULES = 10
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What an operator asks first. `schedules` are those that are due next, of the first 1,000 by their keys."""

    driver: str
    counts: QueueCounts
    activity: Activity
    schedules: tuple[ScheduleRecord, ...]


async def read_status(jobs: Jobs[Any]) -> Status:
    """Ask the store."""
    counts = await jobs.inspect.get_queue_counts()
    activity = await jobs.inspect.get_activity()
    found = await jobs.inspect.get_schedules(limit=MOST_PER_PAGE)
    schedules = tuple(sorted(found.items, key=_urgency)[:_MOST_SCHEDULES])
    driver = repr(runtime_of(jobs).require_driver())
    return Status(driver=driver, counts=counts, activity=activity, schedules=schedules)


def status_text(status: Status) -> str:
    """Write it for people."""
    activity = status.activity
    parts = [
        fields(
            [
                ("driver", status.driver),
                ("workers", _workers(activity.workers, activity.now)),
                ("oldest", _oldest(activity)),
            ]
        ),
        _queues(status),
    ]
    if status.schedules:
        parts.append(schedule_rows(status.schedules, activity.now))
    return "\n\n".join(parts)


@click.command()
@json_option
@click.option("--watch", is_flag=True, help="Look again and again, until Ctrl-C.")
@click.option("--every", type=DURATION, default="2s", help="How often --watch looks.")
@operation
async def status(jobs: Jobs[Any], *, is_json: bool, watch: bool, every: timedelta) -> None:
    """Show what waits, what runs, and who works: the workers heard of within the last minute, stopped since or not."""
    while True:
        try:
            found = await read_status(jobs)
        except StoreUnavailable as error:
            if not watch:
                raise
            click.echo(
                f"flowli: {escape_controls(error)}", err=True
            )  # it may come back, and whoever watches waits for that
        else:
            text = as_json(found) if is_json else status_text(found)
            click.echo((_CLEAR if watch and is_terminal() else "") + text)
        if not watch:
            return
        await asyncio.sleep(every.total_seconds())


def _urgency(schedule: ScheduleRecord) -> tuple[bool, datetime]:
    """Order by the next tick, and those without one behind the others."""
    return (schedule.next_tick is None, schedule.next_tick or _NEVER)


def _workers(workers: Mapping[str, datetime], now: datetime) -> str:
    if not workers:
        return "none"
    names = sorted(workers)
    shown = [f"{name} (heard of {when(workers[name], now)})" for name in names[:_MOST_WORKERS]]
    more = [f"and {len(names) - _MOST_WORKERS} more"] if len(names) > _MOST_WORKERS else []
    return ("\n" if is_terminal() else ", ").join([f"{len(names)} heard of within the last minute", *shown, *more])


def _oldest(activity: Activity) -> str:
    if not activity.oldest:
        return "nothing waits"
    queue, since = min(activity.oldest.items(), key=lambda pair: pair[1])
    return f"waits for {format_span(activity.now - since)}, in {queue}"


def _queues(status: Status) -> str:
    now, oldest = status.activity.now, status.activity.oldest
    rows = [_row(name, counts, oldest.get(name), now) for name, counts in sorted(status.counts.by_queue.items())]
    rows.append(_row("all", status.counts, min(oldest.values(), default=None), now))
    return table(["queue", *STATES, "oldest"], rows, right=[*STATES, "oldest"])


def _row(name: str, counts: StateCounts, oldest: datetime | None, now: datetime) -> list[object]:
    waits = "" if oldest is None else format_span(now - oldest)
    return [name, *(getattr(counts, state) for state in STATES), waits]
