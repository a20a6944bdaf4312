"""All that a handler can see of its input, so that the inputs of two handlers can be compared."""

import dataclasses
from collections import deque
from datetime import datetime, time
from decimal import Decimal
from typing import Any, cast

from pydantic import BaseModel


def seen(value: object) -> object:  # noqa: PLR0911 - a table
    """Return all that a handler can see of a value, in a form that can be compared."""
    kind: object = type(value)
    match value:
        case BaseModel():
            fields = {name: seen(part) for name, part in value}
            return type(value), fields, value.model_fields_set, value.model_dump(exclude_unset=True)
        case dict():
            factory = getattr(cast("Any", value), "default_factory", None)
            return kind, factory, [(seen(key), seen(part)) for key, part in cast("Any", value).items()]
        case list() | tuple() | deque():
            return kind, [seen(part) for part in cast("list[object]", value)]
        case _ if dataclasses.is_dataclass(value):
            return type(value), [seen(getattr(value, part.name)) for part in dataclasses.fields(value)]
        case datetime() | time():
            return type(value), value.isoformat(), value.fold, value.utcoffset()
        case Decimal():
            return type(value), str(value)
        case _:
            return type(value), value
