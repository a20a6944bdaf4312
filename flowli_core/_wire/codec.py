"""Payloads (inputs, metas and results): written as JSON at the call, and read from JSON in the worker.

An input or a meta is checked at the call: its JSON is read back at once and compared with the value. Some values do
not survive JSON: a secret that prints as asterisks, a NaN, a dict with numbers as keys, a validator that changes its
own output. They are refused at the call, before anything is stored, and not hours later in a worker.

If a call gives fields, their JSON is stored as given. So a validator sees the same fields at the call and in the
worker, and never its own output.

An error message never holds a value, a key of a dict or the name of an unknown field: see `issues`.
"""

import contextlib
import dataclasses
import inspect
import typing
from collections.abc import Callable
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Generic, Literal, TypeAlias, TypeVar, cast

import pydantic
import typing_extensions
from pydantic import AliasChoices, AliasPath, BaseModel, RootModel, TypeAdapter
from pydantic.dataclasses import is_pydantic_dataclass
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError, SchemaError, from_json, to_json

from flowli_core._wire.issues import clean, describe_refusal, describe_unwritable, schema_names, show_path, to_issues
from flowli_core._wire.proof import find_difference, nesting_depth
from flowli_core.errors import DefinitionError, Issue, ValidationError

T = TypeVar("T")

MAX_PAYLOAD = 256 * 1024
"""The largest JSON of an input, a meta or a result, in bytes."""

MAX_DEPTH = 64
"""The deepest nesting of arrays and objects in a payload."""

_Kind = Literal["model", "own init", "dataclass", "typed dict", "plain"]
"""The ways to make a value from a call. "own init": a class whose constructor validates. "dataclass": one of the
standard library, whose constructor checks nothing. "plain": any other type, for which a call gives the value itself."""

_Write: TypeAlias = Callable[[], bytes]

_ISSUES_SHOWN = 5
_LONGEST_NAME = 64
_KIB = 1024


class Codec(Generic[T]):
    """Reads and writes the payloads of one declared type. Raises DefinitionError if pydantic cannot validate it."""

    def __init__(self, declared: object, *, label: str) -> None:
        self._declared: Any = declared
        self._label = label
        try:
            self._adapter: TypeAdapter[T] = TypeAdapter(cast("Any", declared))
        except (pydantic.PydanticUserError, SchemaError, NameError) as error:
            raise self._definition_error(error) from error
        self._kind = _kind(declared)
        self._known = _field_names(declared, self._kind)

    def complete(self) -> None:
        """Resolve the forward references of the type. Raises DefinitionError if one is still undefined."""
        try:
            self._adapter.rebuild(raise_errors=True)
        except (pydantic.PydanticUserError, SchemaError, NameError) as error:
            raise self._definition_error(error) from error

    def is_value(self, args: tuple[object, ...]) -> bool:
        """Return True if these arguments are the value itself, False if they are arguments of its constructor."""
        if len(args) != 1:
            return False
        return self._kind in {"model", "typed dict", "plain"} or isinstance(args[0], self._declared)

    def check(self, value: object) -> T:
        """Validate a value. Raises ValidationError."""
        candidate = value
        if self._kind == "dataclass" and type(value) is self._declared:
            # pydantic does not validate an instance, and the constructor of a plain dataclass has not either.
            candidate = {f.name: getattr(value, f.name) for f in dataclasses.fields(cast("Any", value)) if f.init}
        return self._checked(candidate)

    def _checked(self, candidate: object) -> T:
        try:
            return self._adapter.validate_python(candidate)
        except pydantic.ValidationError as error:
            raise self._invalid(error) from None

    def build(self, args: tuple[object, ...], kwargs: dict[str, object]) -> T:
        """Make a value from the arguments of its constructor, and validate it. Raises ValidationError."""
        if self._kind == "plain":
            raise self._error([Issue("", "give the value itself, and nothing else")])
        self._refuse_unknown(kwargs)
        try:
            if self._kind in {"typed dict", "dataclass"}:
                # Validate the fields, not an instance, so that a constructor never sees its own output.
                return self._checked(self._fields(args, kwargs))
            return self.check(self._declared(*args, **kwargs))
        except pydantic.ValidationError as error:
            raise self._invalid(error) from None
        except (TypeError, ValueError) as error:
            problem = self._find_mismatch(args, kwargs) or describe_refusal(error)
            raise self._error([Issue("", problem)]) from (error if isinstance(error, TypeError) else None)

    def _find_mismatch(self, args: tuple[object, ...], kwargs: dict[str, object]) -> str:
        """Say which parameters the arguments miss, or return an empty text if the constructor takes them."""
        try:
            inspect.signature(self._declared).bind(*args, **kwargs)
        except (TypeError, ValueError) as error:
            text = str(error)
            return "" if "unexpected" in text else clean(text)  # the name of an unexpected argument may be data
        return ""

    def pack_value(self, value: object) -> bytes:
        """Write a value as JSON. Raises ValidationError if the JSON would be read as another value."""
        made = self.check(value)
        advice = "" if self._kind == "plain" else ", so give the fields rather than the instance"
        return self._prove(made, [*self._writes(made), _raw(value)], advice=advice)

    def pack(self, args: tuple[object, ...], kwargs: dict[str, object]) -> bytes:
        """Write the value that these arguments construct as JSON.

        Raises ValidationError if it would be read as another value.

        The fields as they were given are tried first, then the fields of the constructed value.
        """
        made = self.build(args, kwargs)
        writes = self._writes(made)
        # A TypeError means that the model has its own `__init__`, whose parameters do not name its fields.
        with contextlib.suppress(TypeError):
            writes.insert(0, _raw(self._fields(args, kwargs)))
        return self._prove(made, writes)

    def unpack(self, wire: bytes) -> T:
        """Read a value. Raises ValidationError if the JSON is too large, malformed, or not of the declared type."""
        self._check_limits(wire)
        try:
            return self._adapter.validate_json(wire)
        except pydantic.ValidationError as error:
            raise self._invalid(error) from None

    def _prove(self, made: T, writes: list[_Write], *, advice: str = "") -> bytes:
        """Return the first JSON that is read back as the same value. Raises ValidationError if none is."""
        found: list[Issue] = []
        for write in writes:
            try:
                wire = write()
            except (PydanticSerializationError, ValueError, RecursionError) as error:
                found.append(Issue("", f"it cannot be written as JSON ({describe_unwritable(error)})"))
                continue
            self._check_limits(wire)
            try:
                back = self._adapter.validate_json(wire)
            except pydantic.ValidationError as error:
                path = to_issues(error, self._names, most=1)[0].path
                found.append(Issue(path, "cannot be read back from its JSON; JSON has no NaN, infinity or secrets"))
            except Exception as error:  # noqa: BLE001 - a user's validator may raise anything when it sees its own output
                found.append(Issue("", f"its own output cannot be validated again ({type(error).__name__})"))
            else:
                difference = find_difference(made, back)
                if difference is None:
                    return wire
                where, problem = difference
                found.append(Issue(show_path(where, self._names), problem))
        issue = next((candidate for candidate in found if candidate.path), found[0])
        raise self._error([Issue(issue.path, f"{issue.problem}; a worker would get something else{advice}")])

    def _writes(self, value: T) -> list[_Write]:
        def dump(*, by_alias: bool) -> bytes:
            return self._adapter.dump_json(value, by_alias=by_alias, round_trip=True, warnings="error")

        # By field name as well, because a model may not accept the alias that it writes.
        return [lambda: dump(by_alias=True), lambda: dump(by_alias=False)]

    def _fields(self, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        if self._kind == "typed dict":
            return dict(*cast("Any", args), **kwargs)
        if issubclass(self._declared, RootModel):
            return args[0] if args else kwargs.get("root", kwargs)
        if args or self._kind == "dataclass":
            return dict(inspect.signature(self._declared).bind(*args, **kwargs).arguments)
        return kwargs

    def _refuse_unknown(self, kwargs: dict[str, object]) -> None:
        # A model may ignore unknown fields. That is right for data, but in a call such a field is a misspelt name.
        if self._known is None or kwargs.keys() <= self._known:
            return
        unknown = sorted(kwargs.keys() - self._known)
        shortened = [name[:_LONGEST_NAME] for name in unknown[:_ISSUES_SHOWN]]
        close = [match for name in shortened for match in get_close_matches(name, self._known, 1)]
        # The unknown name itself may be data: a call may pass on the fields that a client has sent.
        problem = "unknown field" if len(unknown) == 1 else f"{len(unknown)} unknown fields"
        meant = f"; did you mean {' and '.join(close)}?" if close else ""
        raise self._error([Issue("", clean(f"{problem}{meant}; the fields are {', '.join(sorted(self._known))}"))])

    def _check_limits(self, wire: bytes) -> None:
        if len(wire) > MAX_PAYLOAD:
            size, limit = -(-len(wire) // _KIB), MAX_PAYLOAD // _KIB
            raise self._error(
                [Issue("", f"its JSON is {size} KiB, the limit is {limit} KiB; store a reference instead")]
            )
        if wire.count(b"{") + wire.count(b"[") > MAX_DEPTH and nesting_depth(wire, most=MAX_DEPTH) > MAX_DEPTH:
            raise self._error([Issue("", f"it nests deeper than {MAX_DEPTH} levels")])

    def _definition_error(self, error: Exception) -> DefinitionError:
        return DefinitionError(f"{self._label} cannot be {self._declared!r}: {str(error).splitlines()[0]}")

    @cached_property
    def _names(self) -> frozenset[str]:
        return schema_names(self._adapter.core_schema)

    def _invalid(self, error: pydantic.ValidationError) -> ValidationError:
        return self._error(to_issues(error, self._names), count=error.error_count())

    def _error(self, issues: list[Issue], *, count: int = 1) -> ValidationError:
        shown = "; ".join(map(str, issues[:_ISSUES_SHOWN]))
        more = f"; and {count - _ISSUES_SHOWN:,} more" if count > _ISSUES_SHOWN else ""
        return ValidationError(f"{self._label} is not valid: {shown}{more}", issues)


def pack_result(result: object) -> bytes:
    """Write the result of a handler as JSON. Raises ValidationError if JSON cannot hold it or it is too large."""
    try:
        wire = to_json(result, inf_nan_mode="constants")
        if b"NaN" in wire or b"Infinity" in wire:
            from_json(wire, allow_inf_nan=False)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise ValidationError(f"result cannot be written as JSON: {describe_unwritable(error)}") from None
    if len(wire) > MAX_PAYLOAD:
        raise ValidationError(
            f"result is {-(-len(wire) // _KIB)} KiB of JSON, the limit is {MAX_PAYLOAD // _KIB} KiB; store a reference"
        )
    return wire


def _raw(value: object) -> _Write:
    return lambda: to_json(value, by_alias=True, inf_nan_mode="null")


def _kind(declared: object) -> _Kind:
    if typing.is_typeddict(declared) or typing_extensions.is_typeddict(declared):
        return "typed dict"
    if isinstance(declared, type) and issubclass(declared, BaseModel):
        return "model" if declared.__init__ is BaseModel.__init__ else "own init"
    if isinstance(declared, type) and dataclasses.is_dataclass(declared):
        return "own init" if is_pydantic_dataclass(declared) else "dataclass"
    return "plain"


def _field_names(declared: Any, kind: _Kind) -> frozenset[str] | None:
    """Return the names that a call may give, or None if only the constructor knows them."""
    fields: dict[str, FieldInfo] = {}
    if kind == "typed dict":
        config, names = getattr(declared, "__pydantic_config__", {}), set(declared.__annotations__)
    elif kind == "model":
        config, names, fields = declared.model_config, set(declared.model_fields), declared.model_fields
    elif kind == "own init" and dataclasses.is_dataclass(declared):
        config, fields = cast("Any", declared).__pydantic_config__, cast("Any", declared).__pydantic_fields__
        names = set(fields)
    elif kind in {"own init", "dataclass"}:
        return _parameters(declared)
    else:
        return None
    if config.get("extra") == "allow":
        return None
    for field in fields.values():
        match field.validation_alias or field.alias:
            case None:
                pass
            case AliasChoices() | AliasPath():
                return None
            case alias:
                names.add(alias)
    return frozenset(names)


def _parameters(declared: type) -> frozenset[str] | None:
    parameters = inspect.signature(declared).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(parameter.name for parameter in parameters if parameter.kind is not parameter.POSITIONAL_ONLY)
