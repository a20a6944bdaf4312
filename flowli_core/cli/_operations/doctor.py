"""`flowli doctor`: examine the store, and show what is wrong and how to cure it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click

from flowli_core._jobs.lanes import describe_overdue, overdue_lanes
from flowli_core._jobs.outbox_state import read_outbox
from flowli_core._jobs.parked import ParkedJobs
from flowli_core._jobs.registry import Jobs, runtime_of
from flowli_core._jobs.workers import to_workers
from flowli_core._text import escape_controls
from flowli_core.cli._common import exits
from flowli_core.cli._common.operation import operation
from flowli_core.cli._common.options import json_option
from flowli_core.cli._common.show import format_json, format_table, is_terminal, styled, wrap
from flowli_core.cli._operations.served import complain_of_unserved, format_parked, format_paused
from flowli_core.diagnosis import Check, Diagnosable
from flowli_core.stored import Overview

_COLOURS = {"ok": "green", "warning": "yellow", "bad": "red"}


@click.command()
@json_option
@operation
async def doctor(jobs: Jobs[Any], *, is_json: bool) -> int:
    """Examine the store, its data and its workers.

    Each finding is ok, a warning or bad. The exit code is 1 if any is bad or the store is unreachable, and otherwise 0.
    """
    driver = await runtime_of(jobs).store()
    checks = [Check(name="driver", value=repr(driver))]
    if isinstance(driver, Diagnosable):
        checks += await driver.diagnose()
    else:
        checks.append(Check(name="diagnosis", value="not offered by this driver"))
    overview = await jobs.inspect.get_overview()
    checks += [
        _check_workers(jobs, overview),
        _check_paused(overview),
        *_check_lanes(overview),
        check_parked(await jobs.inspect.get_parked(overview), overview.now),
    ]
    checks += await _check_outbox(jobs)
    click.echo(format_json(checks) if is_json else _format_checks(checks))
    return exits.FAILED if any(one.verdict == "bad" for one in checks) else exits.DONE


def _check_workers(jobs: Jobs[Any], overview: Overview) -> Check:
    workers = to_workers(overview)
    alive = sum(worker.is_alive for worker in workers)
    value = f"{alive} alive"
    if not alive and overview.oldest.keys() - overview.paused.keys():
        cure = "jobs are waiting and no worker runs: start one with flowli worker"
        return Check(name="workers", value=value, verdict="bad", cure=cure)
    complaints = complain_of_unserved(jobs, overview, workers) if alive else []
    if complaints:
        cure = "start a worker of the current release that serves all queues"
        return Check(name="workers", value="\n".join([value, *complaints]), verdict="bad", cure=cure)
    return Check(name="workers", value=value)


def _check_paused(overview: Overview) -> Check:
    if not overview.paused:
        return Check(name="paused queues", value="none")
    cure = "resume a queue with flowli queues resume NAME; no worker takes jobs from it before that"
    return Check(name="paused queues", value="\n".join(format_paused(overview)), verdict="warning", cure=cure)


def _check_lanes(overview: Overview) -> list[Check]:
    """Return the finding about lanes, if any have waiting jobs. Those that wait for a place or their rate are well."""
    if not overview.lane_count:
        return []
    count = f"{overview.lane_count:,} with waiting jobs"
    overdue = [describe_overdue(lane, overview.now) for lane in overdue_lanes(overview, to_workers(overview))]
    if not overdue:
        return [Check(name="lanes", value=count)]
    cure = "start more workers for these queues, if the slots of all are in use"
    return [Check(name="lanes", value="\n".join([count, *overdue]), verdict="warning", cure=cure)]


async def _check_outbox(jobs: Jobs[Any]) -> list[Check]:
    """Return the finding about the outbox, if the registry has one."""
    outbox = await read_outbox(jobs)
    if outbox is None:
        return []
    if not outbox.needs_attention:
        return [Check(name="outbox", value=str(outbox))]
    cure = "start a worker that reaches the database, or flowli relay; their logs say what fails"
    return [Check(name="outbox", value=str(outbox), verdict="bad", cure=cure)]


def check_parked(parked: Sequence[ParkedJobs], now: datetime) -> Check:
    """Return the finding about parked jobs."""
    if not parked:
        return Check(name="parked jobs", value="none")
    cure = "deploy a worker that can run them, or cancel them"
    return Check(name="parked jobs", value="\n".join(format_parked(parked, now)), verdict="bad", cure=cure)


def _format_checks(checks: Sequence[Check]) -> str:
    """Format each cure below its check; in a pipe, one check a line."""
    if not is_terminal():
        rows = [(one.verdict, one.name, one.value, one.cure) for one in checks]
        return format_table(["verdict", "check", "seen", "cure"], rows)
    width = max(len(one.name) for one in checks)
    margin = width + 11
    lines: list[str] = []
    for one in checks:
        verdict = styled(one.verdict.ljust(7), fg=_COLOURS[one.verdict])
        text = escape_controls(one.value, lines=True) + (f"\n-> {escape_controls(one.cure)}" if one.cure else "")
        lines.append(f"{verdict}  {one.name.ljust(width)}  {wrap(text, margin)}")
    return "\n".join(lines)
