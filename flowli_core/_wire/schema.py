"""Facts about a declared type, from the core schema that pydantic makes of it."""

import enum
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

from pydantic.dataclasses import is_pydantic_dataclass

from flowli_core._wire.proof import SECRETS, is_pure

_NO_SCHEMAS = {"metadata", "serialization", "default"}
"""The keys of a core schema whose values are not schemas."""


class SchemaFacts(NamedTuple):
    """Facts about a declared type.

    `names` are the names that it gives to fields, classes, types and tags. `has_aliases`: a field is read or written by
    another name. `has_changing_default`: a default differs from call to call. `may_set_more`: JSON may have to hold a
    field of a model that was not set. `holds_dataclasses`: it has dataclasses of the standard library, whose
    constructors check nothing.
    """

    names: frozenset[str]
    has_aliases: bool
    has_models: bool
    has_changing_default: bool
    may_set_more: bool
    may_hold_secrets: bool
    holds_dataclasses: bool


def facts_of(schema: object) -> SchemaFacts:
    """Return the facts about a core schema."""
    parts = list(_parts(schema))
    has_models = any(part.get("type") == "model" for part in parts)
    return SchemaFacts(
        names=frozenset({"[key]"}.union(*map(_own_names, parts))),
        has_aliases=any("validation_alias" in part or "serialization_alias" in part for part in parts),
        has_models=has_models,
        has_changing_default=any(not is_pure(part.get("default_factory")) for part in parts),
        may_set_more=has_models and any(map(_may_set_more, parts)),
        may_hold_secrets=any(map(_is_secret, parts)),
        holds_dataclasses=any(
            part.get("type") == "dataclass" and not is_pydantic_dataclass(part["cls"]) for part in parts
        ),
    )


def _parts(schema: object) -> Iterator[Mapping[str, Any]]:
    """Return a core schema and all schemas within it."""
    rest: list[object] = [schema]
    seen: set[int] = set()
    while rest:
        part = rest.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, list | tuple):
            rest += cast("list[object]", part)
        elif isinstance(part, Mapping):
            inner = cast("Mapping[str, Any]", part)
            yield inner
            rest += [value for key, value in inner.items() if key not in _NO_SCHEMAS]


def _may_set_more(part: Mapping[str, Any]) -> bool:
    has_serializer = part.get("type") == "model" and "serialization" in part
    return has_serializer or _has_mutable_default(part) or _chooses_models(part)


def _has_mutable_default(part: Mapping[str, Any]) -> bool:
    if "default_factory" in part:
        return True
    try:
        hash(part.get("default"))
    except TypeError:
        return True
    return False


def _chooses_models(part: Mapping[str, Any]) -> bool:
    """Return True for a union of models: the default of a field may show which of them a value is."""
    choices = part.get("choices", ())
    members: list[Any] = list(cast("Any", choices).values() if isinstance(choices, Mapping) else choices)
    return any(_is_model(member[0] if isinstance(member, tuple) else member) for member in members)


def _is_model(schema: Any) -> bool:
    return schema.get("type") in {"model", "definition-ref"}


def _is_secret(part: Mapping[str, Any]) -> bool:
    cls = part.get("cls")
    if isinstance(cls, type):
        return issubclass(cls, SECRETS)
    # In a schema, only the functions of its class show that a type is a `Secret[...]`.
    function = part.get("function")
    called: Any = cast("Mapping[str, Any]", function).get("function") if isinstance(function, Mapping) else None
    return getattr(called, "__module__", "") == "pydantic.types" and "secret" in called.__qualname__.lower()


def _own_names(schema: Mapping[str, Any]) -> set[str]:
    """Return the names in a core schema, but not in those within it."""
    found = {value for key in ("type", "name") if isinstance(value := schema.get(key), str)}
    found |= {part for alias in ("validation_alias", "alias") for part in _strings(schema.get(alias))}
    fields, choices, cls = schema.get("fields"), schema.get("choices"), schema.get("cls")
    if isinstance(fields, Mapping):
        found |= {str(name) for name in cast("Mapping[object, object]", fields)}
    if isinstance(choices, Mapping):
        tags = cast("Mapping[object, object]", choices)
        found |= {str(tag.value if isinstance(tag, enum.Enum) else tag) for tag in tags}
    if isinstance(cls, type):
        found.add(cls.__name__)
    return found


def _strings(value: object) -> list[str]:
    if isinstance(value, list | tuple):
        return [text for part in cast("list[object]", value) for text in _strings(part)]
    return [value] if isinstance(value, str) else []
