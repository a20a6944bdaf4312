"""A cursor is text for URLs, and only one that the library made is accepted."""

from __future__ import annotations

from base64 import b64encode

import pytest

from flowli_core import ValidationError
from flowli_core._jobs.cursor import decode_cursor, encode_cursor


@pytest.mark.parametrize("parts", [("a",), ("ab",), ("abc", ""), ("2026-01-01T00:00:00+00:00", "id~1"), ("é ?>",)])
def test_the_parts_of_a_cursor_are_read_again(parts: tuple[str, ...]) -> None:
    cursor = encode_cursor(*parts)
    assert cursor.replace("-", "").replace("_", "").isalnum()
    assert decode_cursor(cursor, lambda *read: read) == parts


@pytest.mark.parametrize(
    "cursor",
    ["", "?", "a", "é", 5, None, encode_cursor("a") + "=", encode_cursor("a") + " ", b64encode(b"\xff").decode()],
)
def test_other_text_is_refused(cursor: object) -> None:
    with pytest.raises(ValidationError, match="cursor is invalid; give the cursor of the page before"):
        decode_cursor(cursor, int)


def test_a_cursor_of_another_listing_is_refused() -> None:
    with pytest.raises(ValidationError, match="cursor is invalid"):
        decode_cursor(encode_cursor("one", "two"), int)
