"""The parts of a value: what its fields, items and keys hold, at any depth; and its secrets."""

import dataclasses
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, cast

import pydantic
from pydantic import AliasChoices, AliasPath, TypeAdapter

from flowli_core._wire.proof import SECRETS, class_facts

MASK = "**********"
"""The text that is shown instead of a secret, as in pydantic."""


def parts_of(value: object) -> Iterator[object]:
    """Return a value and all that it holds, at any depth, each part once."""
    rest, seen = [value], set[int]()
    while rest:
        part = rest.pop()
        if id(part) not in seen:
            seen.add(id(part))
            yield part
            rest += _direct_parts(part)


def holds_secret(value: object) -> bool:
    """Return True if a value is a secret, or holds one."""
    return any(isinstance(part, SECRETS) for part in parts_of(value))


def holds_invalid_dataclass(value: object, *, skip_itself: bool) -> bool:
    """Return True if a value holds an invalid instance of a dataclass, whose constructor checks nothing."""
    return any(
        dataclasses.is_dataclass(part) and not isinstance(part, type) and not _is_valid(part)
        for part in parts_of(value)
        if not (skip_itself and part is value)
    )


def mask_secrets(plain: Any, value: object) -> Any:
    """Return JSON data with each secret masked. `value` is what was read from it, and says where the secrets are."""
    if not holds_secret(value):
        return plain
    facts, parts = class_facts(type(value)), cast("Any", value)
    match facts.kind:
        case "model" if facts.names == ("root",):
            return mask_secrets(plain, parts.root)
        case "model" | "dataclass" if isinstance(plain, dict):
            names = {key: name for name in facts.names for key in _keys_of(type(value), name)}
            return {
                key: mask_secrets(part, getattr(value, names[key])) if key in names else part
                for key, part in cast("dict[str, Any]", plain).items()
            }
        case "dict" if isinstance(plain, dict) and len(cast("dict[str, Any]", plain)) == len(parts):
            pairs = zip(cast("dict[str, Any]", plain).items(), parts.values(), strict=True)
            return {key: mask_secrets(part, other) for (key, part), other in pairs}
        case "sequence" if isinstance(plain, list) and len(items := cast("Any", plain)) == len(parts):
            return list(map(mask_secrets, items, parts))
        case _:
            return MASK


def _direct_parts(value: object) -> list[object]:
    facts, parts = class_facts(type(value)), cast("Any", value)
    match facts.kind:
        case "model" | "dataclass":
            extra = getattr(value, "__pydantic_extra__", None)
            return [extra, *(getattr(value, name, None) for name in facts.names)]
        case "dict":
            return [*parts, *parts.values()]
        case "sequence" | "set":
            return list(parts)
        case _:
            return []


def _is_valid(value: Any) -> bool:
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
    try:
        _adapter_of(value.__class__).validate_python(fields)
    except pydantic.ValidationError as error:
        # An instance does not keep the arguments that its constructor takes beside the fields.
        return all(detail["type"] == "missing" for detail in error.errors())
    return True


@lru_cache(maxsize=256)
def _adapter_of(cls: Any) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


def _keys_of(cls: Any, name: str) -> list[str]:
    """Return the keys that JSON may have for a field: its name, and its aliases or the first key of their paths."""
    field = getattr(cls, "__pydantic_fields__", {}).get(name)
    if field is None:
        return [name]
    alias = field.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    heads = [choice.path[0] if isinstance(choice, AliasPath) else choice for choice in choices]
    return [key for key in (name, field.alias, field.serialization_alias, *heads) if isinstance(key, str)]
