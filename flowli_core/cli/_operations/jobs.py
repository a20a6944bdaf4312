"""`flowli jobs`, `flowli enqueue` and `flowli run`: looking at records, steering them, and making them."""

from __future__ import annotations

import difflib
import sys
import traceback
from datetime import timedelta
from typing import Any, get_args

import click
from pydantic_core import from_json

from flowli_core._jobs.arguments import CallOptions, Given, Json, build_input
from flowli_core._jobs.call import Call
from flowli_core._jobs.definition import Definition
from flowli_core._jobs.inspect import DEFAULT_PER_PAGE, MOST_PER_PAGE
from flowli_core._jobs.records import JobRecord
from flowli_core._jobs.registry import Jobs, runtime_of
from flowli_core._text import escape_controls
from flowli_core._wire.codec import pack_result
from flowli_core.cli._common import exits
from flowli_core.cli._common.operation import RefusedError, json_option, operation
from flowli_core.cli._common.options import DURATION
from flowli_core.cli._common.show import as_json, fields, table
from flowli_core.driver import STATES, FinishedState, State
from flowli_core.durations import ZERO
from flowli_core.errors import FlowliError

_FINISHED = get_args(FinishedState)


@click.group()
def jobs() -> None:
    """Look at stored jobs, and steer them."""


@jobs.command("list")
@click.argument("state", type=click.Choice(STATES), default="failed")
@click.option("--limit", type=click.IntRange(1, MOST_PER_PAGE), default=DEFAULT_PER_PAGE, help="How many at the most.")
@click.option("--cursor", help="Where an earlier page ended.")
@json_option
@operation
async def list_jobs(registry: Jobs[Any], *, state: State, limit: int, cursor: str | None, is_json: bool) -> None:
    """List the jobs in STATE, the newest first: the failed ones, unless another is named."""
    page = await registry.inspect.get_jobs_by_state(state, limit=limit, cursor=cursor)
    if is_json:
        click.echo(as_json(page))
        return
    rows = [_row(record) for record in page.items]
    click.echo(table(["id", "name", "queue", "attempts", "at", "error"], rows, right=["attempts"]))
    if page.cursor is not None:
        click.echo(f"more: --cursor {page.cursor}", err=True)


@jobs.command()
@click.argument("id")
@json_option
@operation
async def show(registry: Jobs[Any], *, id: str, is_json: bool) -> int:
    """Show all that is known of the job with this ID."""
    record = await registry.inspect.get_job(id)
    if record is None:
        return _unknown(id)
    click.echo(as_json(record) if is_json else fields(_pairs(record)))
    return exits.DONE


@jobs.command()
@click.argument("id")
@operation
async def cancel(registry: Jobs[Any], *, id: str) -> int:
    """Cancel the job with this ID: at once where it waits, at its worker's next heartbeat where it runs."""
    match await registry.control.cancel(id):
        case "cancelled":
            return _said("cancelled")
        case "requested":
            return _said("it runs: its worker has been asked to cancel it")
        case "finished":
            return _refused(f"{escape_controls(id)} is finished already")
        case "unknown":
            return _unknown(id)


@jobs.command()
@click.argument("id")
@operation
async def requeue(registry: Jobs[Any], *, id: str) -> int:
    """Run the finished or scheduled job with this ID now, with all its attempts before it."""
    match await registry.control.requeue(id):
        case "requeued":
            return _said("requeued")
        case "unfinished":
            return _refused(f"{escape_controls(id)} waits or runs already")
        case "key_taken":
            return _refused(f"another unfinished job holds the key of {escape_controls(id)}")
        case "unknown":
            return _unknown(id)


@jobs.command()
@click.argument("state", type=click.Choice(_FINISHED))
@click.option("--older-than", type=DURATION, default="0s", help="Only those that finished longer ago.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@operation
async def purge(registry: Jobs[Any], *, state: FinishedState, older_than: timedelta, yes: bool) -> int:
    """Remove the jobs that finished in STATE."""
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("there is no terminal here to ask on; give --yes to remove them without a question")
        click.confirm(f"Remove all {state} jobs that are old enough?", abort=True, err=True)
    return _said(f"{await registry.control.purge(state, older_than=older_than)} removed")


@click.command()
@click.argument("name")
@click.argument("input", required=False)
@click.option("--meta", help="The meta, as JSON.")
@click.option("--queue", help="Another queue than the job's own.")
@click.option("--key", help="Answer the unfinished job that holds this key, if there is one.")
@click.option("--delay", type=DURATION, help="Not before this has passed.")
@click.option("--json", "is_json", is_flag=True, help="The receipt as JSON.")
@operation
async def enqueue(
    registry: Jobs[Any],
    *,
    name: str,
    input: str | None,
    meta: str | None,
    queue: str | None,
    key: str | None,
    delay: timedelta | None,
    is_json: bool,
) -> None:
    """Store a call of the job NAME with INPUT, which is JSON."""
    definition = _definition(registry, name)
    options = CallOptions().over(meta=_meta(definition, meta), queue=queue, key=key)
    call = Call(definition, runtime_of(registry), options)
    (receipt,) = await call.send([call.record(_input(definition, input), delay or ZERO)])
    click.echo(as_json(receipt) if is_json else f"{receipt.id} {receipt.state} ({receipt.disposition})")


@click.command("run")
@click.argument("name")
@click.argument("input", required=False)
@click.option("--meta", help="The meta, as JSON.")
@operation
async def run_job(registry: Jobs[Any], *, name: str, input: str | None, meta: str | None) -> int:
    """Call the job NAME here and now, with INPUT, which is JSON; print its result as JSON.

    Nothing is stored. What the handler raises is shown, with exit code 1.
    """
    definition = _definition(registry, name)
    given = build_input(definition, _input(definition, input))
    made = _meta(definition, meta)
    runtime = runtime_of(registry)
    try:
        result = await runtime.run(definition, input=given, meta=made)
    except FlowliError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is its user's to see
        click.echo(escape_controls("".join(traceback.format_exception(error)), lines=True), err=True, nl=False)
        return exits.FAILED
    if result is not None:
        click.echo(escape_controls(pack_result(result).decode(), lines=True))
    return exits.DONE


def _definition(registry: Jobs[Any], name: str) -> Definition:
    found = runtime_of(registry).jobs
    if name not in found:
        near = difflib.get_close_matches(name, found, n=1)
        cure = f"did you mean {near[0]}?" if near else f"there are: {', '.join(found) or 'none'}"
        raise RefusedError(f"there is no job {escape_controls(name)!r}; {cure}")
    return found[name]


def _input(definition: Definition, text: str | None) -> Json | Given:
    if text is not None:
        return Json(_json(text, "INPUT"))
    if definition.input is not None:
        raise RefusedError(f"{definition.name} takes an input: give it as JSON")
    return Given(None)


def _meta(definition: Definition, text: str | None) -> Any:
    if text is None:
        return None
    if definition.meta is None:
        raise RefusedError(f"{definition.name} takes no meta")
    return definition.meta.unpack(_json(text, "--meta"))


def _json(text: str, what: str) -> bytes:
    try:
        from_json(text)
    except ValueError as error:
        raise RefusedError(f"{what} is not JSON: {error}") from None
    return text.encode()


def _row(record: JobRecord) -> list[object]:
    error = record.last_error
    at = record.finished_at or (record.scheduled_for if record.state != "active" else record.started_at)
    told = "" if error is None else f"{error.type}: {error.message}"
    return [record.id, record.name, record.queue, record.attempts_made, at, told]


def _pairs(record: JobRecord) -> list[tuple[str, object]]:
    error = record.last_error
    shown: list[tuple[str, object]] = []
    for name in JobRecord.__slots__:
        value = getattr(record, name)
        if name == "last_error":
            if error is not None:
                shown.append((name, f"{error.type}: {error.message}\n{error.traceback}".rstrip()))
        elif value is not None:
            shown.append((name, value))
    return shown


def _said(text: str) -> int:
    click.echo(text)
    return exits.DONE


def _refused(text: str) -> int:
    click.echo(f"flowli: {text}", err=True)
    return exits.FAILED


def _unknown(id: str) -> int:
    return _refused(f"there is no job with the id {escape_controls(id)} (any more)")
