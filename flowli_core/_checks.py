"""Checks of arguments: numbers, types, choices, datetimes, and names, which become part of store keys, logs and URLs.

Each check returns the accepted value.
"""

import re
from collections.abc import Sequence
from dataclasses import is_dataclass
from datetime import UTC, datetime
from typing import TypeVar

from flowli_core.errors import DefinitionError, FlowliError, SchedulingError, ValidationError

T = TypeVar("T")
S = TypeVar("S", bound=str)
E = TypeVar("E", bound=FlowliError)

LONGEST_NAME = 128
LONGEST_KEY = 256

_LONGEST_SHOWN = 60
_NAME = re.compile(r"\w[\w.:/-]*")
_PRINTABLE = re.compile(r"[!-~]+", re.ASCII)


def shown(value: object) -> str:
    """Return the repr of a value for a message: at most 60 characters, and a description if there is no repr."""
    if isinstance(value, str | bytes) and len(value) > _LONGEST_SHOWN:
        value = value[:_LONGEST_SHOWN]  # the repr of all of it would be made in vain
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - of an int with too many digits, or of a class of the user
        return f"a value of {type(value).__name__} that cannot be shown"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."


def internal(error: E) -> E:
    """Mark an error as one that only the program or the store can have caused, and return it."""
    error.is_internal = True
    return error


def whole_number(
    value: object, *, argument: str, low: int, high: int, error: type[FlowliError] = DefinitionError
) -> int:
    """Accept an int from `low` to `high`. Raises `error`."""
    is_int = isinstance(value, int) and not isinstance(value, bool)
    if isinstance(value, int) and is_int and low <= value <= high:
        return value
    refusal = error(f"{argument} must be a whole number from {low} to {high:,}, got {shown(value)}")
    raise refusal if is_int else internal(refusal)


def instance(
    value: object, cls: type[T], *, argument: str, cure: str = "", error: type[FlowliError] = DefinitionError
) -> T:
    """Accept an instance of `cls`. Raises `error`."""
    if not isinstance(value, cls):
        wanted = f"{cls.__name__}(...)" if is_dataclass(cls) else cls.__name__
        raise internal(error(f"{argument} must be a {wanted}, got {type(value).__name__}{cure}"))
    return value


def one_of(
    value: object,
    choices: Sequence[S],
    *,
    argument: str,
    other: str = "",
    cure: str = "",
    error: type[FlowliError] = DefinitionError,
) -> S:
    """Accept one of these texts. Raises `error`; its message also lists `other`, which the caller accepts itself."""
    for choice in choices:
        if value == choice:
            return choice
    *first, last = [*(f'"{choice}"' for choice in choices), *([other] if other else [])]
    raise error(f"{argument} must be {', '.join(first)} or {last}, got {shown(value)}{cure}")


def aware(value: object, *, argument: str, error: type[FlowliError] = SchedulingError) -> datetime:
    """Accept an aware datetime and return it in UTC. Raises `error`."""
    moment = instance(value, datetime, argument=argument, error=error)
    if moment.utcoffset() is None:
        raise error(f"{argument} must be an aware datetime, got a naive one; say which zone: datetime(..., tzinfo=UTC)")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise error(f"{argument} is outside the years 1 to 9999 in UTC: {moment.isoformat()}") from None


def name(value: object, *, argument: str, error: type[FlowliError] = DefinitionError) -> str:
    """Accept 1 to 128 letters, digits, `_`, `.`, `:`, `/` or `-`, the first of them a letter, a digit or `_`."""
    text = _text(value, argument=argument, longest=LONGEST_NAME, error=error)
    if not _NAME.fullmatch(text):
        raise error(
            f"{argument} may have letters, digits and _ . : / - only, and starts with a letter or digit; "
            f"got {shown(text)}"
        )
    return text


def record_id(value: object, *, argument: str = "id") -> str:
    """Accept 1 to 128 printable ASCII characters without spaces or `*`, `{`, `}`."""
    text = _text(value, argument=argument, longest=LONGEST_NAME, error=ValidationError)
    if not _PRINTABLE.fullmatch(text) or any(c in "*{}" for c in text):
        raise ValidationError(
            f"{argument} may have printable ASCII characters only, and no space, *, {{ or }}; got {shown(text)}"
        )
    return text


def key(value: object, *, argument: str = "key") -> str:
    """Accept 1 to 256 printable characters."""
    text = _text(value, argument=argument, longest=LONGEST_KEY, error=ValidationError)
    if not text.isprintable():
        raise ValidationError(f"{argument} may have printable characters only")
    return text


def _text(value: object, *, argument: str, longest: int, error: type[FlowliError]) -> str:
    text = instance(value, str, argument=argument, error=error)
    if not text:
        raise error(f"{argument} must not be empty")
    if len(text) > longest:
        raise error(f"{argument} must have at most {longest} characters, got {len(text)}")
    return text
