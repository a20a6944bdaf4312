"""`flowli doctor`: examine the store, and say what is wrong and what to do about it."""

from collections.abc import Sequence
from typing import Any

import click

from flowli_core._jobs.registry import Jobs, runtime_of
from flowli_core._text import escape_controls
from flowli_core.cli._common import exits
from flowli_core.cli._common.operation import operation
from flowli_core.cli._common.options import json_option
from flowli_core.cli._common.show import format_json, format_table, hang, is_terminal, styled
from flowli_core.cli._operations.parked import check_parked, read_parked
from flowli_core.driver import Check, Diagnosable
from flowli_core.stored import Overview

_COLOURS = {"ok": "green", "warning": "yellow", "bad": "red"}


@click.command()
@json_option
@operation
async def doctor(jobs: Jobs[Any], *, is_json: bool) -> int:
    """Examine the store and its data. The exit code is 1 if anything is bad, and 0 otherwise."""
    driver = await runtime_of(jobs).store()
    checks = [Check(name="driver", value=repr(driver))]
    if isinstance(driver, Diagnosable):
        checks += await driver.diagnose()
    else:
        checks.append(Check(name="diagnosis", value="not offered by this driver"))
    overview = await jobs.inspect.get_overview()
    checks += [_check_workers(overview), check_parked(await read_parked(jobs, overview))]
    click.echo(format_json(checks) if is_json else _format_checks(checks))
    return exits.FAILED if any(one.verdict == "bad" for one in checks) else exits.DONE


def _check_workers(overview: Overview) -> Check:
    seen = len(overview.workers)
    value = f"{seen} seen in the last minute"
    if overview.oldest and not seen:
        cure = "jobs are waiting and no worker runs: start one with flowli worker"
        return Check(name="workers", value=value, verdict="bad", cure=cure)
    return Check(name="workers", value=value)


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
        lines.append(f"{verdict}  {one.name.ljust(width)}  {hang(text, margin)}")
    return "\n".join(lines)
