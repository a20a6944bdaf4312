"""Payloads: from what a caller writes to JSON, and from JSON to what a handler gets.

The JSON is proven at the call. It is read back at once and compared with what the caller made, so what cannot travel
(a secret that prints as asterisks, a NaN, a dict with numbers for keys, a validator that changes its own output) is
refused where it was written, not found by a worker at night. Where fields are given, the JSON holds the fields as they
were given: a validator sees them once at the call and once in the worker, and never its own output.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

import pydantic
import typing_extensions
from pydantic import AliasChoices, AliasPath, BaseModel, TypeAdapter
from pydantic_core import PydanticSerializationError, to_json

from flowli_core.errors import DefinitionError, Issue, ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

MAX_PAYLOAD = 256 * 1024
"""The longest JSON of an input, a meta or a result, in bytes."""

MAX_DEPTH = 64
"""How deep a payload may nest."""

_Kind = Literal["model", "own init", "dataclass", "typed dict", "plain"]

_ISSUES_SHOWN = 5
_KIB = 1024


class Codec(Generic[T]):
    """Reads and writes one declared type.

    Raises DefinitionError where pydantic cannot make a schema of it.
    """

    def __init__(self, declared: object, *, label: str) -> None:
        self._declared: Any = declared
        self._label = label
        try:
            self._adapter: TypeAdapter[T] = TypeAdapter(cast("Any", declared))
        except (pydantic.PydanticUserError, NameError) as error:
            msg = f"{label} cannot be {declared!r}: {str(error).splitlines()[0]}"
            raise DefinitionError(msg) from error
        self._kind = _kind(declared)
        self._known = _field_names(declared)

    def is_value(self, args: tuple[object, ...]) -> bool:
        """Whether these positional arguments are the value itself rather than arguments of its constructor."""
        if len(args) != 1:
            return False
        return self._kind in {"model", "typed dict", "plain"} or isinstance(args[0], self._declared)

    def check(self, value: object) -> T:
        """Validate a value. Raises ValidationError."""
        candidate = value
        if self._kind == "dataclass" and type(value) is self._declared:
            # pydantic takes an instance on trust, and a plain dataclass has checked nothing.
            candidate = {f.name: getattr(value, f.name) for f in dataclasses.fields(cast("Any", value)) if f.init}
        try:
            return self._adapter.validate_python(candidate)
        except pydantic.ValidationError as error:
            raise self._refused(error) from None

    def build(self, args: tuple[object, ...], kwargs: dict[str, object]) -> T:
        """Call the constructor and validate what it made. Raises ValidationError."""
        if self._kind == "plain":
            raise self._error([Issue("", "give the value itself, and nothing else")])
        self._refuse_unknown(kwargs)
        if self._kind == "typed dict":
            return self.check(dict(*cast("Any", args), **kwargs))
        try:
            return self.check(self._declared(*args, **kwargs))
        except pydantic.ValidationError as error:
            raise self._refused(error) from None
        except (TypeError, ValueError) as error:
            raise self._error([Issue("", str(error))]) from error

    def pack_value(self, value: object) -> bytes:
        """Turn a value into JSON that gives it back. Raises ValidationError."""
        made = self.check(value)
        return self._proven(made, [lambda: self._dumped(made)])

    def pack(self, args: tuple[object, ...], kwargs: dict[str, object]) -> bytes:
        """Turn constructor arguments into JSON that gives back what they make. Raises ValidationError."""
        made = self.build(args, kwargs)
        fields = self._fields(args, kwargs)
        return self._proven(
            made, [lambda: to_json(fields, by_alias=True, inf_nan_mode="null"), lambda: self._dumped(made)]
        )

    def unpack(self, wire: bytes) -> T:
        """Read JSON. Raises ValidationError where it is too large, no JSON, or not what is declared."""
        self._check_limits(wire)
        try:
            return self._adapter.validate_json(wire)
        except pydantic.ValidationError as error:
            raise self._refused(error) from None

    def _proven(self, made: T, candidates: list[Any]) -> bytes:
        reason = "it does not come back from JSON as it was"
        for candidate in candidates:
            try:
                wire = cast("bytes", candidate())
                self._check_limits(wire)
                back = self._adapter.validate_json(wire)
            except pydantic.ValidationError:
                continue
            except (PydanticSerializationError, ValueError, RecursionError) as error:
                reason = f"it cannot be written as JSON ({str(error)[:200]})"
                continue
            if self._same(back, made):
                return wire
        advice = "; give the fields rather than the instance, or store a reference" if len(candidates) == 1 else ""
        raise self._error([Issue("", f"{reason}, so a worker would get something else{advice}")])

    def _same(self, one: T, other: T) -> bool:
        if one == other:
            return True
        # Not every type compares by value, and private attributes (which do not travel) count for a model's `==`.
        return bool(self._adapter.dump_python(one, warnings=False) == self._adapter.dump_python(other, warnings=False))

    def _dumped(self, value: T) -> bytes:
        return self._adapter.dump_json(value, by_alias=True, round_trip=True, warnings="error")

    def _fields(self, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        if args and self._kind != "typed dict":
            return dict(inspect.signature(self._declared).bind(*args, **kwargs).arguments)
        return dict(*cast("Any", args), **kwargs)

    def _refuse_unknown(self, kwargs: dict[str, object]) -> None:
        # A model may ignore what it does not know, which is right for data; in a call it is a misspelt name.
        unknown = sorted(kwargs.keys() - self._known) if self._known is not None else []
        if unknown:
            raise self._error([Issue(field, "no such field") for field in unknown])

    def _check_limits(self, wire: bytes) -> None:
        if len(wire) > MAX_PAYLOAD:
            size, limit = -(-len(wire) // _KIB), MAX_PAYLOAD // _KIB
            raise self._error(
                [Issue("", f"its JSON is {size} KiB, the limit is {limit} KiB; store a reference instead")]
            )
        if wire.count(b"{") + wire.count(b"[") > MAX_DEPTH and _depth(wire) > MAX_DEPTH:
            raise self._error([Issue("", f"it nests deeper than {MAX_DEPTH} levels")])

    def _refused(self, error: pydantic.ValidationError) -> ValidationError:
        return self._error(list(_issues(error)))

    def _error(self, issues: list[Issue]) -> ValidationError:
        shown = "; ".join(map(str, issues[:_ISSUES_SHOWN]))
        more = f"; and {len(issues) - _ISSUES_SHOWN} more" if len(issues) > _ISSUES_SHOWN else ""
        return ValidationError(f"{self._label} is not valid: {shown}{more}", issues)


def pack_result(result: object) -> bytes:
    """Write what a handler returned. Raises ValidationError where it is not JSON-able or too long."""
    try:
        wire = to_json(result, inf_nan_mode="null")
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        msg = f"result cannot be written as JSON: {str(error)[:200]}"
        raise ValidationError(msg) from error
    if len(wire) > MAX_PAYLOAD:
        msg = (
            f"result is {-(-len(wire) // _KIB)} KiB of JSON, the limit is {MAX_PAYLOAD // _KIB} KiB; store a reference"
        )
        raise ValidationError(msg)
    return wire


def _issues(error: pydantic.ValidationError) -> Iterator[Issue]:
    for detail in error.errors(include_url=False, include_context=False):
        got = "" if detail["type"] in {"missing", "json_invalid"} else f", got {type(detail['input']).__name__}"
        yield Issue(".".join(map(str, detail["loc"])), detail["msg"] + got)


def _kind(declared: object) -> _Kind:
    if typing.is_typeddict(declared) or typing_extensions.is_typeddict(declared):
        return "typed dict"
    if isinstance(declared, type) and issubclass(declared, BaseModel):
        return "model" if declared.__init__ is BaseModel.__init__ else "own init"
    return "dataclass" if isinstance(declared, type) and dataclasses.is_dataclass(declared) else "plain"


def _field_names(declared: object) -> frozenset[str] | None:
    """What a constructor accepts by name, or None where that is not for us to say."""
    if _kind(declared) != "model":
        return None
    model = cast("type[BaseModel]", declared)
    if model.model_config.get("extra") == "allow":
        return None
    names = set(model.model_fields)
    for field in model.model_fields.values():
        match field.validation_alias or field.alias:
            case None:
                pass
            case AliasChoices() | AliasPath():
                return None
            case alias:
                names.add(alias)
    return frozenset(names)


def _depth(wire: bytes) -> int:
    """How deep brackets nest in JSON, those in strings left out."""
    deepest = depth = 0
    quoted = escaped = False
    for char in wire:
        if quoted:
            quoted, escaped = escaped or char != 0x22, not escaped and char == 0x5C  # noqa: PLR2004 - a quote, a backslash
        elif char == 0x22:  # noqa: PLR2004 - a quote
            quoted = True
        elif char in b"{[":
            depth += 1
            deepest = max(deepest, depth)
        elif char in b"}]":
            depth -= 1
    return deepest
