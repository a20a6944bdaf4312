"""Comparing what a caller made with what came back from JSON, and naming the place where they differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place where two values differ, and how; never the values themselves."""

    path: str
    problem: str


def difference(made: object, back: object, path: tuple[object, ...] = ()) -> Difference | None:
    """Find where a value came back as another. None where it is the same, private attributes left aside."""
    if made == back:
        return None
    if type(made) is not type(back):
        problem = f"comes back from JSON as {type(back).__name__}, not as {type(made).__name__}"
        return Difference(_written(path), problem)
    if isinstance(made, datetime) and made.isoformat() == cast("datetime", back).isoformat():
        # In the hour that a zone repeats, a time is equal to none of another zone, and JSON has offsets alone.
        return None
    parts, others = _parts(made), _parts(back)
    if parts is None or others is None:
        return Difference(_written(path), "does not come back from JSON as it was")
    if parts.keys() != others.keys():
        return Difference(_written(path), "comes back from JSON with other keys; JSON's keys are text")
    differences = (difference(part, others[name], (*path, name)) for name, part in parts.items())
    return next((found for found in differences if found is not None), None)


def depth(wire: bytes) -> int:
    """How deep brackets nest in JSON, those in strings left out."""
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
    """What a value consists of, where it may be the same although it says that it is not equal."""
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


def _written(path: tuple[object, ...]) -> str:
    # Keys of a payload's dicts are data: only names and numbers are told.
    return ".".join(str(part) if isinstance(part, int) or str(part).isidentifier() else "[...]" for part in path)[:200]
