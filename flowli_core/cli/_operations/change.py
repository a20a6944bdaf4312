"""`flowli jobs cancel`, `requeue` and `purge`: change one job, or all jobs in a state that filters find."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import click

from flowli_core._jobs.bulk import BulkResult
from flowli_core._jobs.control import REQUEUABLE, UNFINISHED, RequeuableState, UnfinishedState
from flowli_core._jobs.registry import Jobs
from flowli_core._text import escape_controls
from flowli_core.cli._common.operation import complete_job_name, operation
from flowli_core.cli._common.options import Decorator, DurationType, choice, combine
from flowli_core.cli._common.show import fail, succeed
from flowli_core.cli._operations.job_view import describe_unknown, explain_cancel
from flowli_core.durations import format_duration
from flowli_core.stored import FINISHED, FinishedState, State

_AGES = {
    "queued": "that have been due for more than {}",
    "scheduled": "that have been due for more than {}",
    "active": "that started more than {} ago",
}
_FINISHED_AGE = "that finished more than {} ago"

_CHANGED = "they changed meanwhile"
_NOT_REQUEUED = f"{_CHANGED}, are damaged, or another unfinished job has their idempotency key"

filter_options = combine(
    click.option("--name", help="Only jobs with this name.", shell_complete=complete_job_name),
    click.option("--queue", help="Only jobs in this queue."),
    click.option("--error", help="Only jobs whose last error has this class, such as ConnectionError."),
    click.option(
        "--older-than",
        type=DurationType(zero=True),
        help="Only jobs that finished, were due or started longer ago than this.",
    ),
)

_confirm_options = combine(
    click.option("--yes", is_flag=True, help="Do not ask for confirmation."),
    click.option("--dry-run", is_flag=True, help="Print how many jobs would change, and change nothing."),
)


def _all_option(states: tuple[str, ...]) -> Decorator:
    """Make the option `--all`, which takes a state: the first of these if none is given."""
    help_text = f"Change all jobs in this state, or those that the filters find. Without a state: {states[0]}."
    return click.option("--all", "state", is_flag=False, flag_value=states[0], type=choice(*states), help=help_text)


@click.command()
@click.argument("id", required=False)
@_all_option(UNFINISHED)
@filter_options
@_confirm_options
@operation
async def cancel(
    registry: Jobs[Any], *, id: str | None, state: UnfinishedState | None, yes: bool, dry_run: bool, **filters: Any
) -> int:
    """Cancel the job with this ID, or all jobs in a state; running jobs at the next heartbeat of their workers."""
    if state is not None:
        done = "cancelled" if state != "active" else "asked to end at the next heartbeat of their workers"
        action = _Action("cancel", done, registry.control.cancel_all, _CHANGED)
        return await _change_all(registry, action, _Wanted(state, filters, id), yes=yes, dry_run=dry_run)
    record_id = _check_one(id, filters, dry_run=dry_run)
    match await registry.control.cancel(record_id):
        case "cancelled":
            return succeed("cancelled")
        case "requested":
            record = await registry.inspect.get_job(record_id)
            if record is None or record.worker is None or record.lease_until is None:
                return succeed("requested")  # it has ended meanwhile
            overview = await registry.inspect.get_overview()
            return succeed(explain_cancel(record.worker, record.lease_until, overview))
        case "finished":
            return fail(f"{escape_controls(record_id)} has already finished")
        case "unknown" | "changed":  # changed is answered only to a caller that named a state
            return fail(describe_unknown(record_id))


@click.command()
@click.argument("id", required=False)
@_all_option(REQUEUABLE)
@filter_options
@_confirm_options
@operation
async def requeue(
    registry: Jobs[Any], *, id: str | None, state: RequeuableState | None, yes: bool, dry_run: bool, **filters: Any
) -> int:
    """Run the finished or scheduled job with this ID now, or all jobs in a state. Their attempts are reset."""
    if state is not None:
        action = _Action("requeue", "requeued", registry.control.requeue_all, _NOT_REQUEUED)
        return await _change_all(registry, action, _Wanted(state, filters, id), yes=yes, dry_run=dry_run)
    record_id = _check_one(id, filters, dry_run=dry_run)
    shown = escape_controls(record_id)
    match await registry.control.requeue(record_id):
        case "requeued":
            return succeed("requeued")
        case "unfinished":
            return fail(f"{shown} is already waiting or running")
        case "key_taken":
            return fail(f"another unfinished job has the idempotency key of {shown}")
        case "damaged":
            return fail(f"{shown} is damaged, so it cannot run; flowli jobs show {shown}")
        case "unknown" | "changed":  # changed is answered only to a caller that named a state
            return fail(describe_unknown(record_id))


@click.command()
@click.argument("state", type=choice(*FINISHED))
@filter_options
@_confirm_options
@operation
async def purge(registry: Jobs[Any], *, state: FinishedState, yes: bool, dry_run: bool, **filters: Any) -> int:
    """Remove all jobs that finished in STATE, or those that the filters find."""
    action = _Action("remove", "removed", registry.control.purge_all, _CHANGED)
    return await _change_all(registry, action, _Wanted(state, filters), yes=yes, dry_run=dry_run)


def describe_jobs(number: int, state: State, filters: Mapping[str, Any]) -> str:
    """Return the number of jobs in words: "312 failed jobs of send_email with ConnectionError"."""
    parts = [f"{number:,}" if number else "no", state, "job" if number == 1 else "jobs"]
    for option, word in (("name", "of"), ("queue", "in the queue"), ("error", "with")):
        if filters[option] is not None:
            parts += [word, escape_controls(filters[option])]
    age: timedelta | None = filters["older_than"]
    if age is not None:
        parts.append(_AGES.get(state, _FINISHED_AGE).format(format_duration(age)))
    return " ".join(parts)


@dataclass(frozen=True, slots=True)
class _Action:
    """A change of many jobs: its verb, what the jobs are after it, the method, and why it skips jobs."""

    verb: str
    done: str
    change: Callable[..., Awaitable[BulkResult]]
    skips: str


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The jobs to change: those in a state that the filters find. An ID cannot be given as well."""

    state: Any
    filters: Mapping[str, Any]
    id: str | None = None


def _check_one(id: str | None, filters: Mapping[str, Any], *, dry_run: bool) -> str:
    """Return the ID of the only job to change. Raises UsageError if there is none, or if other options need --all."""
    if id is None:
        raise click.UsageError("give the ID of a job, or --all to change all jobs in a state")
    if dry_run or any(value is not None for value in filters.values()):
        raise click.UsageError("--name, --queue, --error, --older-than and --dry-run need --all")
    return id


async def _change_all(registry: Jobs[Any], action: _Action, wanted: _Wanted, *, yes: bool, dry_run: bool) -> int:
    """Count the jobs, ask for confirmation, change the jobs, and return the exit code."""
    if wanted.id is not None:
        raise click.UsageError(f"give the ID of a job or --all, not both; --all {wanted.id} would be a state")
    if not (yes or dry_run or sys.stdin.isatty()):
        cure = f"give --yes to {action.verb} without asking"
        raise click.UsageError(f"there is no terminal to ask for confirmation; {cure}")
    number = await registry.inspect.count(wanted.state, **wanted.filters)
    described = describe_jobs(number, wanted.state, wanted.filters)
    if dry_run or not (number or yes):
        return succeed(f"{described}; nothing was changed")
    if not (yes or _confirm(f"{described}: {action.verb}?")):
        return fail("nothing was changed")
    result = await _change_with_bar(action, wanted, number)
    skipped = f", {result.skipped:,} skipped: {action.skips}" if result.skipped else ""
    return succeed(f"{result.changed:,} {action.done}{skipped}")


def _confirm(question: str) -> bool:
    """Ask a question on the terminal. Ctrl-C ends the command."""
    # The handler of the event loop would only note the signal, and the loop is blocked until there is an answer.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return click.confirm(question, err=True)
    finally:
        signal.signal(signal.SIGINT, handler)


async def _change_with_bar(action: _Action, wanted: _Wanted, number: int) -> BulkResult:
    """Change the jobs while a terminal shows a progress bar. If it is interrupted, print how far it came."""
    done = 0
    try:
        with click.progressbar(length=number, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:

            def draw(_: int, changed: int) -> None:
                nonlocal done
                bar.update(changed - done)
                done = changed

            return await action.change(wanted.state, **wanted.filters, on_progress=draw)
    except asyncio.CancelledError:
        cure = "run the same command again to go on with the rest"
        click.echo(f"interrupted: {done:,} of {number:,} {action.done}; {cure}", err=True)
        raise
