"""`flowli check`: an exit code for container health checks and alerts."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import click

from flowli_core._jobs.registry import Jobs
from flowli_core.cli._common import exits
from flowli_core.cli._common.operation import operation
from flowli_core.cli._common.options import DurationType, json_option
from flowli_core.cli._common.show import format_json, format_span
from flowli_core.durations import format_duration
from flowli_core.errors import StoreUnavailable
from flowli_core.stored import Overview


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The result of `flowli check`.

    `workers` counts those seen in the last minute; None if the store did not answer. `oldest` is for how many seconds
    the oldest due job has waited; None if no due job waits.
    """

    ok: bool = False
    workers: int | None = None
    oldest: float | None = None
    complaints: tuple[str, ...]


@click.command()
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=0,
    help="Fail if fewer workers were seen in the last minute; one that has stopped since still counts.",
    show_default=True,
)
@click.option("--oldest", type=DurationType(zero=True), help="Fail if a due job has waited longer than this.")
@click.option(
    "--within",
    type=DurationType(),
    default="5s",
    help="Fail if the store takes longer than this to answer.",
    show_default=True,
)
@json_option
@operation
async def check(jobs: Jobs[Any], *, workers: int, oldest: timedelta | None, within: timedelta, is_json: bool) -> int:
    """Check that the store answers, for container health checks and alerts.

    Without --workers and --oldest this checks nothing but the store: it passes even if no worker runs. For the health
    of one worker, use its --health-port. The exit code is 0 if all is well, and 1 if not.
    """
    try:
        async with asyncio.timeout(within.total_seconds()):
            found = _evaluate(await jobs.inspect.get_overview(), workers, oldest)
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
            click.echo("ok")
    return exits.DONE if found.ok else exits.FAILED


def _evaluate(overview: Overview, workers: int, oldest: timedelta | None) -> Checked:
    complaints: list[str] = []
    seen = len(overview.workers)
    if seen < workers:
        complaints.append(f"{seen} of {workers} workers were seen in the last minute")
    waited = max((overview.now - since for since in overview.oldest.values()), default=None)
    if oldest is not None and waited is not None and waited > oldest:
        complaints.append(f"a due job has waited for {format_span(waited)}, longer than {format_duration(oldest)}")
    return Checked(
        ok=not complaints,
        workers=seen,
        oldest=None if waited is None else waited.total_seconds(),
        complaints=tuple(complaints),
    )
