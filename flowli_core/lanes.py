"""Lanes: the records that share a limit. A page of the contract: see `flowli_core/driver.py`.

At most `concurrency` records of a lane are active at once, in all queues together, and at most `rate.count` of them
start in any period of `rate.period`. A step checks both before it reserves a record, so no record of a lane that may
not run is looked at, and settling, recovering or releasing a record frees its place in the same transition. A lane that
waits for its rate is due when the oldest start of its period is over, and is nothing to do before.

The records of a lane in a queue take turns with the other lanes and records of the queue. They wait in the order of due
time, then id, and in the order of the queue only the first of them counts, as if it were due when the turn of the lane
begins. A turn begins when the first record is due and may run: it has a place, and the rate allows it. It ends when a
step reserves that record, or cancels it as expired. Then the next turn begins at once, if the next record is due and
may run. Turns that begin later come later. So in a step each lane has one turn in a round, and a second one only after
all that was due before. At the same time, lanes come before records, in the order of their limits and values. A step
that is sent again may return the records of lanes in another order.

The first record of a lane may be a suspect (see `Step`). Then the lane has its turn among the suspects.

The concurrency and the rate of a limit are those of the last record that was enqueued with it; a lane that waits learns
of them when it has its next turn, or when a place of it becomes free.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

MOST_LANE_BYTES = 256
"""The longest value of a lane, in bytes of UTF-8."""

MOST_CONCURRENCY, MOST_RATE = 10_000, 10_000
"""The greatest concurrency, and the most starts in a period. A driver remembers that many starts of a lane."""

MOST_LISTED_LANES = 20
"""The most lanes in an overview."""


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` starts in any `period`, which is at least a millisecond and at most a day."""

    count: int
    period: timedelta


@dataclass(frozen=True, slots=True)
class Lane:
    """The lane of a record: that of its limit with this value. No concurrency and no rate: it only takes turns."""

    limit: str
    value: str = ""
    concurrency: int | None = None
    rate: Rate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLane:
    """The records of a lane in a queue.

    `waiting` counts those that are queued or scheduled in this queue, `active` those that hold a place in any queue.
    `next_turn` is when the lane has its next turn, a time in the past if it is due, and None if all places are taken.
    `blocked` is what it waits for: a place, its rate, or nothing but its turn or the due time of its first record.
    """

    queue: str
    limit: str
    value: str
    waiting: int
    active: int
    concurrency: int | None = None
    rate: Rate | None = None
    next_turn: datetime | None = None
    blocked: Literal["concurrency", "rate"] | None = None
