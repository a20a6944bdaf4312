"""The records of the memory driver and their states. Times are in milliseconds since 1970."""

from dataclasses import replace

from flowli_core.drivers._times import SKIPPED_NUMBERS, expiry_at, milliseconds, moment, stamp
from flowli_core.drivers.memory._history import History
from flowli_core.drivers.memory._index import Entry, Index, KeptValues
from flowli_core.drivers.memory._lanes import Lanes
from flowli_core.drivers.memory._queues import Queues
from flowli_core.drivers.memory._record import Record
from flowli_core.limits import MOST_TAKEN_BACK
from flowli_core.new_records import Enqueued, NewRecord
from flowli_core.stored import FINISHED, FinishedState, State, StoredSchedule


class Store:
    """The records. Being in an index is the state of a record, and it has a token exactly while it is active.

    A waiting record is in its lane, or else in the order of its queue, or it is behind another. An active one is in
    `leases`, a finished one in `finished` and `expiries`. `moved` names the records that have changed.
    """

    def __init__(self) -> None:
        self.now = 0
        self.token = 0
        self.records: dict[str, Record] = {}
        self.keys: dict[str, str] = {}
        """The unfinished record that holds each key."""
        self.kept_keys = KeptValues[str]()
        """The completed record that still holds each key."""
        self.queues = Queues()
        self.lanes = Lanes(self.queues, self.records)
        self.leases = Index()
        self.finished: dict[FinishedState, Index] = {state: Index() for state in FINISHED}
        self.expiries = Index()
        self.taken_ids = KeptValues[FinishedState]()
        """The ids of removed records that are still taken, each with the state in which its record finished."""
        self.moved: list[str] = []
        self.schedules: dict[str, StoredSchedule] = {}
        self.ticks = Index()
        self.history = History()
        self._revision = 0

    def follow_clock(self, now: int) -> None:
        """Note the time. If the clock was set back, what was due stays due, and leases keep the time they had left."""
        seen, self.now = self.now, now
        self.queues.now = now
        self.history.follow_clock(now)
        if now < seen:
            self.token += SKIPPED_NUMBERS
            self._revision += SKIPPED_NUMBERS
        for record in list(self.records.values()) if now < seen else ():
            if record.status == "active" and record.lease_end > now:
                self.renew(record, max(record.lease_end - (seen - now), now))
            elif record.status == "waiting" and now < record.due <= seen:
                self._take_from_order(record)
                record.due = now
                self._put_in_order(record)
        if now < seen:
            self.lanes.follow_clock()

    def next_number(self, last: int, known: int) -> int:
        """Return the token or revision after `last`, greater than the one that the caller knows."""
        return max(last + 1, known + 1, 1000 * self.now)

    def add(self, new: NewRecord, due: int) -> Enqueued:
        """Store a record, unless its id is stored or its key is held."""
        same = self.records.get(new.id)
        if same is not None:
            return same.enqueued("duplicate", self.now)
        if new.keep_id and (state := self.taken_ids.get(new.id, self.now)):
            return Enqueued(id=new.id, disposition="duplicate", state=state, scheduled_for=moment(self.now))
        held = None if new.key is None else self._resolve_conflict(new, new.key, due)
        if held is not None:
            return held
        record = self._make(new, due, created=self.now)
        if new.key is not None:
            if (holder := self.keys.get(new.key)) is not None:
                record.behind, self.records[holder].follower = holder, new.id
            self.keys[new.key] = new.id
        self._put_in_order(record)
        self.history.count(new, "enqueued")
        return record.enqueued("accepted", self.now)

    def _resolve_conflict(self, new: NewRecord, key: str, due: int) -> Enqueued | None:
        """Return the answer if another record keeps the key or is replaced, and None if the new one is to be stored."""
        if kept := self.kept_keys.get(key, self.now):
            if kept in self.records and self.records[kept].new.key == key:
                return self.records[kept].enqueued("existing", self.now)
            return Enqueued(id=kept, disposition="existing", state="completed", scheduled_for=moment(self.now))
        holder = self.records.get(self.keys.get(key, ""))
        if holder is not None and new.on_conflict == "keep":
            return holder.enqueued("existing", self.now)
        if holder is not None and holder.status == "waiting":
            return self._replace(holder, new, due).enqueued("replaced", self.now)
        return None

    def _replace(self, old: Record, new: NewRecord, due: int) -> Record:
        """Put a new record in the place of a waiting one. It keeps the id, the time and the one that it is behind."""
        self.take_out(old)
        record = self._make(replace(new, id=old.new.id), due, created=old.created)
        record.behind, record.follower = old.behind, old.follower
        self._put_in_order(record)
        return record

    def _make(self, new: NewRecord, due: int, *, created: int) -> Record:
        if new.max_wait is not None:
            due = max(min(due, created + milliseconds(new.max_wait)), self.now)
        record = Record(new, due=due, created=created, updated=self.now, expires=expiry_at(new.expires, due))
        self.records[new.id] = record
        self.moved.append(new.id)
        if new.lane is not None:
            self.lanes.set_limit(new.lane)
        return record

    def holds_key(self, record: Record) -> bool:
        """Let a finished record that is to wait again hold its key. Return False if another record holds it."""
        new = record.new
        if new.key is None or record.status not in FINISHED:
            return True
        if new.id not in {self.keys.get(new.key, new.id)} & {self.kept_keys.get(new.key, self.now) or new.id}:
            return False
        self.kept_keys.forget(new.key)
        self.keys[new.key] = new.id
        return True

    def find_first(self, queue: str, key: str) -> Record | None:
        """Return the record whose turn an entry in the order of a queue is, or None if its lane may not go on."""
        return self.records.get(key) or self.lanes.find_first(key, queue)

    def list_state(self, state: State) -> list[Entry]:
        """Return the position of each record in a state."""
        match state:
            case "queued" | "scheduled":
                waiting = [record for record in self.records.values() if record.state(self.now) == state]
                return [(record.due, record.new.id) for record in waiting]
            case "active":
                return [(0, record_id) for _, record_id in self.leases.entries]
            case _:
                return self.finished[state].entries

    # From one state to another: `take_out`, and then one of `make_waiting`, `make_active` and `finish`.

    def take_out(self, record: Record) -> None:
        """Take a record out of its index, and from it its token and its place in its lane."""
        new = record.new
        self.moved.append(new.id)
        if record.status == "waiting":
            self._take_from_order(record)
        elif record.status == "active":
            record.token = None
            self.leases.remove(record.lease_end, new.id)
            if new.lane is not None:
                self.lanes.free_place(record, new.lane)
        else:
            self.finished[record.status].remove(record.finished or 0, new.id)
            self.expiries.remove(record.expiry, new.id)

    def make_waiting(self, record: Record, due: int) -> None:
        """Put a record into its queue; or cancel it if that was requested while it was active."""
        if record.cancel_requested:
            self.finish(record, "cancelled")
            return
        record.status, record.due, record.updated = "waiting", due, self.now
        self._put_in_order(record)

    def _put_in_order(self, record: Record) -> None:
        new = record.new
        if record.behind is not None:
            return
        if new.lane is not None:
            self.lanes.add_waiting(record, new.lane)
        else:
            self.queues.add(new.queue, new.id, record.due, suspect=record.is_suspect())

    def _take_from_order(self, record: Record) -> None:
        new = record.new
        if record.behind is not None:
            return
        if new.lane is not None:
            self.lanes.remove_waiting(record, new.lane)
        else:
            self.queues.remove(new.queue, new.id, record.due, suspect=record.is_suspect())

    def make_active(self, record: Record, *, worker: str, token: int, lease_end: int) -> None:
        """Reserve a record for a worker."""
        self.token = token
        record.status, record.token, record.worker, record.lease_end = "active", token, worker, lease_end
        record.expires = None
        record.started = record.updated = self.now
        self.leases.add(lease_end, record.new.id)
        if record.new.lane is not None:
            self.lanes.take_place(record, record.new.lane)

    def take_back_recovery(self, record_id: str, token: int) -> None:
        """Take back the last recovery of a record if it was under this token: its worker has reported, so it is alive.

        A record that has finished stays as it is.
        """
        record = self.records.get(record_id)
        if record is None or record.recovered_token != token or record.status in FINISHED:
            return
        if record.taken_back >= MOST_TAKEN_BACK:
            return
        is_waiting, is_in_lane = record.status == "waiting", record.new.lane is not None
        if is_waiting and not is_in_lane:
            self._take_from_order(record)
        record.recoveries, record.recovered_token = record.recoveries - 1, None
        record.taken_back += 1
        if is_waiting:  # it may be no suspect any more
            self.moved.append(record_id)
            self.lanes.refresh(record) if is_in_lane else self._put_in_order(record)

    def finish(self, record: Record, state: FinishedState) -> None:
        """Finish a record, count it, and free its key, unless it holds it longer or another record is behind it."""
        new = record.new
        self.history.count(new, state)
        record.status, record.updated, record.finished = state, self.now, self.now
        record.expiry = self.now + milliseconds(new.keep_completed if state == "completed" else new.keep_failed)
        self.finished[state].add(self.now, new.id)
        self.expiries.add(record.expiry, new.id)
        if record.follower is not None:
            follower, record.follower = self.records[record.follower], None
            follower.behind = None
            self._put_in_order(follower)
        if new.key is None or self.keys.get(new.key) != new.id:
            return
        del self.keys[new.key]
        if record.behind is not None:
            self.records[record.behind].follower = None
            self.keys[new.key], record.behind = record.behind, None
        elif state == "completed" and new.unique_for:
            until = record.created + milliseconds(new.unique_for)
            if until > self.now:
                self.kept_keys.add(new.key, until, new.id)

    def renew(self, record: Record, lease_end: int) -> None:
        """Move the end of a lease."""
        self.leases.remove(record.lease_end, record.new.id)
        record.lease_end = lease_end
        self.leases.add(lease_end, record.new.id)

    def put_schedule(self, key: str, schedule: StoredSchedule | None, *, last_record_id: str | None) -> None:
        """Store a schedule under a new revision and with this last record, if any; or remove it if it is None."""
        old = self.schedules.pop(key, None)
        if old is not None and old.next_tick is not None:
            self.ticks.remove(stamp(old.next_tick), key)
        if schedule is None:
            return
        self._revision = self.next_number(self._revision, old.revision if old else 0)
        self.schedules[key] = replace(
            schedule, revision=self._revision, last_record_id=last_record_id or schedule.last_record_id
        )
        if schedule.next_tick is not None:
            self.ticks.add(stamp(schedule.next_tick), key)
            if self.ticks.entries[0][1] == key:
                self.queues.changed.add(schedule.queue)  # wake a waiter, to wait for less long

    def remove(self, entries: list[Entry]) -> int:
        """Remove finished records, and return how many."""
        for _, record_id in entries:
            record = self.records.pop(record_id)
            self.take_out(record)
            until = self.now if record.finished is None else record.finished + milliseconds(record.new.keep_id)
            if until > self.now and record.status in FINISHED:
                self.taken_ids.add(record_id, until, record.status)
        return len(entries)
