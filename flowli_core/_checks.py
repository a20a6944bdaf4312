"""What may be a job's name, a queue, an id or a key: they end up in store keys, logs, URLs and terminals."""

from __future__ import annotations

import re

from flowli_core.errors import DefinitionError, FlowliError, ValidationError

LONGEST_NAME = 128
LONGEST_KEY = 256

_NAME = re.compile(r"\w[\w.:/-]*")
_PRINTABLE = re.compile(r"[!-~]+", re.ASCII)


def name(value: object, *, argument: str, error: type[FlowliError] = DefinitionError) -> str:
    """Accept 1 to 128 letters, digits, `_`, `.`, `:`, `/` or `-`, the first of them a letter, a digit or `_`."""
    text = _text(value, argument=argument, longest=LONGEST_NAME, error=error)
    if not _NAME.fullmatch(text):
        raise error(
            f"{argument} may have letters, digits and _ . : / - only, and starts with a letter or digit; got {text!r}"
        )
    return text


def record_id(value: object, *, argument: str = "id") -> str:
    """Accept 1 to 128 printable ASCII characters without spaces or `*`, `{`, `}`."""
    text = _text(value, argument=argument, longest=LONGEST_NAME, error=ValidationError)
    if not _PRINTABLE.fullmatch(text) or any(c in "*{}" for c in text):
        raise ValidationError(
            f"{argument} may have printable ASCII characters only, and no space, *, {{ or }}; got {text!r}"
        )
    return text


def key(value: object, *, argument: str = "key") -> str:
    """Accept 1 to 256 printable characters."""
    text = _text(value, argument=argument, longest=LONGEST_KEY, error=ValidationError)
    if not text.isprintable():
        raise ValidationError(f"{argument} may have printable characters only")
    return text


def _text(value: object, *, argument: str, longest: int, error: type[FlowliError]) -> str:
    if not isinstance(value, str):
        raise error(f"{argument} must be a str, got {type(value).__name__}")
    if not value:
        raise error(f"{argument} must not be empty")
    if len(value) > longest:
        raise error(f"{argument} must have at most {longest} characters, got {len(value)}")
    return value
