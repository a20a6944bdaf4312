"""A known way to break a file."""

from __future__ import annotations

from dataclasses import dataclass

Changes = tuple[tuple[str, str] | tuple[str, str, str], ...]
"""The changes of one file: what each breaks, the text that it replaces, and the new text if there is one."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """A replacement of `old` by `new` in `file`, where `old` occurs exactly once. `name` says what it breaks.

    `first` are the arguments of pytest for the tests to run first.
    """

    file: str
    first: tuple[str, ...]
    name: str
    old: str
    new: str = ""

    @property
    def is_lua(self) -> bool:
        """True if it breaks a Lua script."""
        return self.file.endswith(".lua")
