"""The check that a value survives JSON: it is compared with the value that was read back."""

import dataclasses
import re
from collections.abc import Mapping
from datetime import datetime
from typing import TypeAlias, cast

from pydantic import BaseModel

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""A string in JSON. One without an end reaches to the end, so that malformed JSON is read only once, too."""

_AS_ARRAYS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))

Path: TypeAlias = tuple[object, ...]


def find_difference(made: object, back: object, path: Path = ()) -> tuple[Path, str] | None:
    """Return the first path at which `back`, read from the JSON of `made`, differs, and how it differs.

    Private attributes may differ.
    """
    if made == back:
        return None
    if type(made) is not type(back):
        return path, f"comes back from JSON as {type(back).__name__}, not as {type(made).__name__}"
    if isinstance(made, datetime) and made.isoformat() == cast("datetime", back).isoformat():
        # In the hour that a zone repeats, datetimes of different zones are never equal, and JSON keeps only the offset.
        return None
    parts, others = _parts(made), _parts(back)
    if parts is None or others is None:
        return path, "does not come back from JSON as it was"
    if parts.keys() != others.keys():
        return path, "comes back from JSON with other keys; JSON's keys are text"
    differences = (find_difference(part, others[name], (*path, name)) for name, part in parts.items())
    return next((found for found in differences if found is not None), None)


def nesting_depth(wire: bytes, *, most: int) -> int:
    """Return how deep arrays and objects nest in JSON, or `most + 1` if deeper. Brackets in strings do not count."""
    brackets = _STRING.sub(b"", wire).translate(_AS_ARRAYS, _NO_BRACKETS)
    for depth in range(most + 1):
        # Each round removes the innermost arrays. If there are none, the rest is empty, or its arrays never end.
        if b"[]" not in brackets:
            return depth + brackets.count(b"[")
        brackets = brackets.replace(b"[]", b"")
    return most + 1


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
