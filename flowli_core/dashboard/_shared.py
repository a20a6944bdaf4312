"""Reads of the store that all viewers share, so that many cost no more than one."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

_MOST_ENTRIES = 200


@dataclass(slots=True)
class _Entry:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    value: Any = None
    read_at: float = float("-inf")
    ends_at: float = float("inf")


class Shared:
    """Values that were read a moment ago, by key, for each event loop. A failed read is not kept."""

    def __init__(self) -> None:
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, _Entry]] = WeakKeyDictionary()

    async def get(self, key: Hashable, read: Callable[[], Awaitable[T]], *, seconds: float) -> T:
        """Return the value of a key, read at most so many seconds ago. Concurrent callers share one read."""
        entries = self._loops.setdefault(asyncio.get_running_loop(), {})
        entry = entries.pop(key, None) or _Entry()
        entries[key] = entry
        _drop_old(entries)
        async with entry.lock:
            if time.monotonic() - entry.read_at > seconds:
                entry.ends_at = float("inf")  # it is not dropped while it is read
                entry.value = await read()
                entry.read_at = time.monotonic()
                entry.ends_at = entry.read_at + seconds
            value: T = entry.value
            return value

    def forget(self) -> None:
        """Forget all values of this event loop, because something was changed."""
        self._loops.pop(asyncio.get_running_loop(), None)


def _drop_old(entries: dict[Hashable, _Entry]) -> None:
    """Drop the values that were not used for the longest time, if they are too many or too old: a page may be large."""
    now = time.monotonic()
    for key, entry in list(entries.items())[:-1]:
        if len(entries) <= _MOST_ENTRIES and entry.ends_at > now:
            break
        del entries[key]
