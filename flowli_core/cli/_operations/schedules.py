"""`flowli schedules`: show and change schedules."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import click

from flowli_core._jobs.inspect import MOST_PER_PAGE
from flowli_core._jobs.records import ScheduleRecord
from flowli_core._jobs.registry import Jobs, runtime_of
from flowli_core._text import escape_controls
from flowli_core.cli._common import exits
from flowli_core.cli._common.operation import complete_schedule_key, operation
from flowli_core.cli._common.options import json_option, page_options
from flowli_core.cli._common.show import fail, format_json, format_moment, format_record, format_table, succeed
from flowli_core.durations import format_duration, format_span

_NEXT_RUNS = 5


@click.group()
def schedules() -> None:
    """Show and change schedules."""


@schedules.command("list")
@page_options
@json_option
@operation
async def list_schedules(registry: Jobs[Any], *, limit: int, cursor: str | None, is_json: bool) -> None:
    """List the schedules in the order of their keys."""
    page = await registry.inspect.get_schedules(limit=limit, cursor=cursor)
    if is_json:
        click.echo(format_json(page))
        return
    click.echo(format_schedules(page.items, (await registry.inspect.get_overview()).now))
    if page.cursor is not None:
        click.echo(f"more: --cursor {page.cursor}", err=True)
    elif not page.items and cursor is None and (declared := _declared_keys(registry)):
        verb = "is" if len(declared) == 1 else "are"
        keys = escape_controls(", ".join(declared))
        click.echo(f"{len(declared)} {verb} declared in code ({keys}); a worker stores them when it starts", err=True)


@schedules.command()
@click.argument("key", shell_complete=complete_schedule_key)
@json_option
@operation
async def show(registry: Jobs[Any], *, key: str, is_json: bool) -> int:
    """Show everything that is stored about the schedule KEY."""
    found = await registry.inspect.get_schedule(key)
    if found is None:
        return _fail_unknown(registry, key)
    if is_json:
        return succeed(format_json(found))
    return succeed(format_record(found, readable=None if found.readable else False))


@schedules.command("next")
@click.argument("key", shell_complete=complete_schedule_key)
@click.option(
    "-n",
    "count",
    type=click.IntRange(1, MOST_PER_PAGE),
    default=_NEXT_RUNS,
    help="Number of runs to show.",
    show_default=True,
)
@json_option
@operation
async def show_next(registry: Jobs[Any], *, key: str, count: int, is_json: bool) -> int:
    """Show the next runs of the schedule KEY, in UTC and in its own time zone."""
    found = await registry.inspect.get_schedule(key)
    if found is None:
        return _fail_unknown(registry, key)
    runs = await registry.inspect.next_runs(key, count)
    if is_json:
        click.echo(format_json(runs))
    else:
        click.echo(_format_runs(found, runs, (await registry.inspect.get_overview()).now))
    if not runs:
        click.echo(f"flowli: {escape_controls(key)} has no next run: {_explain_none(found)}", err=True)
    return exits.DONE


@schedules.command()
@click.argument("key", shell_complete=complete_schedule_key)
@operation
async def pause(registry: Jobs[Any], *, key: str) -> int:
    """Pause the schedule KEY until it is resumed. Deploys do not resume it."""
    return succeed("paused") if await registry.control.pause(key) else _fail_unknown(registry, key)


@schedules.command()
@click.argument("key", shell_complete=complete_schedule_key)
@operation
async def resume(registry: Jobs[Any], *, key: str) -> int:
    """Resume the paused schedule KEY. Its next run is computed from now; runs it missed are not made up."""
    return succeed("resumed") if await registry.control.resume(key) else _fail_unknown(registry, key)


@schedules.command()
@click.argument("key", shell_complete=complete_schedule_key)
@json_option
@operation
async def trigger(registry: Jobs[Any], *, key: str, is_json: bool) -> int:
    """Enqueue the job of the schedule KEY now, even if it is paused. Its next run does not change."""
    receipt = await registry.control.trigger(key)
    if receipt is None:
        return _fail_unknown(registry, key)
    return succeed(format_json(receipt) if is_json else f"{receipt.id} {receipt.state} ({receipt.disposition})")


@schedules.command()
@click.argument("key", shell_complete=complete_schedule_key)
@operation
async def remove(registry: Jobs[Any], *, key: str) -> int:
    """Remove the schedule KEY. The jobs that it has enqueued stay."""
    if not await registry.control.unschedule(key):
        return _fail_unknown(registry, key)
    if key in _declared_keys(registry):
        cure = "pause it instead, or remove it from the code"
        click.echo(f"it is declared in code, so the next worker start adds it again: {cure}", err=True)
    return succeed("removed")


def format_schedules(schedules: Iterable[ScheduleRecord], now: datetime) -> str:
    """Format schedules as a table, one a row."""
    rows = [[one.key, one.name, one.queue, _format_rule(one), _format_next(one, now)] for one in schedules]
    return format_table(["schedule", "job", "queue", "recurs", "next"], rows)


def _format_runs(schedule: ScheduleRecord, runs: Iterable[datetime], now: datetime) -> str:
    zone = ZoneInfo(schedule.timezone)
    rows = [[run, run.astimezone(zone).isoformat(sep=" "), f"in {format_span(run - now)}"] for run in runs]
    return format_table(["utc", "local", "from now"], rows)


def _format_rule(one: ScheduleRecord) -> str:
    if one.cron is not None:
        return f"{one.cron} {one.timezone}"
    return "" if one.every is None else f"every {format_duration(one.every)}"


def _format_next(one: ScheduleRecord, now: datetime) -> str:
    if one.paused:
        return "paused"
    if not one.readable:
        return "unreadable"
    return "ended" if one.next_tick is None else format_moment(one.next_tick, now)


def _declared_keys(registry: Jobs[Any]) -> list[str]:
    return [spec.key for spec in runtime_of(registry).schedules]


def _explain_none(found: ScheduleRecord) -> str:
    if found.paused:
        return "it is paused"
    return "it has ended" if found.readable else "a later release wrote it, or it is damaged"


def _fail_unknown(registry: Jobs[Any], key: str) -> int:
    cure = "flowli schedules list shows all"
    if key in _declared_keys(registry):
        cure = "it is declared in code, and the next worker start stores it"
    return fail(f"there is no schedule with the key {escape_controls(key)}; {cure}")
