"""`flowli schedules`: looking at recurring definitions, and steering them."""

from __future__ import annotations

from typing import Any

import click

from flowli_core._jobs.inspect import DEFAULT_PER_PAGE, MOST_PER_PAGE
from flowli_core._jobs.records import ScheduleRecord
from flowli_core._jobs.registry import Jobs, runtime_of
from flowli_core._text import escape_controls
from flowli_core.cli._common import exits
from flowli_core.cli._common.operation import json_option, operation
from flowli_core.cli._common.show import as_json, fields
from flowli_core.cli._operations.schedule_tables import foreseen, pairs, schedule_rows

_FORESEEN = 5


@click.group()
def schedules() -> None:
    """Look at recurring definitions, and steer them."""


@schedules.command("list")
@click.option("--limit", type=click.IntRange(1, MOST_PER_PAGE), default=DEFAULT_PER_PAGE, help="How many at the most.")
@click.option("--cursor", help="Where an earlier page ended.")
@json_option
@operation
async def list_schedules(registry: Jobs[Any], *, limit: int, cursor: str | None, is_json: bool) -> None:
    """List the schedules in the order of their keys."""
    page = await registry.inspect.get_schedules(limit=limit, cursor=cursor)
    if is_json:
        click.echo(as_json(page))
        return
    click.echo(schedule_rows(page.items, (await registry.inspect.get_activity()).now))
    if page.cursor is not None:
        click.echo(f"more: --cursor {page.cursor}", err=True)
    elif not page.items and cursor is None and (declared := _declared(registry)):
        click.echo(f"{len(declared)} stand in the code, and are stored when a worker starts", err=True)


@schedules.command()
@click.argument("key")
@json_option
@operation
async def show(registry: Jobs[Any], *, key: str, is_json: bool) -> int:
    """Show all that is known of the schedule with this KEY."""
    found = await registry.inspect.get_schedule(key)
    if found is None:
        return _unknown(registry, key)
    click.echo(as_json(found) if is_json else fields(pairs(found)))
    return exits.DONE


@schedules.command("next")
@click.argument("key")
@click.option("-n", "count", type=click.IntRange(1, MOST_PER_PAGE), default=_FORESEEN, help="How many.")
@json_option
@operation
async def foresee(registry: Jobs[Any], *, key: str, count: int, is_json: bool) -> int:
    """Tell when the schedule with this KEY has its next ticks, in UTC and in its own time zone."""
    found = await registry.inspect.get_schedule(key)
    if found is None:
        return _unknown(registry, key)
    ticks = await registry.inspect.next_runs(key, count)
    if is_json:
        click.echo(as_json(ticks))
    else:
        click.echo(foreseen(found, ticks, (await registry.inspect.get_activity()).now))
    if not ticks:
        click.echo(f"flowli: {escape_controls(key)} has no next tick: {_why_none(found)}", err=True)
    return exits.DONE


@schedules.command()
@click.argument("key")
@operation
async def pause(registry: Jobs[Any], *, key: str) -> int:
    """Let the schedule with this KEY have no ticks until it is resumed. A deploy leaves it paused."""
    return _said("paused") if await registry.control.pause(key) else _unknown(registry, key)


@schedules.command()
@click.argument("key")
@operation
async def resume(registry: Jobs[Any], *, key: str) -> int:
    """Let the paused schedule with this KEY go on from now. What it missed is not made up for."""
    return _said("resumed") if await registry.control.resume(key) else _unknown(registry, key)


@schedules.command()
@click.argument("key")
@click.option("--json", "is_json", is_flag=True, help="The receipt as JSON.")
@operation
async def trigger(registry: Jobs[Any], *, key: str, is_json: bool) -> int:
    """Enqueue the job of the schedule with this KEY now, paused or not. Its next tick stays."""
    receipt = await registry.control.trigger(key)
    if receipt is None:
        return _unknown(registry, key)
    click.echo(as_json(receipt) if is_json else f"{receipt.id} {receipt.state} ({receipt.disposition})")
    return exits.DONE


@schedules.command()
@click.argument("key")
@operation
async def remove(registry: Jobs[Any], *, key: str) -> int:
    """Remove the schedule with this KEY. The jobs of its ticks stay."""
    if not await registry.control.unschedule(key):
        return _unknown(registry, key)
    click.echo("removed")
    if key in _declared(registry):
        click.echo(
            "it stands in the code, and comes back when a worker starts: pause it, or take it out there", err=True
        )
    return exits.DONE


def _declared(registry: Jobs[Any]) -> list[str]:
    return [planned.key for planned in runtime_of(registry).schedules]


def _why_none(found: ScheduleRecord) -> str:
    if found.paused:
        return "it is paused"
    return "it has come to its end" if found.readable else "a later release wrote it, or somebody has damaged it"


def _said(text: str) -> int:
    click.echo(text)
    return exits.DONE


def _unknown(registry: Jobs[Any], key: str) -> int:
    cure = "it stands in the code, and is stored when a worker starts" if key in _declared(registry) else ""
    cure = cure or "flowli schedules list shows those that there are"
    click.echo(f"flowli: there is no schedule with the key {escape_controls(key)}; {cure}", err=True)
    return exits.FAILED
