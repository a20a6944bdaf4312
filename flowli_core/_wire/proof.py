"""The check that a value survives JSON: it is compared with the value that was read back.

The values must be equal in every respect that a handler can see. `==` is not enough: it ignores which fields of a model
were set, the time zone of a datetime, and the difference between an enum and its value.
"""

import dataclasses
import marshal
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias, cast
from uuid import UUID

from pydantic import BaseModel, Secret, SecretBytes, SecretStr
from pydantic.dataclasses import is_pydantic_dataclass

SECRETS = (Secret, SecretStr, SecretBytes)

SECRET_PROBLEM = (
    "a secret is not stored in clear text; give a reference to it, or write it with a serializer of the model"  # noqa: S105
)
ZONE_PROBLEM = "JSON keeps the offset of a time but not its zone; give it in UTC, and the zone as a text of its own"

_CHANGED = "does not come back from JSON as it was"
SET_IN_JSON = "is not set, but comes back from JSON as set"
NEW_DEFAULT = "is not set, and a worker would make another default"
_LOST = "is set, but does not come back from JSON"

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""A string in JSON. One without an end reaches to the end, so that malformed JSON is read only once, too."""

_AS_ARRAYS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))

_ATOMS: frozenset[Any] = frozenset({str, int, float, bool, bytes, type(None), date, timedelta, UUID})
"""The types whose values are alike in every respect if they are of the same type and equal."""

_BUILTINS: frozenset[Any] = frozenset({str, int, float, bool, bytes, type(None), list, dict, tuple})
"""The types that `marshal` writes."""

_PURE: frozenset[Any] = frozenset({list, dict, set, frozenset, tuple, str, int, float, bool, bytes})
"""Default factories that return an equal value at each call."""

_WITHOUT_REFERENCES = 2
"""The version of `marshal` that writes a part in the same way, however many references there are to it."""

_MISSING = object()

Path: TypeAlias = tuple[object, ...]
Difference: TypeAlias = tuple[Path, str]

_Kind = Literal["model", "dataclass", "dict", "sequence", "set", "moment", "decimal", "secret", "attributes", "other"]


_KINDS: tuple[tuple[tuple[type, ...], _Kind], ...] = (
    ((dict,), "dict"),
    ((list, tuple, deque), "sequence"),
    ((set, frozenset), "set"),
    ((datetime, time), "moment"),
    ((Decimal,), "decimal"),
    (SECRETS, "secret"),
)


class ClassFacts(NamedTuple):
    """Facts about a class: the kind of its values, which says how they are compared.

    `names` are the fields of a model or a dataclass. `changing` are the fields of a model whose default may differ at
    each call. If one was not set, its JSON must hold the default that was made at the call.
    """

    kind: _Kind
    names: tuple[str, ...] = ()
    changing: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Comparison:
    """The rules by which a value is compared with the one that was read back.

    With `may_set_more`, fields of a model that were not set may come back as set. Without `may_hold_secrets`, a secret
    that was given is a difference: the JSON is that of the fields as given, so it holds the secret in clear text.
    """

    may_set_more: bool = False
    may_hold_secrets: bool = True

    def difference(self, made: object, back: object) -> Difference | None:  # noqa: PLR0911 - a table
        """Return the first path at which `back`, read from the JSON of `made`, differs, and how it differs.

        Private attributes of models may differ.
        """
        cls = type(made)
        if cls is not type(back):
            return (), f"comes back from JSON as {type(back).__name__}, not as {cls.__name__}"
        if cls in _ATOMS:
            return None if made == back else ((), _CHANGED)
        facts = class_facts(cls)
        match facts.kind:
            case "model":
                return self._difference_of_models(facts, made, back)
            case "dataclass":
                return self._difference_of_dataclasses(facts, made, back)
            case "sequence":
                return self._difference_of_sequences(made, back)
            case "dict":
                return self._difference_of_dicts(made, back)
            case "set":
                return self._difference_of_sets(made, back)
            case "attributes" if made is not back and hasattr(made, "__dict__"):
                return self.difference(made.__dict__, back.__dict__)
            case _:
                problem = self._problem_of_scalars(facts.kind, made, back)
                return None if problem is None else ((), problem)

    def _problem_of_scalars(self, kind: _Kind, made: Any, back: Any) -> str | None:
        """Return how values without parts differ, or None."""
        match kind:
            case "moment":
                return _problem_of_moments(made, back)
            case "secret":
                return None if self.may_hold_secrets and made == back else SECRET_PROBLEM
            case "decimal":
                return None if str(made) == str(back) else _CHANGED
            case _:
                return None if made is back or _are_equal(made, back) else _CHANGED

    def _allowing_secrets(self) -> "Comparison":
        return self if self.may_hold_secrets else Comparison(may_set_more=self.may_set_more)

    def _difference_of_models(self, facts: ClassFacts, made: Any, back: Any) -> Difference | None:
        was_set, is_set = made.__pydantic_fields_set__, back.__pydantic_fields_set__
        if was_set != is_set and not (self.may_set_more and was_set <= is_set):
            lost = sorted(was_set - is_set)
            return ((lost or sorted(is_set - was_set))[0],), _LOST if lost else SET_IN_JSON
        if facts.changing and not facts.changing <= is_set:
            return (min(facts.changing - is_set),), NEW_DEFAULT
        ours, theirs = made.__dict__, back.__dict__
        for name in facts.names:
            part, other = ours.get(name, _MISSING), theirs.get(name, _MISSING)
            cls = cast("object", type(part))
            if cls in _ATOMS and cls is type(other) and part == other:
                continue
            rules = self if name in was_set else self._allowing_secrets()
            found = rules.difference(part, other)
            if found is not None:
                return _within(name, found)
        extra = made.__pydantic_extra__
        return self.difference(extra, back.__pydantic_extra__) if extra else None

    def _difference_of_dataclasses(self, facts: ClassFacts, made: Any, back: Any) -> Difference | None:
        for name in facts.names:
            part = getattr(made, name, _MISSING)
            # A default is in the code, so it is no secret that was given.
            is_default = part is made.__dataclass_fields__[name].default
            rules = self._allowing_secrets() if is_default else self
            found = rules.difference(part, getattr(back, name, _MISSING))
            if found is not None:
                return _within(name, found)
        if is_pydantic_dataclass(made.__class__) and made.__pydantic_config__.get("extra") == "allow":
            return self.difference(_extras(made), _extras(back))
        return None

    def _difference_of_sequences(self, made: Any, back: Any) -> Difference | None:
        if len(made) != len(back) or getattr(made, "maxlen", None) != getattr(back, "maxlen", None):
            return (), _CHANGED
        if len(made) > 0 and type(made[0]) in _BUILTINS and _are_same_builtins(made, back):
            return None
        for index, (part, other) in enumerate(zip(made, back, strict=True)):
            found = self.difference(part, other)
            if found is not None:
                return _within(index, found)
        return None

    def _difference_of_dicts(self, made: Any, back: Any) -> Difference | None:
        if _are_same_builtins(made, back):
            return None
        problem = self._problem_of_keys(made, back)
        if problem is not None:
            return (), problem
        for key, part in made.items():
            found = self.difference(part, back[key])
            if found is not None:
                return _within(key, found)
        return None

    def _problem_of_keys(self, made: Any, back: Any) -> str | None:
        if not self.may_hold_secrets and any(isinstance(key, SECRETS) for key in made):
            return SECRET_PROBLEM
        if made.keys() != back.keys() or list(map(type, made)) != list(map(type, back)):
            return "comes back from JSON with other keys; JSON's keys are text"
        if list(made) != list(back):
            return "comes back from JSON with its keys in another order"
        is_alike = getattr(made, "default_factory", None) is getattr(back, "default_factory", None)
        return None if is_alike else _CHANGED

    def _difference_of_sets(self, made: Any, back: Any) -> Difference | None:
        if made != back:
            return (), _CHANGED
        others = {part: part for part in back}
        found = (self.difference(part, others[part]) for part in made)
        return next((difference for difference in found if difference is not None), None)


EXACT = Comparison()
AS_GIVEN = Comparison(may_hold_secrets=False)
SETTING_MORE = Comparison(may_set_more=True)
GIVEN_SETTING_MORE = Comparison(may_set_more=True, may_hold_secrets=False)


def _class_facts(cls: type[Any]) -> ClassFacts:
    if issubclass(cls, BaseModel):
        fields = cls.__pydantic_fields__
        return ClassFacts(
            "model",
            tuple(fields),
            frozenset(name for name, field in fields.items() if not (field.exclude or is_pure(field.default_factory))),
        )
    if dataclasses.is_dataclass(cls):
        # A field that is neither given nor compared is no part of the value: a lock, a cache.
        names = tuple(field.name for field in dataclasses.fields(cls) if field.init or field.compare)
        return ClassFacts("dataclass", names)
    for classes, kind in _KINDS:
        if issubclass(cls, classes):
            return ClassFacts(kind)
    equality: object = cls.__eq__
    return ClassFacts("attributes" if equality is object.__eq__ else "other")


class_facts: Callable[[type], ClassFacts] = lru_cache(maxsize=1024)(_class_facts)
"""Return how values of a class are compared."""


def is_pure(factory: Any) -> bool:
    """Return True if a default factory returns an equal value at each call. None stands for no factory."""
    made = getattr(factory, "__origin__", factory)
    return factory is None or any(made is pure for pure in _PURE)


def nesting_depth(wire: bytes, *, most: int) -> int:
    """Return how deep arrays and objects nest in JSON, or `most + 1` if deeper. Brackets in strings do not count."""
    brackets = _STRING.sub(b"", wire).translate(_AS_ARRAYS, _NO_BRACKETS)
    for depth in range(most + 1):
        # Each round removes the innermost arrays. If there are none, the rest is empty, or its arrays never end.
        if b"[]" not in brackets:
            return depth + brackets.count(b"[")
        brackets = brackets.replace(b"[]", b"")
    return most + 1


def _problem_of_moments(made: datetime | time, back: datetime | time) -> str | None:
    zone, other = made.tzinfo, back.tzinfo
    if zone is other:
        return None if made == back and made.fold == back.fold else _CHANGED
    offset = _fixed_offset(zone)
    if zone is not None and offset is None:
        return ZONE_PROBLEM
    return None if made == back and offset == _fixed_offset(other) else _CHANGED


def _fixed_offset(zone: tzinfo | None) -> timedelta | None:
    """Return the offset of a zone that has only one, None for any other."""
    try:
        return None if zone is None else zone.utcoffset(None)
    except Exception:  # noqa: BLE001 - a zone of the user's own may expect a datetime
        return None


def _extras(made: object) -> dict[str, object]:
    """Return the attributes of a dataclass of pydantic that are not its fields."""
    names = {field.name for field in dataclasses.fields(cast("Any", made))}
    return {name: value for name, value in vars(made).items() if name not in names}


def _within(key: object, difference: Difference) -> Difference:
    """Return a difference of a part as one of the whole."""
    path, problem = difference
    return (key, *path), problem


def _are_same_builtins(made: Any, back: Any) -> bool:
    """Return True if values of builtin types are the same in every respect.

    False proves nothing. `marshal` writes the exact type of each part and the order of keys, far faster than a loop.
    """
    try:
        return marshal.dumps(made, _WITHOUT_REFERENCES) == marshal.dumps(back, _WITHOUT_REFERENCES)
    except ValueError:
        return False


def _are_equal(made: object, back: object) -> bool:
    try:
        return bool(made == back)
    except Exception:  # noqa: BLE001 - the `==` of a user's class may raise anything, or return an array
        return False
