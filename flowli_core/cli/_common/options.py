"""The options that several commands take: the registry, durations, pages, JSON."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import click
from click.core import ParameterSource

from flowli_core._jobs.inspect import DEFAULT_PER_PAGE, MOST_PER_PAGE
from flowli_core.durations import duration
from flowli_core.errors import DefinitionError

Decorator: TypeAlias = Callable[[Any], Any]

if TYPE_CHECKING:
    _DurationParameter: TypeAlias = click.ParamType[timedelta]
else:  # not generic in click 8.3
    _DurationParameter = click.ParamType


class DurationType(_DurationParameter):
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


TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
"""The text of a registry, which is easily taken for another argument."""


class _Choice(click.Choice[str]):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if isinstance(value, str) and TARGET.fullmatch(value):
            self.fail(f"{value!r} is not one of {', '.join(self.choices)}; to name the registry, write --app {value}")
        return super().convert(value, param, ctx)


def choice(*words: str) -> click.Choice[str]:
    """Make the type of an option or argument that is one of these words, in any case."""
    return _Choice(words, case_sensitive=False)


def combine(*options: Decorator) -> Decorator:
    """Make one decorator of several options, listed in the order in which the help shows them."""

    def add(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return add


def parameters_of(options: Decorator) -> list[click.Parameter]:
    """Return the options that a decorator adds, in the order of the help."""
    return click.command()(options(lambda: None)).params


def setting(names: str, kind: Any, default: object, help: str, **more: Any) -> Decorator:
    """Make an option that is also read from a variable: "-c --concurrency" from FLOWLI_CONCURRENCY."""
    long_name = names.rsplit(maxsplit=1)[-1].partition("/")[0].removeprefix("--")
    more = {"show_default": True, **more}
    more = {"cls": Setting, "type": kind, "default": default, "help": help, "envvar": variable(long_name), **more}
    return click.option(*names.split(), **more)


class Setting(click.Option):
    """An option that may come from an environment variable, which an error then names."""

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """Return the name of the option or variable that had the wrong value."""
        is_given = ctx is None or ctx.get_parameter_source(self.name or "") is not ParameterSource.ENVIRONMENT
        return super().get_error_hint(ctx) if is_given else f"the variable {self.envvar}"


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"FLOWLI_{name.replace('-', '_').upper()}"


def split_names(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Read names that are separated by commas."""
    return tuple(name.strip() for name in value.split(",")) if value else ()


target_options = combine(
    setting(
        "-A --app",
        str,
        None,
        "The registry, as module:attribute, such as app.jobs:jobs.",
        metavar="APP",
        show_envvar=True,
    ),
    setting("--app-dir", str, ".", "Directory to import APP from.", show_default="here"),
    setting("--factory/--no-factory", bool, False, "APP is a function that returns the registry."),  # noqa: FBT003
)
"""The options that name the registry: `app`, `app_dir` and `factory`."""

page_options = combine(
    click.option(
        "--limit",
        type=click.IntRange(1, MOST_PER_PAGE),
        default=DEFAULT_PER_PAGE,
        help="Maximum number to show.",
        show_default=True,
    ),
    click.option("--cursor", help="Continue after the page that printed this cursor."),
)

json_option = click.option("--json", "is_json", is_flag=True, help="Print JSON, for programs.")
