"""The options that several commands take: the registry, durations, pages, JSON."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeAlias

import click

from flowli_core._jobs.inspect import DEFAULT_PER_PAGE, MOST_PER_PAGE
from flowli_core.durations import duration
from flowli_core.errors import DefinitionError

Decorator: TypeAlias = Callable[[Any], Any]


class DurationType(click.ParamType["timedelta"]):
    """The type of an option that is a duration, such as "30s". Zero is refused unless `zero` is set."""

    name = "duration"

    def __init__(self, *, zero: bool = False) -> None:
        self._zero = zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the duration as a timedelta."""
        argument = (param.name if param is not None else None) or "duration"
        try:
            return duration(value, argument=argument, zero=self._zero)
        except DefinitionError as error:
            self.fail(str(error), param, ctx)


def combine(*options: Decorator) -> Decorator:
    """Make one decorator of several options, listed in the order in which the help shows them."""

    def add(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return add


def setting(*names: str, **attributes: Any) -> Decorator:
    """Make an option that is also read from a variable: `--stall-limit` from FLOWLI_STALL_LIMIT."""
    long_name = names[-1].partition("/")[0]
    return click.option(*names, envvar=variable(long_name.removeprefix("--")), **attributes)


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"FLOWLI_{name.replace('-', '_').upper()}"


def split_names(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Read names that are separated by commas."""
    return tuple(name.strip() for name in value.split(",")) if value else ()


target_options = combine(
    setting("-A", "--app", metavar="APP", help="The registry, as module:attribute, such as app.jobs:jobs."),
    setting("--app-dir", default=".", show_default="here", help="Directory to import APP from."),
    setting("--factory/--no-factory", default=False, help="APP is a function that returns the registry."),
)
"""The options that name the registry: `app`, `app_dir` and `factory`."""

page_options = combine(
    click.option(
        "--limit", type=click.IntRange(1, MOST_PER_PAGE), default=DEFAULT_PER_PAGE, help="Maximum number to show."
    ),
    click.option("--cursor", help="Continue after the page that printed this cursor."),
)

json_option = click.option("--json", "is_json", is_flag=True, help="Print JSON, for programs.")
