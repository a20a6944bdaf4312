"""The fields of models that nobody has set: left out of the JSON, so that they are not set in the worker either."""

import enum
import typing
from typing import Any, Literal, cast

from pydantic import BaseModel, RootModel
from pydantic.fields import FieldInfo

from flowli_core._wire.declared import strip_wrappers
from flowli_core._wire.proof import EXACT, class_facts

_MISSING = object()


def fields_to_omit(made: object, back: object = _MISSING, *, tags: bool) -> dict[Any, Any]:
    """Return pydantic's `exclude` for the unset fields of a value that need not be written.

    A field must be written if a reader would get another value without it: its default changes from call to call, or
    was changed in place. `back` is the value that was read from JSON without the unset fields, if it could be read.
    With `tags`, fields that may show to which member of a union a value belongs are written too.
    """
    if isinstance(made, BaseModel):
        return _fields_of_model(made, back, tags=tags)
    facts, parts = class_facts(type(made)), cast("Any", made)
    others: Any = back if type(back) is type(made) else None
    pairs: dict[Any, tuple[Any, Any]]
    match facts.kind:
        case "dict":
            pairs = {key: (part, others.get(key, _MISSING) if others else _MISSING) for key, part in parts.items()}
        case "sequence":
            known: list[Any] = list(others) if others is not None else []
            pairs = dict(
                enumerate(zip(parts, known if len(known) == len(parts) else [_MISSING] * len(parts), strict=True))
            )
        case "dataclass":
            pairs = {name: (getattr(made, name, None), getattr(others, name, _MISSING)) for name in facts.names}
        case _:
            return {}
    found = {key: fields_to_omit(part, other, tags=tags) for key, (part, other) in pairs.items()}
    return {key: omitted for key, omitted in found.items() if omitted}


def _fields_of_model(made: BaseModel, back: object, *, tags: bool) -> dict[Any, Any]:
    changing = class_facts(type(made)).changing
    others: dict[str, Any] = {}
    was_written: set[str] = set()
    if isinstance(back, BaseModel) and type(back) is type(made):
        others, was_written = dict(back.__dict__), back.__pydantic_fields_set__
    omitted: dict[Any, Any] = {}
    for name, field in type(made).__pydantic_fields__.items():
        part, other = made.__dict__.get(name), others.get(name, _MISSING)
        is_written = name in made.__pydantic_fields_set__ or name in changing or (tags and _may_be_tag(field))
        # The value of a field that was written is not the default that a reader would make.
        was_made = other is not _MISSING and name not in was_written
        if is_written or (was_made and EXACT.difference(part, other) is not None):
            within = fields_to_omit(part, other, tags=tags)
            if within:
                omitted[name] = within
        else:
            omitted[name] = True
    return omitted.get("root", {}) if isinstance(made, RootModel) else omitted


def _may_be_tag(field: FieldInfo) -> bool:
    annotation = strip_wrappers(field.annotation)
    is_enum = isinstance(annotation, type) and issubclass(annotation, enum.Enum)
    return is_enum or typing.get_origin(annotation) is Literal
