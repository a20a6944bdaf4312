"""`flowli jobs`, `flowli enqueue` and `flowli run`: show, change, enqueue and run jobs."""

import asyncio
import difflib
import functools
import re
import sys
import traceback
from datetime import timedelta
from typing import Any

import click
from pydantic_core import from_json, to_json

from flowli_core._jobs.arguments import CallOptions, Given, Json, build_input
from flowli_core._jobs.call import Call
from flowli_core._jobs.definition import Definition
from flowli_core._jobs.registry import Jobs, runtime_of
from flowli_core._text import escape_controls
from flowli_core._wire.attempts import begin_at_handler
from flowli_core._wire.codec import pack_result
from flowli_core.cli._common import exits
from flowli_core.cli._common.operation import (
    complete_job_name,
    is_private,
    operation,
    operation_logging_at,
    warn_of_private_store,
)
from flowli_core.cli._common.options import TARGET, DurationType, choice, json_option, page_options
from flowli_core.cli._common.show import fail, format_json, succeed
from flowli_core.cli._operations.change import cancel, describe_jobs, filter_options, purge, requeue
from flowli_core.cli._operations.job_view import describe_unknown, explain_no_jobs, format_job, format_jobs
from flowli_core.cli._operations.watch import Display, follow, report_outcome
from flowli_core.durations import ZERO, format_duration
from flowli_core.errors import FlowliError, RecordNotFound
from flowli_core.stored import STATES, State

_WORD = re.compile(r"[\w .:@/+-]+")


@click.group()
def jobs() -> None:
    """Show and change stored jobs."""


@jobs.command("list")
@click.argument("state", type=choice(*STATES), default="failed")
@filter_options
@page_options
@json_option
@operation
async def list_jobs(
    registry: Jobs[Any], *, state: State, limit: int, cursor: str | None, is_json: bool, **filters: Any
) -> None:
    """List the jobs in STATE, newest first. Without STATE, list the failed jobs."""
    find = functools.partial(registry.inspect.find, state, **filters, limit=limit, payloads=is_json)
    page = await find(cursor=cursor)
    while not page.items and page.cursor is not None:
        page = await find(cursor=page.cursor)  # a long search returns empty pages
    if is_json:
        click.echo(format_json(page))
        return
    if page.items:
        click.echo(format_jobs(page.items, state))
    elif any(value is not None for value in filters.values()):
        click.echo(describe_jobs(0, state, filters), err=True)
    elif cursor is None:
        click.echo(explain_no_jobs(state, await registry.inspect.get_queue_counts()), err=True)
    if page.cursor is not None:
        click.echo(f"more: --cursor {page.cursor}", err=True)


@jobs.command()
@click.argument("id")
@click.option("--traceback", "tracebacks", is_flag=True, help="Print the traceback of each attempt.")
@json_option
@operation
async def show(registry: Jobs[Any], *, id: str, tracebacks: bool, is_json: bool) -> int:
    """Show everything that is stored about the job with this ID."""
    record = await registry.inspect.get_job(id)
    if record is None:
        return fail(describe_unknown(id))
    if is_json:
        return succeed(format_json(record))
    return succeed(format_job(record, await registry.inspect.get_overview(), tracebacks=tracebacks))


@jobs.command()
@click.argument("id")
@click.option("--json", "is_json", is_flag=True, help="Print each update as a line of JSON, for programs.")
@operation
async def watch(registry: Jobs[Any], *, id: str, is_json: bool) -> int:
    """Follow the job with this ID until it has finished.

    On a terminal, one line shows the state, the time since it began, and the progress. Otherwise each update is a line:
    time, state, progress, and note or error, separated by tabs. Ctrl-C stops watching, and the job goes on.

    The exit code is 0 if the job was completed, 1 if it failed or was cancelled, and 2 if there is no such job.
    """
    try:
        return report_outcome(await follow(registry, id, Display(sys.stdout, is_json=is_json)))
    except RecordNotFound:
        raise exits.WrongUsageError(describe_unknown(id)) from None


for _command in (cancel, requeue, purge):
    jobs.add_command(_command)


@click.command()
@click.argument("name", shell_complete=complete_job_name)
@click.argument("input", required=False)
@click.option("--meta", help="Meta of the job, as JSON.")
@click.option("--queue", help="Queue to use instead of the job's own.")
@click.option("--key", help="Idempotency key: if an unfinished job already has it, return that job instead.")
@click.option("--replace", is_flag=True, help="With --key: replace the job that has it, if it waits.")
@click.option("--debounce", type=DurationType(), help="With --key: run the job this long after the last call with it.")
@click.option("--max-wait", type=DurationType(), help="With --replace or --debounce: wait no longer than this.")
@click.option("--unique-for", type=DurationType(), help="With --key: a completed job keeps the key for this long.")
@click.option("--delay", type=DurationType(zero=True), help="Run the job no sooner than this from now.")
@click.option("--wait", is_flag=True, help="Wait until the job has finished, and print its result instead.")
@click.option("--timeout", type=DurationType(), help="With --wait: stop waiting after this.", show_default="no limit")
@json_option
@operation
async def enqueue(
    registry: Jobs[Any],
    *,
    name: str,
    input: str | None,
    meta: str | None,
    queue: str | None,
    key: str | None,
    replace: bool,
    debounce: timedelta | None,
    max_wait: timedelta | None,
    unique_for: timedelta | None,
    delay: timedelta | None,
    wait: bool,
    timeout: timedelta | None,
    is_json: bool,
) -> int:
    """Enqueue the job NAME with INPUT, which is JSON, and print its id and state.

    With --wait, these and the progress are printed to stderr, and then the result to stdout, as JSON; with --json, the
    whole last update. The exit code is 1 if the job failed or was cancelled, and 124 if it did not finish in time; then
    it goes on, as after Ctrl-C.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout needs --wait")
    if key is None and (replace or debounce or max_wait or unique_for):
        raise click.UsageError("--replace, --debounce, --max-wait and --unique-for need --key")
    if debounce is not None and delay is not None:
        raise click.UsageError("--debounce says when the job is due: leave out --delay")
    if wait and is_private(registry):
        return fail(
            f"no worker sees the jobs of {runtime_of(registry).driver!r}, so --wait would not end; "
            f"`flowli run {escape_controls(name)}` runs the job here"
        )
    definition = _definition(registry, name)
    warn_of_private_store(registry)
    call = Call(definition, runtime_of(registry), CallOptions()).over(
        meta=_meta(definition, meta),
        queue=queue,
        key=key,
        on_conflict="replace" if replace else None,
        debounce=debounce,
        max_wait=max_wait,
        unique_for=unique_for,
    )
    (receipt,) = await call.send([call.record(_input(definition, input), delay or ZERO)])
    text = f"{receipt.id} {receipt.state} ({receipt.disposition})"
    if not wait:
        return succeed(format_json(receipt) if is_json else text)
    click.echo(text, err=True)
    return await _wait(registry, receipt.id, timeout, is_json=is_json)


async def _wait(registry: Jobs[Any], id: str, timeout: timedelta | None, *, is_json: bool) -> int:
    """Follow a job to its end, print its result, and return the exit code."""
    try:
        async with asyncio.timeout(None if timeout is None else timeout.total_seconds()):
            update = await follow(registry, id, Display(sys.stderr))
    except TimeoutError:
        fail(f"{id} did not finish within {format_duration(timeout or ZERO)}")
        return exits.TIMED_OUT
    if is_json:
        click.echo(format_json(update))
    elif update.result is not None:
        click.echo(escape_controls(to_json(update.result).decode(), lines=True))
    return report_outcome(update)


@click.command("run")
@click.argument("name", shell_complete=complete_job_name)
@click.argument("input", required=False)
@click.option("--meta", help="Meta of the job, as JSON.")
@operation_logging_at("info")
async def run_job(registry: Jobs[Any], *, name: str, input: str | None, meta: str | None) -> int:
    """Run the job NAME in this process, and print its result.

    INPUT and the result are JSON. Nothing is stored. If the handler raises an error, its traceback is printed and the
    exit code is 1.
    """
    definition = _definition(registry, name)
    value, made_meta = build_input(definition, _input(definition, input)), _meta(definition, meta)
    try:
        result = await runtime_of(registry).run(definition, input=value, meta=made_meta)
    except FlowliError:
        raise
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - a handler may raise anything, and its author wants to see it
        begin_at_handler(error)
        click.echo(escape_controls("".join(traceback.format_exception(error)), lines=True), err=True, nl=False)
        return exits.FAILED
    if result is not None:
        click.echo(escape_controls(pack_result(result).decode(), lines=True))
    return exits.DONE


def _definition(registry: Jobs[Any], name: str) -> Definition:
    found = runtime_of(registry).jobs
    if name not in found:
        near = difflib.get_close_matches(name, found, n=1)
        cure = f"did you mean {near[0]}?" if near else f"the registry has: {', '.join(found) or 'none'}"
        raise exits.WrongUsageError(f"there is no job {escape_controls(name)!r}; {cure}")
    return found[name]


def _input(definition: Definition, text: str | None) -> Json | Given:
    if text is not None:
        return Json(_json(text, "INPUT"))
    if definition.input is not None:
        raise exits.WrongUsageError(f"{definition.name} takes an input: give it as JSON")
    return Given(None)


def _meta(definition: Definition, text: str | None) -> Any:
    if text is None:
        return None
    if definition.meta is None:
        raise exits.WrongUsageError(f"{definition.name} takes no meta")
    return definition.meta.unpack(_json(text, "--meta"))


def _json(text: str, what: str) -> bytes:
    try:
        wire = text.encode()
        from_json(wire)
    except UnicodeEncodeError:
        raise exits.WrongUsageError(f"{what} is not UTF-8") from None
    except ValueError as error:
        cure = ""
        if TARGET.fullmatch(text):
            cure = f"; to name the registry, write --app {text}"
        elif _WORD.fullmatch(text):
            cure = f"; write a string as '\"{text}\"'"
        raise exits.WrongUsageError(f"{what} is not JSON: {error}{cure}") from None
    return wire
