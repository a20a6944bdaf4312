"""The check that a value survives JSON: it is compared with the value that was read back."""

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import cast

from pydantic import BaseModel

from flowli_core.errors import Issue

_LONGEST_PATH = 200


def find_difference(made: object, back: object, path: tuple[object, ...] = ()) -> Issue | None:
    """Return the first path at which `back`, read from the JSON of `made`, differs. Private attributes may differ."""
    if made == back:
        return None
    if type(made) is not type(back):
        return _issue(path, f"comes back from JSON as {type(back).__name__}, not as {type(made).__name__}")
    if isinstance(made, datetime) and made.isoformat() == cast("datetime", back).isoformat():
        # In the hour that a zone repeats, datetimes of different zones are never equal, and JSON keeps only the offset.
        return None
    parts, others = _parts(made), _parts(back)
    if parts is None or others is None:
        return _issue(path, "does not come back from JSON as it was")
    if parts.keys() != others.keys():
        return _issue(path, "comes back from JSON with other keys; JSON's keys are text")
    differences = (find_difference(part, others[name], (*path, name)) for name, part in parts.items())
    return next((found for found in differences if found is not None), None)


def nesting_depth(wire: bytes) -> int:
    """Return how deep arrays and objects nest in JSON. Brackets within strings do not count."""
    deepest = now = 0
    quoted = escaped = False
    for char in wire:
        if quoted:
            quoted, escaped = escaped or char != 0x22, not escaped and char == 0x5C  # noqa: PLR2004 - a quote, a backslash
        elif char == 0x22:  # noqa: PLR2004 - a quote
            quoted = True
        elif char in b"{[":
            now += 1
            deepest = max(deepest, now)
        elif char in b"}]":
            now -= 1
    return deepest


def _parts(value: object) -> Mapping[object, object] | None:
    """Return the parts to compare one by one, because a `==` of the whole may be False though they are all equal.

    Return None if the value has no parts, or if its class decides itself what is equal.
    """
    match value:
        case dict():
            return cast("dict[object, object]", value)
        case list() | tuple():
            return dict(enumerate(cast("list[object]", value)))
        case BaseModel():
            return {name: getattr(value, name) for name in (*type(value).model_fields, *(value.model_extra or ()))}
        case _ if dataclasses.is_dataclass(value):
            return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        case _ if type(value).__eq__ is object.__eq__:
            return cast("dict[object, object] | None", getattr(value, "__dict__", None))
        case _:
            return None


def _issue(path: tuple[object, ...], problem: str) -> Issue:
    # The keys of a payload's dicts are data, which a message must not hold: show only numbers and names.
    shown = ".".join(str(part) if isinstance(part, int) or str(part).isidentifier() else "[...]" for part in path)
    return Issue(shown[:_LONGEST_PATH], problem)
