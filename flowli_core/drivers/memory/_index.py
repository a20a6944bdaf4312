"""Ids in the order of their times: what is due first, whose lease ends first, what finished first."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush

_SPARE = 64


class Index:
    """Ids in (time, id) order; each is there once.

    Most come in order: those are kept in a row, which costs less than a heap, and only the others in a heap.
    Removing an id leaves its place behind, to be dropped when it comes first. Once more than half of the places are
    such garbage they are made anew, so that memory follows the number of ids, at no cost that counts.
    """

    __slots__ = ("_heap", "_row", "_times")

    def __init__(self) -> None:
        self._times: dict[str, int] = {}
        self._row: deque[tuple[int, str]] = deque()
        self._heap: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._times)

    def __contains__(self, record_id: str) -> bool:
        return record_id in self._times

    def places(self) -> Iterator[tuple[int, str]]:
        """Each (time, id), in no order."""
        return ((time, record_id) for record_id, time in self._times.items())

    def put(self, record_id: str, time: int) -> None:
        """Add an id, or move it to another time."""
        moved = record_id in self._times
        self._times[record_id] = time
        place = (time, record_id)
        row = self._row
        if not row or place > row[-1]:
            row.append(place)
        else:
            heappush(self._heap, place)
        if moved:
            self._tidy()

    def discard(self, record_id: str) -> None:
        """Remove an id that may be there."""
        self._times.pop(record_id, None)
        self._tidy()

    def first(self) -> tuple[int, str] | None:
        """Answer the first (time, id), or None where there is none."""
        times, row, heap = self._times, self._row, self._heap
        while row and times.get(row[0][1]) != row[0][0]:
            row.popleft()
        while heap and times.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        if row and heap:
            return min(row[0], heap[0])
        return row[0] if row else heap[0] if heap else None

    def first_until(self, time: int) -> str | None:
        """Answer the first id if its time is not after `time`."""
        place = self.first()
        return place[1] if place is not None and place[0] <= time else None

    def move_all(self, *, later_than: int, by: int) -> None:
        """Move every id that is later than `later_than` earlier by `by`, but not past it."""
        for record_id, time in self._times.items():
            if time > later_than:
                self._times[record_id] = max(time - by, later_than)
        self._rebuild()

    def _tidy(self) -> None:
        if len(self._row) + len(self._heap) > 2 * len(self._times) + _SPARE:
            self._rebuild()

    def _rebuild(self) -> None:
        self._row = deque(sorted(self.places()))
        self._heap = []
