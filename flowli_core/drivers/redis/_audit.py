"""fsck: a search for damage in the keys of a prefix, while workers go on.

It corrects three kinds of damage that nothing else ends: a wrong number of records with a shape, which keeps the shape
for ever, a record that waits behind one that will never finish, and a lane that cannot go on.

The invariants that it checks:

- Each record is in exactly one index (due, suspect, held, lease, completed, failed or cancelled), and each entry of an
  index or a column belongs to a record.
- A token exists exactly while its record is active.
- The counts are correct.
- A shape is stored exactly while a record has it, and a queue exactly while it has a record.
- A finished record has an expiry, an unfinished one has none.
- An idempotency key is held exactly by the unfinished record that has it, by the record that waits behind that one, or
  by a completed record while it is unique.
- A record is behind another exactly if that has not finished; then it is held.
- A held record that is behind no other is in its lane, and an active one has a place of its lane. No other record is in
  a lane or has a place. A lane in which records wait has a turn as soon as it may run, or active records.
- The suspects are the records that have been recovered as often as they may be.
- Each schedule is in the index of schedules; in the index of ticks exactly if it has a next tick.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from flowli_core.drivers.redis._clients import Client
from flowli_core.drivers.redis._clients._errors import PermissionMissingError
from flowli_core.drivers.redis._keys import Keys
from flowli_core.drivers.redis._packing import read_number, to_text
from flowli_core.drivers.redis._scripts import Scripts
from flowli_core.errors import DriverError, StoreUnavailable

AT_A_TIME = 100
"""About how many entries one call checks: it blocks the server meanwhile."""

_COUNTED = {"lease": "active", "completed": "completed", "failed": "failed", "cancelled": "cancelled"}
_OF_RECORDS = ("token", "attempts", "outcome", "recoveries", "expiry", "holder", "cancelling", "progress", "log")
_OF_KEYS = ("behind", "unique")
_OF_LANES = ("lanes", "lane_suspects")
_MENDED = {"lanes", "lane", "lane_suspects", "places", "turn", "turn_suspect", "held"}
_OF_SCHEDULES = ("schedule", "schedules", "tick")
_TOKEN = ("token", "")
_TRIES = 3
_TRIES_TO_CORRECT = 5
_PAUSE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A fault in the store: the key, the id of the record or schedule, and the problem.

    `id` is the name of the field if a count is wrong, and empty if the fault concerns the whole key.
    """

    key: str
    id: str
    problem: str


class Audit:
    """A search through all keys of a prefix. It ends early when it has found `limit` faults."""

    def __init__(self, client: Client, scripts: Scripts, keys: Keys, *, limit: int) -> None:
        self._client = client
        self._scripts = scripts
        self._keys = keys
        self._limit = limit
        self._findings: dict[Finding, None] = {}
        self._has_failed = False

    async def run(self) -> tuple[Finding, ...]:
        """Search, and return the findings."""
        for key, kind, expected in await self._scripts.types():
            name = to_text(key).removeprefix(self._keys.named(""))
            self._report(name, "", f"is a {kind.decode()} and should be a {expected.decode()}")
            if name == "queues":
                return tuple(self._findings)
        async for _ in self._scan("counts"):
            pass
        await self._compare_uses()
        for column in (*_OF_RECORDS, *_OF_KEYS, *_OF_LANES, "uses", *_OF_SCHEDULES):
            async for _ in self._scan(column):
                pass
        for finding in [*self._findings]:
            if finding.key == self._keys.named("behind") and finding.id:
                await self._scripts.admit(finding.id)
        indexes = [(to_text(column), to_text(queue)) async for some in self._scan("queues") for column, queue in some]
        for column, queue in sorted(indexes):
            async for _ in self._scan(column, queue):
                pass
        await self._mend_lanes()
        await self._compare_counts()
        return tuple(self._findings)[: self._limit]

    async def _mend_lanes(self) -> None:
        """Correct what was found of lanes: see the keys in _keys.py."""
        for finding in [*self._findings]:
            kind, _, of = finding.key.removeprefix(self._keys.named("")).partition(":")
            if kind in _MENDED and finding.id:
                await self._scripts.mend_lane(kind, of, finding.id)

    async def _compare_uses(self) -> None:
        """Check the records, and compare how many of them have each shape with what is stored.

        A difference is reported and corrected if it is found twice, while the stored numbers stay the same.
        """
        wrong: dict[bytes, tuple[bytes, int, int]] | None = None
        corrected: set[bytes] = set()
        for _ in range(_TRIES_TO_CORRECT):
            before, counted = await self._uses(), Counter[bytes]()
            async for digests in self._scan("record"):
                counted.update(dict(digests))
            previous = wrong
            wrong = {
                digest: (stored, uses, counted[digest])
                for digest, (stored, uses) in before.items()
                if uses != counted[digest]
            }
            if await self._uses() == before and wrong in ({}, previous):
                for digest, (_, uses, number) in wrong.items():
                    if digest not in corrected:
                        problem = "is missing or damaged" if uses < 0 else f"is wrong by {uses - number}"
                        self._report("uses", to_text(digest), problem)
                corrected |= set(wrong)
                if self._is_partial() or await self._recount(wrong):
                    return
            await asyncio.sleep(_PAUSE)

    async def _recount(self, wrong: dict[bytes, tuple[bytes, int, int]]) -> bool:
        """Store the numbers that were counted. Return False if one was replaced by a number that shows changes."""
        replies = [
            await self._scripts.recount(digest, stored, counted=number) for digest, (stored, _, number) in wrong.items()
        ]
        return all(replies)

    def _is_partial(self) -> bool:
        """Return True if some records may not have been counted."""
        return self._has_failed or len(self._findings) >= self._limit

    async def _uses(self) -> dict[bytes, tuple[bytes, int]]:
        """Return what is stored for each shape, and the number that it means, or -1."""
        return {digest: (stored, uses) async for rows in self._scan("shape") for digest, stored, uses in rows}

    async def _compare_counts(self) -> None:
        """Compare the counts of each queue with its records.

        The result is used only if no record moved meanwhile. If workers are too busy for that, the sums over all queues
        have still been compared, by audit.lua in one call.
        """
        for _ in range(_TRIES):
            before = await self._counts()
            found: Counter[tuple[str, str]] = Counter()
            for column, state in _COUNTED.items():
                async for members in self._scan(column):
                    for queue, number in members:
                        found[state, to_text(queue)] += number
            if await self._counts() == before:
                for state, queue in sorted({*found, *before} - {_TOKEN}):
                    excess = before.get((state, queue), 0) - found[state, queue]
                    if excess and queue:
                        self._report("counts", f"{state} {queue}", f"is wrong by {excess}")
                return
            await asyncio.sleep(_PAUSE)

    async def _counts(self) -> dict[tuple[str, str], int]:
        found: dict[tuple[str, str], int] = {}
        async for pairs in self._scan("counts"):
            for field, number in zip(pairs[::2], pairs[1::2], strict=True):
                state, _, queue = to_text(field).partition(" ")
                found[state, queue] = read_number(number) or 0
        return found

    async def _scan(self, column: str, queue: str = "") -> AsyncIterator[list[Any]]:
        cursor = b"0"
        while len(self._findings) < self._limit:
            try:
                cursor, rows, seen = await self._scripts.audit(
                    column=column, queue=queue, cursor=cursor, size=AT_A_TIME
                )
            except (StoreUnavailable, PermissionMissingError):
                raise
            except DriverError as error:
                self._has_failed = True
                self._report(f"{column}:{queue}" if queue else column, "", f"cannot be read: {error}")
                return
            for key, record_id, problem in rows:
                self._report(to_text(key), to_text(record_id), to_text(problem))
            yield seen
            if cursor == b"0":
                return

    def _report(self, key: str, record_id: str, problem: str) -> None:
        self._findings[Finding(key=self._keys.named(key), id=record_id, problem=problem)] = None
