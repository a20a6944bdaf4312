"""Stored JSON that names the version of its layout, so that a worker recognizes data of a later release."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter
from pydantic_core import to_json

from flowli_core.errors import FlowliError

T = TypeVar("T")


class NewerVersionError(ValueError):
    """The data was written by a later release. It is left to workers that know its layout."""


@dataclass(frozen=True, slots=True)
class _Header:
    v: int


class VersionedJson(Generic[T]):
    """The stored form of a dataclass: its fields as a JSON object, beside them `v`, the version of the layout.

    Fields that are None and those in `leave_out` (as pydantic's `exclude`) are not stored.
    """

    def __init__(
        self, stored: type[T], *, version: int, label: str, leave_out: Mapping[str, Any] | None = None
    ) -> None:
        self.version = version
        self._stored = stored
        self._label = label
        self._leave_out = None if leave_out is None else dict(leave_out)

    @cached_property
    def _adapter(self) -> TypeAdapter[T]:
        # Built at the first use, because it takes a millisecond.
        return TypeAdapter(self._stored)

    def pack(self, value: T) -> bytes:
        """Write a value as JSON. Equal values give equal bytes, in every process."""
        fields = self._adapter.dump_python(value, mode="json", exclude=self._leave_out, exclude_none=True)
        return to_json({"v": self.version, **fields})

    def unpack(self, wire: bytes) -> T:
        """Read a value. Raises NewerVersionError, or ValueError if it is malformed or its own checks refuse it."""
        try:
            version = _header().validate_json(wire, strict=True).v
            if version <= self.version:
                return self._adapter.validate_json(wire, strict=True)
        except (ValueError, FlowliError) as error:
            raise ValueError(f"{self._label} cannot be read: {type(error).__name__}") from None  # it quotes the data
        raise NewerVersionError(f"{self._label} was written by a later release (its layout is {version})")


def version_of(wire: bytes) -> int | None:
    """Return the version that stored JSON names, or None if it names none or cannot be read."""
    try:
        return _header().validate_json(wire, strict=True).v
    except ValueError:
        return None


@cache
def _header() -> TypeAdapter[_Header]:
    return TypeAdapter(_Header)
