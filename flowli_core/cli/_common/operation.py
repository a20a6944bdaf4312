"""What every operation has: the registry that it is about, one event loop, and errors in one line.

An adapter offers the same commands under its own: it adds them to a group whose context object is a `Registry`.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click

from flowli_core._jobs.registry import Jobs
from flowli_core._text import escape_controls
from flowli_core.cli._common import exits
from flowli_core.cli._common.options import target_options
from flowli_core.cli._common.process import run, set_up_logs
from flowli_core.cli._common.target import load
from flowli_core.errors import DefinitionError, FlowliError, SchedulingError, ValidationError

C = TypeVar("C", bound=click.Command)


class Registry:
    """Where an operation gets its registry from, once it is needed."""

    def __init__(self, load: Callable[[], Jobs[Any]]) -> None:
        self.load = load


class RefusedError(click.ClickException):
    """A value that cannot be: wrong usage, though no option's."""

    exit_code = exits.USAGE


def operation(function: Callable[..., Awaitable[int | None]]) -> Callable[..., None]:
    """Call it with the registry first, close that after it, and leave with the exit code that it answers."""

    @functools.wraps(function)
    def command(**given: Any) -> None:
        context = click.get_current_context()
        registry = context.find_object(Registry)
        if registry is None:
            raise click.UsageError("say where the registry is: --app app.jobs:jobs, or FLOWLI_APP")
        set_up_logs(level="info" if context.command.name == "run" else "warning")
        jobs = registry.load()

        async def main() -> int | None:
            try:
                return await function(jobs, **given)
            finally:
                await jobs.aclose()

        try:
            code = run(main())
        except (ValidationError, DefinitionError, SchedulingError) as error:
            raise RefusedError(escape_controls(error)) from error
        except FlowliError as error:
            raise click.ClickException(escape_controls(error)) from error
        context.exit(code or exits.DONE)

    return command


def with_target(command: C) -> C:
    """Make a command, or a group of them, that takes where its registry is; the given one stays as it is."""
    command = copy.copy(command)
    if isinstance(command, click.Group):
        command.commands = {name: with_target(one) for name, one in command.commands.items()}
        return command
    command.params = list(command.params)
    wrapped = command.callback

    def callback(**given: Any) -> Any:
        app, app_dir, factory = (given.pop(name) for name in ("app", "app_dir", "factory"))
        if app is not None:
            context = click.get_current_context()
            context.obj = Registry(lambda: load(app, app_dir=app_dir, factory=factory))
        return wrapped(**given) if wrapped is not None else None

    command.callback = callback
    target_options()(command)
    return command


json_option = click.option("--json", "is_json", is_flag=True, help="JSON, for programs.")
