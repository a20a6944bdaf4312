"""Declared types: the class that a type stands for, how a call makes a value of it, and the names of its fields."""

import dataclasses
import inspect
import types
import typing
from typing import Annotated, Any, Literal

import typing_extensions
from pydantic import AliasChoices, AliasPath, BaseModel
from pydantic.dataclasses import is_pydantic_dataclass
from pydantic.fields import FieldInfo

Kind = Literal["model", "own init", "dataclass", "typed dict", "plain"]
"""The ways to make a value from a call. "own init": a class whose constructor validates. "dataclass": one whose
constructor does not, or not with the parameters of the type. "plain": any other type, for which a call gives the value
itself."""

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


def kind_of(declared: Any) -> Kind:
    """Return how a call makes a value of a declared type."""
    cls = class_of(declared)
    if typing.is_typeddict(cls) or typing_extensions.is_typeddict(cls):
        return "typed dict"
    if isinstance(cls, type) and issubclass(cls, BaseModel):
        return "model" if cls.__init__ is BaseModel.__init__ else "own init"
    if isinstance(cls, type) and dataclasses.is_dataclass(cls):
        has_parameters = typing.get_origin(strip_wrappers(declared)) is not None
        return "own init" if is_pydantic_dataclass(cls) and not has_parameters else "dataclass"
    return "plain"


def field_names(cls: Any, kind: Kind) -> frozenset[str] | None:
    """Return the names that a call may give, or None if only the constructor knows them."""
    if kind == "typed dict":
        is_open = getattr(cls, "__pydantic_config__", {}).get("extra") == "allow"
        return None if is_open else frozenset(cls.__annotations__)
    if kind == "plain":
        return None
    config: Any = getattr(cls, "model_config" if kind == "model" else "__pydantic_config__", None)
    if kind == "dataclass" or config is None:
        return _parameters(cls)
    if config.get("extra") == "allow":
        return None
    names: set[str] = set()
    for name, field in cls.__pydantic_fields__.items():
        accepted = _accepted_names(name, field, config)
        if accepted is None:
            return None
        names |= accepted
    return frozenset(names)


def _accepted_names(name: str, field: FieldInfo, config: Any) -> set[str] | None:
    """Return the names by which a constructor takes a field, or None if an alias is not a single name."""
    match field.validation_alias or field.alias:
        case None:
            return {name}
        case AliasChoices() | AliasPath():
            return None
        case alias:
            by_name = config.get("populate_by_name") or config.get("validate_by_name")
            return {alias, name} if by_name else {alias}


def _parameters(cls: type) -> frozenset[str] | None:
    parameters = inspect.signature(cls).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(parameter.name for parameter in parameters if parameter.kind is not parameter.POSITIONAL_ONLY)
