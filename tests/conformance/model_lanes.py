"""The rules of the lanes in the simplest form: each turn is found by a search through all records."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from flowli_core.lanes import Lane, StoredLane

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.conformance.model_records import Call


class Entry(NamedTuple):
    """A turn in the order of a queue: when it begins, the key by which it is sorted, and the record that has it."""

    time: datetime
    key: str
    record_id: str
    suspect: bool


def lane_key(lane: Lane | None) -> str:
    """Return a key that sorts lanes, and that comes before all ids."""
    return "" if lane is None else f"\n{lane.limit}\n{lane.value}"


@dataclass(slots=True)
class LanesModel:
    """The limits, the last starts of each lane, and when the turn of each lane in each queue begins."""

    limits: dict[str, Lane] = field(default_factory=dict[str, Lane])
    starts: dict[str, list[datetime]] = field(default_factory=dict[str, list[datetime]])
    turns: dict[tuple[str, str], datetime] = field(default_factory=dict[tuple[str, str], datetime])

    def start(self, lane: Lane | None, now: datetime) -> None:
        """Note that a record of a lane starts. Check that its rate allows it."""
        if lane is None or (rate := self.limits[lane.limit].rate) is None:
            return
        starts = self.starts.setdefault(lane_key(lane), [])
        starts.append(now)
        assert len([start for start in starts if start > now - rate.period]) <= rate.count, "over the rate"

    def has_late_start(self, now: datetime, by: timedelta) -> bool:
        """Return True if a start would count if the clock was set back by this much."""
        periods = {key: rate.period for key, limit in self.limits.items() if (rate := limit.rate)}
        given = [(start, periods.get(key.split("\n")[1])) for key, starts in self.starts.items() for start in starts]
        return any(period and start > now - period - by for start, period in given)

    def follow_clock(self, now: datetime) -> None:
        """Let starts that are later than now count as now."""
        self.starts = {key: [min(start, now) for start in starts] for key, starts in self.starts.items()}

    def refresh(self, calls: Iterable[Call], now: datetime, served: tuple[str, str] | None) -> None:
        """Set all turns anew. A lane that waits for its turn keeps it, unless it was served."""
        turns = dict[tuple[str, str], datetime]()
        known = [call for call in calls if call.new.lane is not None]
        for queue, key, lane in {(call.new.queue, lane_key(call.new.lane), call.new.lane) for call in known}:
            first = find_first(known, queue, key)
            if lane is None or first is None or not self._has_place(known, lane):
                continue
            floor = now if served == (queue, key) else min(self.turns.get((queue, key), now), now)
            allowed = self._allowed(lane)
            turns[queue, key] = max(allowed if allowed is not None and allowed > now else floor, first.due)
        self.turns = turns

    def _has_place(self, known: list[Call], lane: Lane) -> bool:
        active = [call for call in known if call.state == "active" and lane_key(call.new.lane) == lane_key(lane)]
        most = self.limits[lane.limit].concurrency
        return most is None or len(active) < most

    def _allowed(self, lane: Lane) -> datetime | None:
        """Return when the rate allows the next start, or None if it has been allowed all the time."""
        rate, starts = self.limits[lane.limit].rate, self.starts.get(lane_key(lane), [])
        return None if rate is None or len(starts) < rate.count else starts[-rate.count] + rate.period

    def entries(self, queue: str, waiting: list[Call]) -> list[Entry]:
        """Return the turns of the lanes of a queue."""
        found = list[Entry]()
        for (at, key), time in self.turns.items():
            if at == queue and (first := find_first(waiting, queue, key)):
                found.append(Entry(time, key, first.new.id, first.is_suspect()))
        return found

    def listed(self, calls: Iterable[Call], now: datetime) -> set[StoredLane]:
        """Return the lanes as an overview lists them."""
        known = [call for call in calls if call.new.lane is not None]
        found = set[StoredLane]()
        for queue, key in {(call.new.queue, lane_key(call.new.lane)) for call in known if call.is_waiting()}:
            first, turn = find_first(known, queue, key), self.turns.get((queue, key))
            assert first is not None
            assert first.new.lane is not None
            here = [call for call in known if lane_key(call.new.lane) == key]
            held_up = turn is not None and turn > max(first.due, now)
            limit = self.limits[first.new.lane.limit]
            found.add(
                StoredLane(
                    queue=queue,
                    limit=limit.limit,
                    value=first.new.lane.value,
                    waiting=len([call for call in here if call.new.queue == queue and call.is_waiting()]),
                    active=len([call for call in here if call.state == "active"]),
                    concurrency=limit.concurrency,
                    rate=limit.rate,
                    next_turn=turn,
                    blocked="concurrency" if turn is None else "rate" if held_up else None,
                )
            )
        return found


def find_first(calls: Iterable[Call], queue: str, key: str) -> Call | None:
    """Return the first waiting record of a lane in a queue."""
    here = [one for one in calls if one.is_waiting() and (one.new.queue, lane_key(one.new.lane)) == (queue, key)]
    return min(here, key=lambda call: (call.due, call.new.id), default=None)
