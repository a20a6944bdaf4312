"""Escaping of foreign text, so that it cannot move the cursor of a terminal or fake a line of a log."""

_CONTROLS = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
_DIRECTIONS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""The characters that change the direction in which text is shown."""

_ESCAPES = {
    code: chr(code).encode("unicode_escape", "surrogatepass").decode()
    for code in (*_CONTROLS, *_DIRECTIONS, *range(0xD800, 0xE000))
}
_ESCAPES_IN_LINES = {code: escape for code, escape in _ESCAPES.items() if chr(code) not in "\n\t"}


def escape_controls(text: object, *, lines: bool = False) -> str:
    """Return the text with its control characters escaped. With `lines`, line ends and tabs stay as they are."""
    return str(text).translate(_ESCAPES_IN_LINES if lines else _ESCAPES)
