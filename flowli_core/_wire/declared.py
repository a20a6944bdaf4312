"""Declared types: the class that a type stands for, through `Annotated`, `NewType` and type aliases."""

import types
import typing
from typing import Annotated, Any

import typing_extensions

_ALIAS_TYPES = (typing_extensions.TypeAliasType, getattr(typing, "TypeAliasType", typing_extensions.TypeAliasType))
"""The classes of `type X = ...`. On some versions of Python typing_extensions has one of its own."""


def strip_wrappers(declared: Any) -> Any:
    """Return the type within `Annotated[...]`, a NewType or a type alias, with its parameters: `Box[int]`."""
    while True:
        origin = typing.get_origin(declared)
        if origin is Annotated:
            declared = declared.__origin__
        elif hasattr(declared, "__supertype__"):  # a NewType
            declared = declared.__supertype__
        elif isinstance(declared, _ALIAS_TYPES):
            declared = declared.__value__
        elif isinstance(origin, _ALIAS_TYPES):
            declared = _apply_alias(origin, typing.get_args(declared))
        else:
            return declared


def class_of(declared: Any) -> Any:
    """Return the class that a declared type stands for: `Box` for `Annotated[Box[int], ...]`. Other types as they are.

    A generic model of pydantic is a class for each parameter, and stays as it is.
    """
    stripped = strip_wrappers(declared)
    origin = typing.get_origin(stripped)
    is_class = isinstance(origin, type) and origin is not types.UnionType
    return origin if is_class else stripped


def _apply_alias(alias: Any, arguments: tuple[Any, ...]) -> Any:
    """Return the value of a generic alias, `type Page[T] = Box[T]`, with these arguments as its parameters."""
    value, given = alias.__value__, dict(zip(alias.__type_params__, arguments, strict=False))
    parameters = getattr(value, "__parameters__", ())
    return value[tuple(given[parameter] for parameter in parameters)] if parameters else given.get(value, value)
