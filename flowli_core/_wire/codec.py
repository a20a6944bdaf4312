"""Payloads: from what a caller writes to JSON, and from JSON to what a handler gets.

The JSON is proven at the call. It is read back at once and compared with what the caller made, so what cannot travel
(a secret that prints as asterisks, a NaN, a dict with numbers for keys, a validator that changes its own output) is
refused where it was written, not found by a worker at night. Where fields are given, the JSON holds the fields as they
were given: a validator sees them once at the call and once in the worker, and never its own output.

What is wrong is told without the value. The one exception are the words of a user's own validator, which are passed on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar, cast

import pydantic
import typing_extensions
from pydantic import AliasChoices, AliasPath, BaseModel, RootModel, TypeAdapter
from pydantic.dataclasses import is_pydantic_dataclass
from pydantic_core import PydanticSerializationError, SchemaError, from_json, to_json

from flowli_core._wire.proof import depth, difference
from flowli_core.errors import DefinitionError, Issue, ValidationError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

T = TypeVar("T")

MAX_PAYLOAD = 256 * 1024
"""The longest JSON of an input, a meta or a result, in bytes."""

MAX_DEPTH = 64
"""How deep a payload may nest."""

_Kind = Literal["model", "own init", "dataclass", "typed dict", "plain"]
"""How a value is made. "own init": its constructor answers for it; "dataclass": a plain one, which checks nothing."""

_Write: TypeAlias = Callable[[], bytes]

_ISSUES_SHOWN = 5
_WORDS_SHOWN = 200
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
        except (pydantic.PydanticUserError, SchemaError, NameError) as error:
            raise self._undefined(error) from error
        self._kind = _kind(declared)
        self._known = _field_names(declared, self._kind)

    def complete(self) -> None:
        """Resolve what was not yet defined when the type was declared. Raises DefinitionError where it still is not."""
        try:
            self._adapter.rebuild(raise_errors=True)
        except (pydantic.PydanticUserError, SchemaError, NameError) as error:
            raise self._undefined(error) from error

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
        return self._checked(candidate)

    def _checked(self, candidate: object) -> T:
        try:
            return self._adapter.validate_python(candidate)
        except pydantic.ValidationError as error:
            raise self._refused(error) from None

    def build(self, args: tuple[object, ...], kwargs: dict[str, object]) -> T:
        """Validate what the constructor makes of these arguments. Raises ValidationError."""
        if self._kind == "plain":
            raise self._error([Issue("", "give the value itself, and nothing else")])
        self._refuse_unknown(kwargs)
        try:
            if self._kind in {"typed dict", "dataclass"}:
                # Validated as fields, and made once: a constructor must not see its own output either.
                return self._checked(self._fields(args, kwargs))
            return self.check(self._declared(*args, **kwargs))
        except pydantic.ValidationError as error:
            raise self._refused(error) from None
        except (TypeError, ValueError) as error:
            raise self._error([Issue("", str(error))]) from error

    def pack_value(self, value: object) -> bytes:
        """Turn a value into JSON that gives it back. Raises ValidationError."""
        made = self.check(value)
        advice = "" if self._kind == "plain" else ", so give the fields rather than the instance"
        return self._proven(made, [*self._dumps(made), _raw(value)], advice=advice)

    def pack(self, args: tuple[object, ...], kwargs: dict[str, object]) -> bytes:
        """Turn constructor arguments into JSON that gives back what they make. Raises ValidationError."""
        made = self.build(args, kwargs)
        writes = self._dumps(made)
        with contextlib.suppress(TypeError):  # An `__init__` of a model's own may not say which field is which.
            writes.insert(0, _raw(self._fields(args, kwargs)))
        return self._proven(made, writes)

    def unpack(self, wire: bytes) -> T:
        """Read JSON. Raises ValidationError where it is too large, no JSON, or not what is declared."""
        self._check_limits(wire)
        try:
            return self._adapter.validate_json(wire)
        except pydantic.ValidationError as error:
            raise self._refused(error) from None

    def _proven(self, made: T, writes: list[_Write], *, advice: str = "") -> bytes:
        found: list[Issue] = []
        for write in writes:
            try:
                wire = write()
            except (PydanticSerializationError, ValueError, RecursionError) as error:
                found.append(Issue("", f"it cannot be written as JSON ({_words(error)})"))
                continue
            self._check_limits(wire)
            try:
                back = self._adapter.validate_json(wire)
            except pydantic.ValidationError as error:
                place = next(_issues(error)).path
                found.append(
                    Issue(place, "cannot be read back from its JSON, which holds no NaN, no infinity and no secret")
                )
            except Exception as error:  # noqa: BLE001 - a user's validator may raise anything where it sees its own output
                found.append(Issue("", f"its own output cannot be validated again ({type(error).__name__})"))
            else:
                differing = difference(made, back)
                if differing is None:
                    return wire
                found.append(Issue(differing.path, differing.problem))
        issue = next((one for one in found if one.path), found[0])
        told = f"{issue.problem}; a worker would get something else{advice}"
        raise self._error([Issue(issue.path, told)])

    def _dumps(self, value: T) -> list[_Write]:
        def dump(*, by_alias: bool) -> bytes:
            return self._adapter.dump_json(value, by_alias=by_alias, round_trip=True, warnings="error")

        # By name as well, because an alias may be for other readers alone.
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
        if wire.count(b"{") + wire.count(b"[") > MAX_DEPTH and depth(wire) > MAX_DEPTH:
            raise self._error([Issue("", f"it nests deeper than {MAX_DEPTH} levels")])

    def _undefined(self, error: Exception) -> DefinitionError:
        return DefinitionError(f"{self._label} cannot be {self._declared!r}: {str(error).splitlines()[0]}")

    def _refused(self, error: pydantic.ValidationError) -> ValidationError:
        return self._error(list(_issues(error)))

    def _error(self, issues: list[Issue]) -> ValidationError:
        shown = "; ".join(map(str, issues[:_ISSUES_SHOWN]))
        more = f"; and {len(issues) - _ISSUES_SHOWN} more" if len(issues) > _ISSUES_SHOWN else ""
        return ValidationError(f"{self._label} is not valid: {shown}{more}", issues)


def pack_result(result: object) -> bytes:
    """Write what a handler returned. Raises ValidationError where it is not JSON-able or too long."""
    try:
        wire = to_json(result, inf_nan_mode="constants")
        if b"NaN" in wire or b"Infinity" in wire:
            from_json(wire, allow_inf_nan=False)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise ValidationError(f"result cannot be written as JSON: {_words(error)}") from error
    if len(wire) > MAX_PAYLOAD:
        raise ValidationError(
            f"result is {-(-len(wire) // _KIB)} KiB of JSON, the limit is {MAX_PAYLOAD // _KIB} KiB; store a reference"
        )
    return wire


def _raw(value: object) -> _Write:
    return lambda: to_json(value, by_alias=True, inf_nan_mode="null")


def _words(error: Exception) -> str:
    text = str(error)
    # The one message of pydantic's serializer that quotes the value.
    return "a value in it is not of its declared type" if "input_value=" in text else text[:_WORDS_SHOWN]


def _issues(error: pydantic.ValidationError) -> Iterator[Issue]:
    for detail in error.errors(include_url=False):
        problem = detail["msg"]
        if detail["type"] == "union_tag_invalid":
            # The one message of pydantic's validator that quotes the value.
            problem = f"Input should have one of the tags {detail.get('ctx', {}).get('expected_tags')}"
        got = "" if detail["type"] in {"missing", "json_invalid"} else f", got {type(detail['input']).__name__}"
        yield Issue(".".join(map(str, detail["loc"]))[:_WORDS_SHOWN], problem + got)


def _kind(declared: object) -> _Kind:
    if typing.is_typeddict(declared) or typing_extensions.is_typeddict(declared):
        return "typed dict"
    if isinstance(declared, type) and issubclass(declared, BaseModel):
        return "model" if declared.__init__ is BaseModel.__init__ else "own init"
    if isinstance(declared, type) and dataclasses.is_dataclass(declared):
        return "own init" if is_pydantic_dataclass(declared) else "dataclass"
    return "plain"


def _field_names(declared: Any, kind: _Kind) -> frozenset[str] | None:
    """What a call may give by name, or None where the constructor says so itself."""
    fields: dict[str, FieldInfo] = {}
    if kind == "typed dict":
        config, names = getattr(declared, "__pydantic_config__", {}), set(declared.__annotations__)
    elif kind == "model":
        config, names, fields = declared.model_config, set(declared.model_fields), declared.model_fields
    elif kind == "own init" and dataclasses.is_dataclass(declared):
        config, fields = cast("Any", declared).__pydantic_config__, cast("Any", declared).__pydantic_fields__
        names = set(fields)
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
