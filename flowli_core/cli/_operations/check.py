"""`flowli check` and `flowli doctor`: is it well, and what is it that is not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import click

from flowli_core._jobs.registry import Jobs, runtime_of
from flowli_core._text import escape_controls
from flowli_core.cli._common import exits
from flowli_core.cli._common.operation import json_option, operation
from flowli_core.cli._common.options import DURATION
from flowli_core.cli._common.show import as_json, format_span, is_terminal, styled, table
from flowli_core.diagnosis import Check, Diagnosable
from flowli_core.driver import Activity
from flowli_core.durations import format_duration
from flowli_core.errors import StoreUnavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What `flowli check` has found. `workers` were heard of within the last minute; where it is None nobody answered.

    `oldest` is for how many seconds the first of the jobs that wait has done so, None where none waits.
    """

    ok: bool
    workers: int | None
    oldest: float | None
    complaints: tuple[str, ...]


_COLOURS = {"ok": "green", "warning": "yellow", "bad": "red"}


@click.command()
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=0,
    help="How many workers must be heard of within the last minute; one that stopped since counts.",
)
@click.option("--oldest", type=DURATION, help="For how long a job may wait at the most.")
@click.option("--within", type=DURATION, default="5s", help="How soon the store must answer.")
@json_option
@operation
async def check(jobs: Jobs[Any], *, workers: int, oldest: timedelta | None, within: timedelta, is_json: bool) -> int:
    """Tell whether the store answers, with an exit code: 0 well, 1 not. For containers and alarms."""
    try:
        async with asyncio.timeout(within.total_seconds()):
            found = _checked(await jobs.inspect.get_activity(), workers, oldest)
    except TimeoutError:
        found = _unanswered(f"the store did not answer within {format_duration(within)}")
    except StoreUnavailable as error:
        if not is_json:
            raise
        found = _unanswered(str(error))
    if is_json:
        click.echo(as_json(found))
    else:
        for complaint in found.complaints:
            click.echo(complaint, err=True)
        if found.ok:
            click.echo("ok")
    return exits.DONE if found.ok else exits.FAILED


def _unanswered(complaint: str) -> Checked:
    return Checked(ok=False, workers=None, oldest=None, complaints=(complaint,))


def _checked(activity: Activity, workers: int, oldest: timedelta | None) -> Checked:
    complaints: list[str] = []
    heard = len(activity.workers)
    if heard < workers:
        complaints.append(f"{heard} of {workers} workers were heard of within the last minute")
    waited = max((activity.now - since for since in activity.oldest.values()), default=None)
    if oldest is not None and waited is not None and waited > oldest:
        complaints.append(f"a job has waited for {format_span(waited)}, longer than {format_duration(oldest)}")
    return Checked(
        ok=not complaints,
        workers=heard,
        oldest=None if waited is None else waited.total_seconds(),
        complaints=tuple(complaints),
    )


@click.command()
@json_option
@operation
async def doctor(jobs: Jobs[Any], *, is_json: bool) -> int:
    """Look at the store from all sides: exit code 1 where something is bad, 0 otherwise."""
    driver = await runtime_of(jobs).store()
    checks = [Check(name="driver", value=repr(driver))]
    if isinstance(driver, Diagnosable):
        checks += await driver.diagnose()
    else:
        checks.append(Check(name="diagnosis", value="this driver offers none"))
    activity = await jobs.inspect.get_activity()
    heard = len(activity.workers)
    waits = bool(activity.oldest) and not heard
    checks.append(
        Check(
            name="workers",
            value=f"{heard} heard of within the last minute",
            verdict="bad" if waits else "ok",
            cure="jobs wait, and nobody runs them: flowli worker" if waits else "",
        )
    )
    if is_json:
        click.echo(as_json(checks))
    else:
        click.echo(checks_text(checks))
    return exits.FAILED if any(one.verdict == "bad" for one in checks) else exits.DONE


def checks_text(checks: Sequence[Check]) -> str:
    """Write them for people, each cure below what it is for; in a pipe a line each."""
    if not is_terminal():
        rows = [(one.verdict, one.name, one.value, one.cure) for one in checks]
        return table(["verdict", "check", "seen", "cure"], rows)
    names = max(len(one.name) for one in checks)
    margin = "\n" + " " * (names + 11)
    lines: list[str] = []
    for one in checks:
        verdict = styled(one.verdict.ljust(7), fg=_COLOURS[one.verdict])
        told = escape_controls(one.value, lines=True) + (f"\n-> {escape_controls(one.cure)}" if one.cure else "")
        lines.append(f"{verdict}  {one.name.ljust(names)}  {told.replace(chr(10), margin)}")
    return "\n".join(lines)
