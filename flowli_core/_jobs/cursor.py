"""Cursors of pages: the sort key of the last entry, as text that is safe in a URL."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import TypeVar

from flowli_core.errors import FlowliError, ValidationError

T = TypeVar("T")


def encode_cursor(*parts: str) -> str:
    """Return a cursor of these parts. A part must not contain a newline."""
    return urlsafe_b64encode("\n".join(parts).encode()).decode().rstrip("=")


def decode_cursor(cursor: object, read: Callable[..., T]) -> T:
    """Return `read(*parts)` for the parts of a cursor. Raises ValidationError if it is invalid or `read` refuses it."""
    try:
        parts = urlsafe_b64decode(f"{cursor}===").decode().split("\n")
        if encode_cursor(*parts) == cursor:
            return read(*parts)
    except (TypeError, ValueError, FlowliError):
        pass
    raise ValidationError("cursor is invalid; give the cursor of the page before")
