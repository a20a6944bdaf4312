"""An oracle of leases: which records were held, and from when to when.

It knows nothing of the places and turns that a driver stores. It reads what handlers and killers have written to a log,
and the ids and tokens of the active records, which it polls with a plain client. Each poll shows the leases of one
moment. The log shows the shortest time that each lease has had. A token tells when its lease began: it is the store's
time in microseconds. The two are counted apart: what a poll shows may be as old as the transaction that is not
committed yet, and the lease that this transaction begins has its time.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from tests.faults.app import SQLITE
from tests.faults.run_log import RunLog
from tests.faults.scene import Scene
from tests.redis.server import connect

_POLL_EVERY = 0.002


@dataclass(frozen=True, slots=True)
class Hold:
    """A lease of a record in a lane. It began at `start` and lasted at least until `end`, both in milliseconds."""

    lane: str
    id: str
    token: int
    end: int

    @property
    def start(self) -> int:
        """When the record was reserved, by the store's clock."""
        return self.token // 1000


@dataclass
class Polled:
    """The leases that a store has shown: each poll is a set of ids and tokens."""

    shown: list[frozenset[tuple[str, int]]] = field(default_factory=list[frozenset[tuple[str, int]]])

    def add(self, held: Iterable[tuple[str, int]]) -> None:
        """Note the ids and tokens of the active records, which were read in one moment."""
        self.shown.append(frozenset(held))


@contextmanager
def polling(place: Scene) -> Generator[Polled]:
    """Read the active records of a store again and again, in a thread."""
    polled, has_ended = Polled(), threading.Event()

    def poll() -> None:
        with _reader(place) as read:
            while not has_ended.wait(_POLL_EVERY):
                polled.add(read())

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield polled
    finally:
        has_ended.set()
        thread.join()


@contextmanager
def _reader(place: Scene) -> Generator[Callable[[], list[tuple[str, int]]]]:
    if place.url == SQLITE:
        with closing(sqlite3.connect(place.folder.store)) as connection:
            yield lambda: connection.execute("SELECT id, token FROM record WHERE state = 'active'").fetchall()
    else:
        with closing(connect(place.url)) as client:
            key = f"{{{place.prefix}}}:1:token"
            yield lambda: [(one.decode(), int(text.split()[0])) for one, text in client.hgetall(key).items()]


def holds(log: RunLog, polled: Polled) -> list[Hold]:
    """Return the leases, each with the latest time at which it was certainly held.

    A lease is held while its handler runs, but in a process that was stopped or killed only until the signal, because
    the lease may expire after that. One whose handler never began is held for a moment.
    """
    lanes: dict[str, str] = {}
    ends = {(record_id, token): token // 1000 for shown in polled.shown for record_id, token in shown}
    signals: dict[int, list[int]] = {}
    lines = log.lines()
    for event, pid, at, lane, record_id, _ in lines:
        if event == "signal":
            signals.setdefault(pid, []).append(at)
        else:
            lanes[record_id] = lane
    for event, pid, at, _, record_id, token in lines:
        if event != "signal":
            last = min([at, *[sent for sent in signals.get(pid, ()) if sent >= token // 1000]])
            ends[record_id, token] = max(last, ends.get((record_id, token), 0))
    return [Hold(lanes[record_id], record_id, token, end) for (record_id, token), end in ends.items()]


def most_at_once(held: Iterable[Hold], polled: Polled | None = None) -> Counter[str]:
    """Return the greatest number of leases that each lane has had at one moment, by the log or by a poll."""
    held = list(held)
    changes: list[tuple[int, int, str]] = []
    for hold in held:
        changes += [(hold.start, 1, hold.lane), (hold.end, -1, hold.lane)]
    now, most = Counter[str](), Counter[str]()
    for _, change, lane in sorted(changes):  # at the same millisecond, leases end before others begin
        now[lane] += change
        most[lane] = max(most[lane], now[lane])
    lane_of = {(hold.id, hold.token): hold.lane for hold in held}
    for shown in () if polled is None else polled.shown:
        for lane, number in Counter([lane_of[one] for one in shown]).items():
            most[lane] = max(most[lane], number)
    return most


def most_starts(held: Iterable[Hold], period: int) -> int:
    """Return the greatest number of leases that began in a window of so many milliseconds, of all such windows."""
    starts = sorted([hold.start for hold in held])
    most = first = 0
    for index, start in enumerate(starts):
        while starts[first] <= start - period:
            first += 1
        most = max(most, index + 1 - first)
    return most
