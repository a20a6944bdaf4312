"""Indexes of ids by time, and values that are kept until a time. Times are in milliseconds since 1970."""

from bisect import bisect_left, insort
from typing import Generic, TypeVar

from flowli_core.limits import MOST_TAKEN_IDS

Entry = tuple[int, str]
"""A time and an id."""

V = TypeVar("V")


class Index:
    """Ids in the order of (time, id)."""

    __slots__ = ("entries",)

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def add(self, time: int, key: str) -> None:
        """Add an id."""
        insort(self.entries, (time, key))

    def remove(self, time: int, key: str) -> None:
        """Remove an id that was added with this time."""
        del self.entries[bisect_left(self.entries, (time, key))]

    def until(self, time: int, limit: int | None = None) -> list[Entry]:
        """Return the first entries whose time is not later."""
        end = bisect_left(self.entries, (time + 1, ""))
        return self.entries[: end if limit is None else min(end, max(limit, 0))]

    def first_time(self) -> int | None:
        """Return the time of the first entry."""
        return self.entries[0][0] if self.entries else None


class KeptValues(Generic[V]):
    """Values by key, each kept until a time, and at most MOST_TAKEN_IDS of them."""

    def __init__(self) -> None:
        self._index = Index()
        self._found: dict[str, tuple[int, V]] = {}

    def add(self, key: str, until: int, value: V) -> None:
        """Keep a value until a time."""
        self.forget(key)
        self._found[key] = (until, value)
        self._index.add(until, key)

    def get(self, key: str, now: int) -> V | None:
        """Return the value of a key, or None if there is none any more."""
        found = self._found.get(key)
        return found[1] if found is not None and found[0] > now else None

    def forget(self, key: str) -> None:
        """Forget the value of a key, if there is one."""
        if key in self._found:
            self._index.remove(self._found.pop(key)[0], key)

    def trim(self, now: int, limit: int) -> None:
        """Forget up to `limit` values whose time is over, and the oldest of too many."""
        surplus = max(len(self._found) - MOST_TAKEN_IDS, 0)
        for _, key in self._index.until(now, limit) or self._index.entries[:surplus]:
            self.forget(key)
