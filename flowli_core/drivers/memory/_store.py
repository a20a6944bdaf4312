"""Where each record is: the indexes, and the counts, which change only together with them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from flowli_core.driver import Enqueued, NewRecord
from flowli_core.drivers._times import milliseconds
from flowli_core.drivers.memory._index import Index
from flowli_core.drivers.memory._records import Queue, Record
from flowli_core.stored import FINISHED, FinishedState, QueueCounts, State


class Store:
    """The records. A waiting one is in a lane of its queue, an active one in `leases`, a finished one in `finished`.

    `stirred` names the queues whose waiting records have changed, until those who wait for them have been told.
    """

    def __init__(self) -> None:
        self.now = 0
        self.records: dict[str, Record] = {}
        self.keys: dict[str, str] = {}
        self.queues: dict[str, Queue] = {}
        self.leases = Index()
        self.finished: dict[FinishedState, Index] = {state: Index() for state in FINISHED}
        self.expiries = Index()
        self.stirred: set[str] = set()

    def tick(self, now: int) -> int:
        """Take note of the time. Where the clock was set back, what was due stays so, and leases keep what was left."""
        if now < self.now:
            self.leases.move_all(later_than=now, by=self.now - now)
            for record_id in chain.from_iterable(queue.clamp(now) for queue in self.queues.values()):
                self.records[record_id].due = now
        self.now = now
        return now

    def named(self, queues: Iterable[str]) -> list[Queue]:
        """Answer those of the queues that hold any record, in the order given."""
        return [self.queues[name] for name in queues if name in self.queues]

    def promote(self, queues: Iterable[str]) -> None:
        """Move what has become due from `later` to `due`."""
        self.stirred.update([name for name in queues if name in self.queues and self.queues[name].promote(self.now)])

    def add(self, new: NewRecord, due: int) -> Enqueued:
        """Store a record, unless its id is there or its key taken."""
        same = self.records.get(new.id)
        if same is not None:
            return same.enqueued("duplicate", self.now)
        if new.key is not None and (holder := self.keys.setdefault(new.key, new.id)) != new.id:
            return self.records[holder].enqueued("existing", self.now)
        record = self.records[new.id] = Record(new, due=due, created=self.now, updated=self.now)
        self.put_back(record, due)
        return record.enqueued("accepted", self.now)

    # From one place to another: `leave`, or a lane's `discard`, and then one of the other three.

    def leave(self, record: Record) -> None:
        """Take a record out of where it is. The caller puts it elsewhere, before anybody can look."""
        queue = self.queues[record.new.queue]
        if record.status == "waiting":
            queue.lane(record).discard(record.new.id)
            return
        queue.others[record.status] -= 1
        if record.status == "active":
            record.token = None
            self.leases.discard(record.new.id)
        else:
            self.finished[record.status].discard(record.new.id)
            self.expiries.discard(record.new.id)

    def put_back(self, record: Record, due: int) -> None:
        """Make a record wait, or cancel it where that was asked for while it was active."""
        if record.cancel:
            self.finish(record, "cancelled")
            return
        record.status = "waiting"
        record.due = due
        record.updated = self.now
        name = record.new.queue
        queue = self.queues.get(name)
        if queue is None:
            queue = self.queues[name] = Queue()
        queue.lane(record).put(record, self.now)
        self.stirred.add(name)

    def hand_out(self, record: Record, *, worker: str, token: int, ends: int) -> None:
        """Make a record active."""
        record.status = "active"
        record.token = token
        record.worker = worker
        record.updated = record.started = self.now
        self.queues[record.new.queue].others["active"] += 1
        self.leases.put(record.new.id, ends)

    def finish(self, record: Record, state: FinishedState) -> None:
        """End a record, and free its key."""
        new = record.new
        record.status = state
        record.updated = record.finished = self.now
        self.queues[new.queue].others[state] += 1
        self.finished[state].put(new.id, self.now)
        keep = new.keep_completed if state == "completed" else new.keep_failed
        self.expiries.put(new.id, self.now + milliseconds(keep))
        if new.key is not None and self.keys.get(new.key) == new.id:
            del self.keys[new.key]

    def remove(self, record_id: str) -> None:
        """Forget a finished record, and its queue where it was the last one there."""
        record = self.records.pop(record_id)
        self.leave(record)
        queue = self.queues[record.new.queue]
        if not queue.others[record.status] and queue.is_empty():
            del self.queues[record.new.queue]
            self.stirred.add(record.new.queue)

    def places(self, state: State) -> Iterable[tuple[int, str]]:
        """Answer the (time, id) of each record in a state, as `position` has them."""
        self.promote(self.queues)
        lanes = [lane for queue in self.queues.values() for lane in (queue.ordinary, queue.suspects)]
        match state:
            case "queued":
                return chain.from_iterable([lane.due.places() for lane in lanes])
            case "scheduled":
                return chain.from_iterable([lane.later.places() for lane in lanes])
            case "active":
                return ((0, record_id) for _, record_id in self.leases.places())
            case _:
                return self.finished[state].places()

    def counts(self) -> QueueCounts:
        """Count the records in each state, over all and by queue."""
        self.promote(self.queues)
        return QueueCounts.of({name: queue.counts() for name, queue in self.queues.items()})
