"""The lanes of the memory driver: their waiting records, their places and their starts. See flowli_core/lanes.py."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import nsmallest

from flowli_core.drivers._times import milliseconds, moment
from flowli_core.drivers.memory._index import Index
from flowli_core.drivers.memory._queues import Queues
from flowli_core.drivers.memory._record import Record
from flowli_core.lanes import MOST_LISTED_LANES, Lane, Rate, StoredLane


@dataclass(slots=True, eq=False)
class Line:
    """The waiting records of a lane in a queue by due time, and the lane's entry in the order of the queue.

    An entry is a time, and True if the first record is a suspect.
    """

    waiting: Index = field(default_factory=Index)
    entry: tuple[int, bool] | None = None


@dataclass(slots=True, eq=False)
class LaneState:
    """A lane: its line in each queue, the ids of its active records, and when the last records of its rate started."""

    limit: str
    value: str
    lines: dict[str, Line] = field(default_factory=dict[str, Line])
    places: set[str] = field(default_factory=set[str])
    starts: list[int] = field(default_factory=list[int])
    starts_end: int = 0
    """When the last start is forgotten."""


def lane_key(lane: Lane) -> str:
    """Return the key of a lane. It sorts before the id of each record."""
    return f"\n{lane.limit}\n{lane.value}"


class Lanes:
    """The lanes of all limits. A lane is forgotten when it has no records and no starts."""

    def __init__(self, queues: Queues, records: Mapping[str, Record]) -> None:
        self._queues = queues
        self._records = records
        self._lanes: dict[str, LaneState] = {}
        self._limits: dict[str, tuple[int | None, Rate | None]] = {}
        self._starts_end = Index()

    def set_limit(self, lane: Lane) -> None:
        """Note the concurrency and the rate of a limit. A lane that waits learns of them when it is refreshed."""
        self._limits[lane.limit] = (lane.concurrency, lane.rate)

    def add_waiting(self, record: Record, lane: Lane) -> None:
        """Add a waiting record to its lane."""
        state = self._lanes.setdefault(lane_key(lane), LaneState(lane.limit, lane.value))
        state.lines.setdefault(record.new.queue, Line()).waiting.add(record.due, record.new.id)
        self._refresh(lane_key(lane), record.new.queue)

    def remove_waiting(self, record: Record, lane: Lane) -> None:
        """Remove a waiting record from its lane."""
        self._lanes[lane_key(lane)].lines[record.new.queue].waiting.remove(record.due, record.new.id)
        self._refresh(lane_key(lane), record.new.queue)

    def take_place(self, record: Record, lane: Lane) -> None:
        """Give a record that has been reserved a place, and note its start."""
        key, (_, rate) = lane_key(lane), self._limits[lane.limit]
        state = self._lanes.setdefault(key, LaneState(lane.limit, lane.value))
        state.places.add(record.new.id)
        starts = [] if rate is None else [*state.starts, self._queues.now][-rate.count :]
        self._set_starts(key, starts)
        self._refresh_all(key)

    def free_place(self, record: Record, lane: Lane) -> None:
        """Free the place of a record that is no longer active."""
        self._lanes[lane_key(lane)].places.remove(record.new.id)
        self._refresh_all(lane_key(lane))

    def find_first(self, key: str, queue: str) -> Record | None:
        """Return the first record of a lane whose turn it is, or None if its limit, which has changed, holds it up."""
        self._refresh(key, queue)
        line = self._lanes[key].lines[queue]
        if line.entry is None or line.entry[0] > self._queues.now:
            return None
        return self._records[line.waiting.entries[0][1]]

    def refresh(self, record: Record, *, served: bool = False) -> None:
        """Set the turn of a record's lane anew, if it is in one: the next turn if this one was `served`."""
        if record.new.lane is not None:
            self._refresh(lane_key(record.new.lane), record.new.queue, served=served)

    def follow_clock(self) -> None:
        """Let the lanes go on when the clock was set back: starts that are later than now count as now."""
        for key, state in list(self._lanes.items()):
            self._set_starts(key, [min(start, self._queues.now) for start in state.starts])
            self._refresh_all(key)

    def trim(self, limit: int) -> None:
        """Forget the starts of up to `limit` lanes whose last start no longer counts."""
        for _, key in self._starts_end.until(self._queues.now, limit):
            self._set_starts(key, [])
            self._drop_if_unused(key)

    def listed(self) -> tuple[tuple[StoredLane, ...], int]:
        """Return the lanes with the most waiting records, and the number of all lanes that have any."""
        lines = [(state, queue, line) for state in self._lanes.values() for queue, line in state.lines.items()]
        first = nsmallest(
            MOST_LISTED_LANES,
            lines,
            key=lambda one: (-len(one[2].waiting.entries), one[1], one[0].limit, one[0].value),
        )
        return tuple([self._stored(*one) for one in first]), len(lines)

    def _stored(self, state: LaneState, queue: str, line: Line) -> StoredLane:
        concurrency, rate = self._limits[state.limit]
        is_held_up = line.entry is not None and line.entry[0] > max(line.waiting.entries[0][0], self._queues.now)
        return StoredLane(
            queue=queue,
            limit=state.limit,
            value=state.value,
            waiting=len(line.waiting.entries),
            active=len(state.places),
            concurrency=concurrency,
            rate=rate,
            next_turn=None if line.entry is None else moment(line.entry[0]),
            blocked="concurrency" if line.entry is None else "rate" if is_held_up else None,
        )

    def _refresh_all(self, key: str) -> None:
        for queue in list(self._lanes[key].lines):
            self._refresh(key, queue)
        self._drop_if_unused(key)

    def _refresh(self, key: str, queue: str, *, served: bool = False) -> None:
        """Set the entry of a lane in the order of a queue anew.

        A lane that waits for its turn keeps it, unless it was `served`.
        """
        state = self._lanes.get(key)
        line = None if state is None else state.lines.get(queue)
        if state is None or line is None:
            return
        old, line.entry = line.entry, self._find_entry(state, line, served=served)
        if not line.waiting.entries:
            del state.lines[queue]
            self._drop_if_unused(key)
        if old == line.entry:
            return
        if old is not None:
            self._queues.remove(queue, key, old[0], suspect=old[1])
        if line.entry is not None:
            self._queues.add(queue, key, line.entry[0], suspect=line.entry[1])

    def _find_entry(self, state: LaneState, line: Line, *, served: bool) -> tuple[int, bool] | None:
        concurrency, rate = self._limits[state.limit]
        if not line.waiting.entries or (concurrency is not None and len(state.places) >= concurrency):
            return None
        now, (due, record_id) = self._queues.now, line.waiting.entries[0]
        turn = now if served or line.entry is None else min(line.entry[0], now)
        if rate is not None and len(state.starts) >= rate.count:
            allowed = state.starts[-rate.count] + milliseconds(rate.period)
            turn = allowed if allowed > now else turn
        return max(turn, due), self._records[record_id].is_suspect()

    def _set_starts(self, key: str, starts: list[int]) -> None:
        state = self._lanes[key]
        if state.starts:
            self._starts_end.remove(state.starts_end, key)
        state.starts, rate = starts, self._limits[state.limit][1]
        if starts:
            state.starts_end = starts[-1] + (0 if rate is None else milliseconds(rate.period))
            self._starts_end.add(state.starts_end, key)

    def _drop_if_unused(self, key: str) -> None:
        state = self._lanes.get(key)
        if state is not None and not (state.lines or state.places or state.starts):
            del self._lanes[key]
