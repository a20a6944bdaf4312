"""Operations: the commands that open a registry, do one thing and exit.

`flowli` offers them with options that name the registry. An adapter adds them to a command group of its own, whose
context object is a `RegistryLoader`.
"""

import asyncio
import contextlib
import copy
import functools
import io
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import click

from flowli_core._jobs.inspect import MOST_PER_PAGE
from flowli_core._jobs.registry import Jobs, runtime_of
from flowli_core._logger import logger
from flowli_core._text import escape_controls
from flowli_core.cli._common import exits
from flowli_core.cli._common.options import parameters_of, target_options
from flowli_core.cli._common.process import run, set_up_logs
from flowli_core.cli._common.target import load
from flowli_core.errors import DefinitionError, FlowliError, SchedulingError, ValidationError

C = TypeVar("C", bound=click.Command)
Operation = Callable[..., Awaitable[int | None]]
Completion = Callable[[click.Context, click.Parameter, str], list[str]]

_COMPLETE_WITHIN = 2.0
"""Seconds that a shell waits for the store."""


class RegistryLoader:
    """The context object of a command group: loads the registry when an operation needs it."""

    def __init__(self, load: Callable[[], Jobs[Any]]) -> None:
        self.load = load


def operation_logging_at(level: str) -> Callable[[Operation], Callable[..., None]]:
    """Make `operation` for functions whose log lines are written from this level on."""

    def decorate(function: Operation) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**options: Any) -> None:
            context = click.get_current_context()
            loader = context.find_object(RegistryLoader)
            if loader is None:
                raise click.UsageError("name the registry: --app app.jobs:jobs, or set FLOWLI_APP=app.jobs:jobs")
            set_up_logs(level=level)
            jobs = loader.load()

            async def main() -> int | None:
                try:
                    return await function(jobs, **options)
                finally:
                    await jobs.aclose()

            try:
                code = run(main())
            except (ValidationError, DefinitionError, SchedulingError) as error:
                raise exits.WrongUsageError(escape_controls(error)) from error
            except FlowliError as error:
                raise click.ClickException(escape_controls(error)) from error
            context.exit(code or exits.DONE)

        return command

    return decorate


operation = operation_logging_at("warning")
"""Turn `async def(jobs, **options)` into a command that loads the registry, closes it, and exits with the result."""


def _completion(names_of: Callable[[Jobs[Any]], Iterable[str]]) -> Completion:
    """Make the completion of an argument for shells. It finds no name if the registry or its store fails."""

    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
        loader, given = context.find_object(RegistryLoader), context.params
        output = io.StringIO()  # The shell would take what the application prints for names.
        with contextlib.suppress(Exception), contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            jobs = loader.load() if loader else load(given["app"], app_dir=given["app_dir"], factory=given["factory"])
            return [name for name in names_of(jobs) if name.startswith(incomplete)]
        return []

    return complete


def _read_schedule_keys(jobs: Jobs[Any]) -> list[str]:
    async def read() -> list[str]:
        try:
            async with asyncio.timeout(_COMPLETE_WITHIN):
                page = await jobs.inspect.get_schedules(limit=MOST_PER_PAGE)
        finally:
            await jobs.aclose()
        return [schedule.key for schedule in page.items]

    return asyncio.run(read())


complete_job_name = _completion(lambda jobs: runtime_of(jobs).jobs)
complete_queue = _completion(lambda jobs: runtime_of(jobs).queues)
complete_schedule_key = _completion(_read_schedule_keys)


def warn_of_private_store(jobs: Jobs[Any]) -> None:
    """Warn of a driver whose jobs no other process sees: one that stores in memory."""
    if is_private(jobs):
        logger.warning(
            "%s keeps jobs in the memory of this process: other processes do not see them", runtime_of(jobs).driver
        )


def is_private(jobs: Jobs[Any]) -> bool:
    """Return True if no other process sees the jobs of this one."""
    return bool(getattr(runtime_of(jobs).driver, "is_private", False))


def with_target(command: C) -> C:
    """Return a copy of a command or a group that also takes the options that name the registry.

    The registry may also be the last argument, as in `flowli worker`, if all other arguments are given.
    """
    command = copy.copy(command)
    if isinstance(command, click.Group):
        command.commands = {name: with_target(one) for name, one in command.commands.items()}
        return command
    target = click.Argument(["target"], metavar="[APP]", required=False)
    command.params = [*command.params, target, *parameters_of(target_options)]
    wrapped = command.callback

    def callback(*, app: str | None, app_dir: str, factory: bool, target: str | None = None, **options: Any) -> Any:
        app = target or app
        if app is not None:
            context = click.get_current_context()
            context.obj = RegistryLoader(lambda: load(app, app_dir=app_dir, factory=factory))
        return wrapped(**options) if wrapped is not None else None

    command.callback = callback
    return command
