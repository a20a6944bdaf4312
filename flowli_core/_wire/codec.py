"""Payloads (inputs, metas and results): written as JSON at the call, and read from JSON in the worker.

An input or a meta is checked at the call: its JSON is read back at once and compared with the value. Some values do
not survive JSON: a NaN, a dict with numbers as keys, a datetime in a zone whose offset changes, a model whose validator
changes its own output. They are refused at the call, before anything is stored, and not hours later in a worker.

If a call gives fields, their JSON is stored as given. So a validator sees the same fields at the call and in the
worker, and never its own output. If it gives an instance, fields that are not set are not written. A secret is stored
only as a serializer of the model writes it.

An error message never holds a value, a key of a dict or the name of an unknown field: see `issues`.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar, cast

import pydantic
from pydantic import RootModel, TypeAdapter
from pydantic_core import PydanticSerializationError, SchemaError, from_json, to_json

from flowli_core._wire.declared import class_of, field_names, kind_of
from flowli_core._wire.issues import (
    describe_mismatch,
    describe_refusal,
    describe_unknown,
    describe_unwritable,
    is_mistyped,
    show_path,
    to_issues,
)
from flowli_core._wire.parts import MASK, holds_invalid_dataclass, holds_secret, mask_secrets
from flowli_core._wire.proof import (
    AS_GIVEN,
    EXACT,
    GIVEN_SETTING_MORE,
    NEW_DEFAULT,
    SECRET_PROBLEM,
    SET_IN_JSON,
    SETTING_MORE,
    ZONE_PROBLEM,
    Comparison,
    nesting_depth,
)
from flowli_core._wire.schema import SchemaFacts, facts_of
from flowli_core._wire.unset import fields_to_omit
from flowli_core.errors import DefinitionError, Issue, ValidationError

T = TypeVar("T")

MAX_PAYLOAD = 256 * 1024
"""The largest JSON of an input, a meta or a result, in bytes."""

MAX_DEPTH = 64
"""The deepest nesting of arrays and objects in a payload."""

_Write: TypeAlias = Callable[[], bytes]

_WITH_CURE = {SECRET_PROBLEM, ZONE_PROBLEM}
_NULL_PROBLEM = "it is null there: JSON has no NaN and no infinity"
_ISSUES_SHOWN = 5
_KIB = 1024


@dataclass(slots=True)
class _Trial:
    """The attempts to write a value: the problem of each that failed, and the value that was read back last."""

    found: list[Issue] = field(default_factory=list[Issue])
    back: Any = None


class Packed(NamedTuple):
    """The JSON of a value, and the value that a worker reads from it.

    `is_exact` is False if fields of a model come back as set that were not set. A handler can see that, so `run` gives
    it `back` too.
    """

    wire: bytes
    back: Any
    is_exact: bool


class Codec(Generic[T]):
    """Reads and writes the payloads of one declared type. Raises DefinitionError if pydantic cannot validate it."""

    def __init__(self, declared: object, *, label: str) -> None:
        self.declared: Any = declared
        self._label = label
        try:
            self._adapter: TypeAdapter[T] = TypeAdapter(cast("Any", declared))
            self._class = class_of(declared)
        except (pydantic.PydanticUserError, SchemaError, NameError) as error:
            raise self._definition_error(error) from error
        self._kind = kind_of(declared)
        self._known = field_names(self._class, self._kind)
        # A call gives their fields by name, whatever their aliases are.
        self._takes_names = self._kind in {"typed dict", "dataclass"}
        # Validate the fields, not an instance, so that a validator never sees its own output. A model within
        # `Annotated[...]` may have such a validator.
        self._validates_fields = self._takes_names or (self._kind == "model" and self._class is not declared)

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
        return self._kind in {"model", "typed dict", "plain"} or isinstance(args[0], self._class)

    def has_field(self, name: str) -> bool:
        """Return True if the constructor takes an argument of this name, or any argument."""
        return self._known is None or name in self._known

    def check(self, value: object) -> T:
        """Validate a value, as `run` gives it to a handler. Raises ValidationError."""
        return self._as_read(self._made_of(value), value, are_fields=False)

    def build(self, args: tuple[object, ...], kwargs: dict[str, object]) -> T:
        """Make a value of its constructor's arguments, as `run` gives it to a handler. Raises ValidationError."""
        made = self._made_from(args, kwargs)
        given, are_fields = self._given(args, kwargs, made)
        return self._as_read(made, given, are_fields=are_fields)

    def pack_value(self, value: object) -> bytes:
        """Write a value as JSON. Raises ValidationError if the JSON would be read as another value."""
        return self._pack(self._made_of(value), value, are_fields=False).wire

    def pack(self, args: tuple[object, ...], kwargs: dict[str, object]) -> bytes:
        """Write the value that these arguments construct as JSON.

        Raises ValidationError if it would be read as another value.

        The fields as they were given are tried first, then the fields of the constructed value.
        """
        made = self._made_from(args, kwargs)
        given, are_fields = self._given(args, kwargs, made)
        return self._pack(made, given, are_fields=are_fields).wire

    def pack_json(self, wire: bytes) -> bytes:
        """Return JSON that was given as such. Raises ValidationError.

        JSON with a secret is written again, because it is not stored in clear text.
        """
        value = self.unpack(wire)
        return self.pack_value(value) if self._facts.may_hold_secrets and holds_secret(value) else wire

    def unpack(self, wire: bytes) -> T:
        """Read a value. Raises ValidationError if the JSON is too large, malformed, or not of the declared type."""
        self._check_limits(wire)
        try:
            return self._read(wire)
        except pydantic.ValidationError as error:
            raise self._invalid(error) from None

    def mask(self, plain: Any, wire: bytes) -> Any:
        """Return `plain`, the data of this JSON, with its secrets masked."""
        if not self._facts.may_hold_secrets:
            return plain
        try:
            return mask_secrets(plain, self._read(wire))
        except Exception:  # noqa: BLE001 - JSON that cannot be read does not show where its secrets are
            return MASK

    def _made_of(self, value: object) -> T:
        """Return a value, validated."""
        candidate = value
        if self._kind == "dataclass" and type(value) is self._class:
            # pydantic does not validate an instance, and the constructor of a plain dataclass has not either.
            candidate = {f.name: getattr(value, f.name) for f in dataclasses.fields(cast("Any", value)) if f.init}
        return self._checked(candidate)

    def _made_from(self, args: tuple[object, ...], kwargs: dict[str, object]) -> T:
        """Return the value that these arguments construct, validated."""
        if self._kind == "plain":
            raise self._error([Issue("", "give the value itself, and nothing else")])
        self._refuse_unknown(kwargs)
        try:
            if self._validates_fields:
                return self._checked(self._fields(args, kwargs))
            return self._checked(self._class(*args, **kwargs))
        except pydantic.ValidationError as error:
            raise self._invalid(error) from None
        except (TypeError, ValueError) as error:
            problem = describe_mismatch(self._class, args, kwargs) or describe_refusal(error)
            raise self._error([Issue("", problem)]) from (error if isinstance(error, TypeError) else None)

    def _checked(self, candidate: object) -> T:
        by_name = True if self._takes_names and self._facts.has_aliases else None
        try:
            return cast("T", self._adapter.validator.validate_python(candidate, by_alias=by_name, by_name=by_name))
        except pydantic.ValidationError as error:
            raise self._invalid(error) from None

    def _as_read(self, made: T, given: object, *, are_fields: bool) -> T:
        """Return a value as a worker reads it. Raises ValidationError if a part of it is not of its declared type.

        A value that JSON would change in another way, and that only `run` accepts, is returned as it is.
        """
        is_invalid = self._holds_invalid(made)
        if not (is_invalid or self._facts.may_set_more):
            return made
        try:
            packed = self._pack(made, given, are_fields=are_fields)
        except ValidationError:
            if is_invalid:
                raise
            return made
        return made if packed.is_exact else packed.back

    def _holds_invalid(self, made: T) -> bool:
        """Return True if an instance in a value is invalid: pydantic does not validate the instances in it."""
        try:
            self._adapter.serializer.to_python(made, warnings="error")
        except PydanticSerializationError as error:
            if is_mistyped(error):
                return True
        except Exception:  # noqa: BLE001, S110 - a user's serializer may raise anything
            pass
        # An input that is a dataclass itself has been validated.
        return self._facts.holds_dataclasses and holds_invalid_dataclass(made, skip_itself=self._kind == "dataclass")

    def _pack(self, made: T, given: object, *, are_fields: bool) -> Packed:
        """Return the first JSON that is read back as the same value. Raises ValidationError if none is."""
        packed = self._pack_plain(made, given, are_fields=are_fields)
        if packed is not None:
            return packed
        trial = _Trial()
        for write, comparison in self._writings(made, given, trial, are_fields=are_fields):
            wire = self._try(write, made, comparison, trial)
            if wire is not None:
                return Packed(wire, trial.back, is_exact=not comparison.may_set_more)
        issue = min(trial.found, key=_rank)
        if issue.problem not in _WITH_CURE:
            is_instance = not (are_fields or self._kind == "plain")
            advice = ", so give the fields rather than the instance" if is_instance else ""
            issue = Issue(issue.path, f"{issue.problem}; a worker would get something else{advice}")
        raise self._error([issue])

    def _pack_plain(self, made: T, given: object, *, are_fields: bool) -> Packed | None:
        """Write a value in the first of the ways, which nearly always succeeds. Return None if it does not."""
        if self._facts.has_changing_default:
            return None
        try:
            wire = _write_given(given) if are_fields else self._dump(made, exclude_unset=True)
            back = self._read(wire)
            difference = (AS_GIVEN if are_fields else EXACT).difference(made, back)
        except Exception:  # noqa: BLE001 - `_try` says what the problem is
            return None
        if difference is not None:
            return None
        self._check_limits(wire)
        return Packed(wire, back, is_exact=True)

    def _writings(
        self, made: T, given: object, trial: _Trial, *, are_fields: bool
    ) -> Iterator[tuple[_Write, Comparison]]:
        """Return the ways to write a value, the best first, each with the rules for what is read back."""
        facts = self._facts
        write_given = partial(_write_given, given)
        spellings = (True, False) if facts.has_aliases else (True,)

        def dumps(comparison: Comparison, **options: Any) -> Iterator[tuple[_Write, Comparison]]:
            for by_alias in spellings:
                yield partial(self._dump, made, by_alias=by_alias, **options), comparison

        if facts.has_changing_default and not facts.has_models:
            yield from dumps(EXACT)
        if are_fields:
            yield write_given, AS_GIVEN
        if not (facts.has_models and facts.has_changing_default):
            yield from dumps(EXACT, exclude_unset=True)
        if not are_fields:
            yield write_given, AS_GIVEN
        if facts.has_models:
            for tags in (False, False, True, True):  # At the second try, `trial.back` shows what is needed.
                yield from dumps(SETTING_MORE, exclude=fields_to_omit(made, trial.back, tags=tags))
            yield from dumps(SETTING_MORE)
            yield write_given, GIVEN_SETTING_MORE

    def _dump(self, made: T, *, by_alias: bool = True, **options: Any) -> bytes:
        return self._adapter.serializer.to_json(made, by_alias=by_alias, round_trip=True, warnings="error", **options)

    def _try(self, write: _Write, made: T, comparison: Comparison, trial: _Trial) -> bytes | None:
        """Write a value, read it back and compare. Return the JSON, or None after noting the problem."""
        try:
            wire = write()
        except (PydanticSerializationError, ValueError, RecursionError) as error:
            trial.found.append(Issue("", f"it cannot be written as JSON ({describe_unwritable(error)})"))
            return None
        self._check_limits(wire)
        try:
            trial.back = back = self._read(wire)
        except pydantic.ValidationError as error:
            issue = to_issues(error, self._facts.names, most=1)[0]
            problem = _NULL_PROBLEM if issue.problem.endswith(", got NoneType") else issue.problem
            trial.found.append(Issue(issue.path, f"cannot be read back from its JSON ({problem})"))
            return None
        except Exception as error:  # noqa: BLE001 - a user's validator may raise anything when it sees its own output
            trial.found.append(Issue("", f"its own output cannot be validated again ({type(error).__name__})"))
            return None
        try:
            difference = comparison.difference(made, back)
        except RecursionError:
            difference = (), "nests too deep to be compared"
        if difference is None:
            return wire
        where, problem = difference
        trial.found.append(Issue(show_path(where, self._facts.names), problem))
        return None

    def _read(self, wire: bytes) -> T:
        """Read JSON, whose fields may have their names too: a model may not read the alias that it writes."""
        if self._facts.has_aliases:
            return cast("T", self._adapter.validator.validate_json(wire, by_alias=True, by_name=True))
        return cast("T", self._adapter.validator.validate_json(wire))

    def _given(self, args: tuple[object, ...], kwargs: dict[str, object], made: T) -> tuple[object, bool]:
        """Return the fields that a call gives and True, or the value and False if its arguments do not name fields."""
        try:
            return self._fields(args, kwargs), True
        except TypeError:  # a model with an `__init__` of its own
            return made, False

    def _fields(self, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        if self._kind == "typed dict":
            return dict(*cast("Any", args), **kwargs)
        if issubclass(self._class, RootModel):
            return args[0] if args else kwargs.get("root", kwargs)
        if args or self._kind == "dataclass":
            return dict(inspect.signature(self._class).bind(*args, **kwargs).arguments)
        return kwargs

    def _refuse_unknown(self, kwargs: dict[str, object]) -> None:
        # A model may ignore unknown fields. That is right for data, but in a call such a field is a misspelt name.
        if self._known is not None and not kwargs.keys() <= self._known:
            raise self._error([Issue("", describe_unknown(kwargs.keys() - self._known, self._known))])

    def _check_limits(self, wire: bytes) -> None:
        if len(wire) > MAX_PAYLOAD:
            size, limit = -(-len(wire) // _KIB), MAX_PAYLOAD // _KIB
            raise self._error(
                [Issue("", f"its JSON is {size} KiB, the limit is {limit} KiB; store a reference instead")]
            )
        if wire.count(b"{") + wire.count(b"[") > MAX_DEPTH and nesting_depth(wire, most=MAX_DEPTH) > MAX_DEPTH:
            raise self._error([Issue("", f"it nests deeper than {MAX_DEPTH} levels")])

    def _definition_error(self, error: Exception) -> DefinitionError:
        problem, advice, _ = str(error).splitlines()[0].partition(" Set `arbitrary_types_allowed=True`")
        cure = " Give an id, or a model of its fields" if advice else ""
        return DefinitionError(f"{self._label} cannot be {self.declared!r}: {problem}{cure}")

    @cached_property
    def _facts(self) -> SchemaFacts:
        return facts_of(self._adapter.core_schema)

    def _invalid(self, error: pydantic.ValidationError) -> ValidationError:
        return self._error(to_issues(error, self._facts.names), count=error.error_count())

    def _error(self, issues: list[Issue], *, count: int = 1) -> ValidationError:
        shown = "; ".join(map(str, issues[:_ISSUES_SHOWN]))
        more = f"; and {count - _ISSUES_SHOWN:,} more" if count > _ISSUES_SHOWN else ""
        return ValidationError(f"{self._label} is not valid: {shown}{more}", issues)


def pack_result(result: object) -> bytes:
    """Write the result of a handler as JSON. Raises ValidationError if JSON cannot hold it or it is too large."""
    try:
        wire = b"null" if result is None else to_json(result, inf_nan_mode="constants")
        if b"NaN" in wire or b"Infinity" in wire:
            from_json(wire, allow_inf_nan=False)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise ValidationError(f"result cannot be written as JSON: {describe_unwritable(error)}") from None
    if len(wire) > MAX_PAYLOAD:
        raise ValidationError(
            f"result is {-(-len(wire) // _KIB)} KiB of JSON, the limit is {MAX_PAYLOAD // _KIB} KiB; store a reference"
        )
    return wire


def _rank(issue: Issue) -> int:
    """Return a lower number for an issue that says more about the cause. Of all ways to write, the best is shown."""
    if issue.problem in _WITH_CURE:
        return 0
    if issue.problem in {SET_IN_JSON, NEW_DEFAULT}:
        return 2
    return 1 if issue.path else 3


def _write_given(value: object) -> bytes:
    return to_json(value, by_alias=True, inf_nan_mode="null")
