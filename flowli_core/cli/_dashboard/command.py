"""`flowli dashboard`: serve the dashboard until Ctrl-C."""

import importlib
import importlib.util
from typing import Any

import click

from flowli_core._jobs.registry import Jobs
from flowli_core.cli._common.operation import operation_logging_at, warn_of_private_store

_NEEDED = ("jinja2", "starlette", "uvicorn")


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8650, show_default=True, help="Port to listen on; 0 for any."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--allow-remote", is_flag=True, help="Accept a --host that other machines reach, without encryption.")
@click.option("--read-only", is_flag=True, help="Refuse all actions.")
@click.option("--show-payloads", is_flag=True, help="Show inputs, results, progress and log lines.")
@operation_logging_at("info")
async def dashboard(jobs: Jobs[Any], *, port: int, host: str, allow_remote: bool, **options: Any) -> None:
    """Show the jobs in a browser, until Ctrl-C.

    It prints a link that opens the dashboard in one browser. Once the link has been used, it prints the next. Without
    a link nobody gets in, also on this machine. To show the dashboard to others, mount it in your application.
    """
    if not all(map(importlib.util.find_spec, _NEEDED)):
        raise click.UsageError("the dashboard needs Starlette, Jinja and uvicorn: pip install 'flowli[dashboard]'")
    warn_of_private_store(jobs)
    server = importlib.import_module("flowli_core.cli._dashboard.server")
    listener = server.listen(host, port, allow_remote=allow_remote)
    await server.serve(jobs, listener, **options)
