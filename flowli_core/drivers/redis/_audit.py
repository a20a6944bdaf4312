"""fsck: what must never be, looked for in the keys themselves while workers go on.

The invariants: each record is in exactly one index (due, suspect, lease, or one of the finished) and nothing belongs
to no record; a token is there exactly while its record is active; counts are what they count; a finished record has its
end of retention, an unfinished one has none; a key is held exactly by the unfinished record that has it; suspects are
those that have been recovered as often as they may be, and nobody else; a schedule is listed, and its next tick is too.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flowli_core.drivers.redis._keys import Keys
from flowli_core.drivers.redis._scripts import Scripts
from flowli_core.errors import DriverError, StoreUnavailable

if TYPE_CHECKING:
    from flowli_core.drivers.redis.clients import Client

AT_A_TIME = 100
"""About how many entries one call looks at: the server does nothing else meanwhile."""

_COUNTED = {"lease": "active", "completed": "completed", "failed": "failed", "cancelled": "cancelled"}
_OTHERS = ("record", "token", "progress", "outcome", "recoveries", "expiry", "holder", "cancelling")
_SCHEDULES = ("schedule", "schedules", "tick")
_TOKEN = ("token", "")
_LOOKS = 3
_PAUSE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something in the store that must never be: the key where it is, the record or schedule, and what is wrong.

    `id` is a field where it is about a count, and empty where it is about the whole key.
    """

    key: str
    id: str
    problem: str


class Audit:
    """One look at all that there is under a prefix. Ends early when it has found `limit` things."""

    def __init__(self, scripts: Scripts, client: Client, keys: Keys, *, limit: int) -> None:
        self._scripts = scripts
        self._client = client
        self._keys = keys
        self._limit = limit
        self._findings: dict[Finding, None] = {}

    async def run(self) -> tuple[Finding, ...]:
        """Look at everything."""
        async for _ in self._parts("counts"):
            pass
        for column in (*_OTHERS, *_SCHEDULES):
            async for _ in self._parts(column):
                pass
        names = await self._client.execute("SMEMBERS", self._keys.queues)
        for queue in sorted(one.decode() for one in names):
            for column in ("due", "suspect"):
                async for _ in self._parts(column, queue):
                    pass
        await self._compare_counts()
        return tuple(self._findings)[: self._limit]

    async def _compare_counts(self) -> None:
        """Tell which counts are wrong. Records move while they are counted, so a look must not have been disturbed.

        Where there is none, because workers are busy, the sums have been compared all the same: within one call.
        """
        for _ in range(_LOOKS):
            before = await self._counts()
            found: Counter[tuple[str, str]] = Counter()
            for column, state in _COUNTED.items():
                async for members in self._parts(column):
                    for queue, number in members:
                        found[state, queue.decode()] += number
            if await self._counts() == before:
                for place in sorted({*found, *before} - {_TOKEN}):
                    by = before.get(place, 0) - found[place]
                    if by and place[1]:
                        self._find("counts", " ".join(place), f"is wrong by {by}")
                return
            await asyncio.sleep(_PAUSE)

    async def _counts(self) -> dict[tuple[str, str], int]:
        found: dict[tuple[str, str], int] = {}
        async for pairs in self._parts("counts"):
            for field, number in zip(pairs[::2], pairs[1::2], strict=True):
                state, _, queue = field.decode().partition(" ")
                if number.lstrip(b"-").isdigit():
                    found[state, queue] = int(number)
        return found

    async def _parts(self, column: str, queue: str = "") -> AsyncIterator[list[Any]]:
        cursor = b"0"
        while len(self._findings) < self._limit:
            try:
                cursor, rows, seen = await self._scripts.audit(
                    self._client, column=column, queue=queue, cursor=cursor, size=AT_A_TIME
                )
            except StoreUnavailable:
                raise
            except DriverError as error:
                self._find(f"{column}:{queue}" if queue else column, "", f"cannot be read: {error}")
                return
            for key, record_id, problem in rows:
                self._find(key.decode(), record_id.decode(errors="replace"), problem.decode(errors="replace"))
            yield seen
            if cursor == b"0":
                return

    def _find(self, key: str, record_id: str, problem: str) -> None:
        self._findings[Finding(key=self._keys.named(key), id=record_id, problem=problem)] = None
