"""What the commands take alike: where the registry is, and durations."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import click

from flowli_core.durations import duration
from flowli_core.errors import DefinitionError

_MAY_BE_ZERO = {"drain", "older_than", "oldest", "delay"}

F = TypeVar("F", bound="Callable[..., Any]")


class _DurationType(click.ParamType["timedelta"]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        label = (param.name if param is not None else None) or "it"
        try:
            return duration(value, argument=label, zero=label in _MAY_BE_ZERO)
        except DefinitionError as error:
            self.fail(str(error), param, ctx)


DURATION = _DurationType()


def target_options(*, positional: bool = False) -> Callable[[F], F]:
    """Take where the registry is: as `app`, `app_dir` and `factory`."""

    def add(function: F) -> F:
        function = click.option(
            "--factory/--no-factory", default=False, envvar="FLOWLI_FACTORY", help="APP is a function that makes it."
        )(function)
        function = click.option(
            "--app-dir", default=".", envvar="FLOWLI_APP_DIR", help="Where modules are looked for.", show_default="here"
        )(function)
        if positional:
            function = click.argument("target", metavar="[APP]", required=False)(function)
        return click.option("-A", "--app", metavar="APP", envvar="FLOWLI_APP", help="The registry: module:attribute.")(
            function
        )

    return add
