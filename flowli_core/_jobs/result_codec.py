"""The type of a job's result: what its handler is annotated to return."""

import functools
import inspect
import typing
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

from flowli_core._wire.codec import Codec
from flowli_core.errors import DefinitionError


class ResultCodec:
    """Reads the stored results of a job. The type is resolved at the first use: most processes never read a result."""

    def __init__(self, handler: Callable[..., Any], *, job: str) -> None:
        self._handler = handler
        self._job = job
        self._codec: Codec[Any] | None = None

    @property
    def declared(self) -> Any:
        """The annotated type, or Any. Raises DefinitionError if it cannot be resolved."""
        return self._resolved().declared

    def unpack(self, wire: bytes) -> Any:
        """Read JSON as the annotated type, or as it is if the handler has no annotation.

        Raises ValidationError if the JSON is not of that type, and DefinitionError if the type cannot be resolved.
        """
        return self._resolved().unpack(wire)

    def mask(self, plain: Any, wire: bytes) -> Any:
        """Return `plain`, the data of this JSON, with its secrets masked. Without a type it has none."""
        try:
            return self._resolved().mask(plain, wire)
        except DefinitionError:
            return plain

    def _resolved(self) -> Codec[Any]:
        if self._codec is None:
            self._codec = Codec(_returned_type(self._handler, self._job), label=f"{self._job}: result")
        return self._codec


def _returned_type(handler: Callable[..., Any], job: str) -> Any:
    function = _function(handler)
    annotation = inspect.signature(function).return_annotation
    if annotation is inspect.Signature.empty:
        return Any
    # Resolve this annotation alone: the others may name what only type checkers import.
    only = SimpleNamespace(__annotations__={"return": annotation})
    names = getattr(function, "__globals__", {})
    try:
        returned = typing.get_type_hints(only, globalns=names, include_extras=True)["return"]
    except NameError as error:
        raise DefinitionError(
            f"{job}: the type of its result, {annotation!r}, cannot be resolved ({error}); define or import it at the "
            "top of the module of the handler"
        ) from None
    if not inspect.iscoroutinefunction(function) and _is_awaitable(typing.get_origin(returned)):
        return typing.get_args(returned)[-1]
    return returned


def _function(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function behind decorators, partials and objects with `__call__`."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    function: Any = inspect.unwrap(handler)
    return cast("Callable[..., Any]", function if hasattr(function, "__globals__") else type(function).__call__)


def _is_awaitable(origin: object) -> bool:
    return isinstance(origin, type) and issubclass(origin, Awaitable)
