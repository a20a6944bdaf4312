"""`flowli relay`: send the jobs that wait in the outbox to the store."""

from typing import Any

import click

from flowli_core._jobs.registry import Jobs, runtime_of
from flowli_core._running.relay import relay_all, relay_for_ever
from flowli_core.cli._common import exits
from flowli_core.cli._common.operation import operation_logging_at


@click.command()
@click.option("--once", is_flag=True, help="Send what waits now, and exit.")
@operation_logging_at("info")
async def relay(jobs: Jobs[Any], *, once: bool) -> int:
    """Send the jobs that wait in the outbox to the store, until Ctrl-C.

    The process that commits a transaction sends its jobs itself. This sends those that it left behind: because it died,
    or because the store was unreachable. Every worker of the registry does the same, so this is for deployments whose
    workers cannot reach the database. Several may run at a time.

    With --once, the exit code is 1 if the database or the store fails. Without it, both are retried.
    """
    deliveries = runtime_of(jobs).require_deliveries()
    if not once:
        await relay_for_ever(deliveries)
    sent = await relay_all(deliveries)
    click.echo(f"relayed {sent} {'job' if sent == 1 else 'jobs'}")
    return exits.DONE
