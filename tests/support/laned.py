"""A store in memory whose overview and records show lanes that a test has made up."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from flowli_core.drivers.memory import MemoryDriver
from flowli_core.lanes import Lane, Rate, StoredLane
from flowli_core.testing import ManualClock

if TYPE_CHECKING:
    from flowli_core.stored import Found, Overview, RecordQuery

VALUE = "acme\x1b[31m"
"""The value of the first lane. It would change the colour of a terminal."""


class LanedDriver(MemoryDriver):
    """A store in memory.

    `shown` are the fields of an overview that it changes, and `lane` is that of all its records, if it is set.
    """

    def __init__(self, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock()
        super().__init__(clock=self.clock)
        self.shown: dict[str, Any] = {}
        self.lane: Lane | None = None

    async def overview(self) -> Overview:
        return replace(await super().overview(), **self.shown)

    async def records(self, query: RecordQuery) -> Found:
        found = await super().records(query)
        if self.lane is None:
            return found
        return replace(found, records=[replace(record, lane=self.lane) for record in found.records])

    def show(self, *lanes: StoredLane, count: int | None = None) -> None:
        """Show these lanes, of `count`."""
        self.shown |= {"lanes": lanes, "lane_count": len(lanes) if count is None else count}


def lanes_of(clock: ManualClock, queue: str = "default") -> tuple[StoredLane, ...]:
    """Return a lane that waits for a place, one that waits for its rate, one for its turn and one for its due time."""
    now, rate = clock.now(), Rate(100, timedelta(minutes=1))
    return (
        StoredLane(
            queue=queue, limit="tenant", value=VALUE, waiting=1_200, active=2, concurrency=2, blocked="concurrency"
        ),
        StoredLane(
            queue=queue,
            limit="api",
            value="key-1",
            waiting=30,
            active=0,
            rate=rate,
            next_turn=now + timedelta(seconds=12),
            blocked="rate",
        ),
        StoredLane(queue=queue, limit="api", value="key-2", waiting=3, active=1, rate=rate, next_turn=now),
        StoredLane(queue=queue, limit="report", value="", waiting=1, active=0, next_turn=now + timedelta(minutes=5)),
    )
