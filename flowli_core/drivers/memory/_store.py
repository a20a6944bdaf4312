"""The records of the memory driver and their states. Times are in milliseconds since 1970."""

from bisect import bisect_left, insort
from dataclasses import dataclass, replace
from typing import Literal

from flowli_core.driver import Reserved
from flowli_core.drivers._logs import NO_LOG, Log
from flowli_core.drivers._paused import too_many_paused
from flowli_core.drivers._times import SKIPPED_NUMBERS, expiry_at, milliseconds, moment, moment_or_none, stamp
from flowli_core.drivers.memory._history import History
from flowli_core.limits import MOST_PAUSED, MOST_TAKEN_BACK, MOST_TAKEN_IDS
from flowli_core.new_records import Enqueued, NewRecord
from flowli_core.stored import FINISHED, FinishedState, RecordsInState, State, StoredRecord, StoredSchedule

Entry = tuple[int, str]
"""A time and an id."""


class Index:
    """Ids in the order of (time, id)."""

    __slots__ = ("entries",)

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def add(self, time: int, key: str) -> None:
        """Add an id."""
        insort(self.entries, (time, key))

    def remove(self, time: int, key: str) -> None:
        """Remove an id that was added with this time."""
        del self.entries[bisect_left(self.entries, (time, key))]

    def until(self, time: int, limit: int | None = None) -> list[Entry]:
        """Return the first entries whose time is not later."""
        end = bisect_left(self.entries, (time + 1, ""))
        return self.entries[: end if limit is None else min(end, max(limit, 0))]

    def first_time(self) -> int | None:
        """Return the time of the first entry."""
        return self.entries[0][0] if self.entries else None


@dataclass(slots=True, eq=False)
class Record:
    """A record: `new` as it was enqueued, and what has changed since."""

    new: NewRecord
    due: int
    created: int
    updated: int
    status: Literal["waiting", "active"] | FinishedState = "waiting"
    token: int | None = None
    settled: int | None = None
    """The token under which it was last settled."""
    lease_end: int = 0
    cancel_requested: bool = False
    expires: int | None = None
    """When it expires; or when it has expired, if it is cancelled. None once it has begun or was requeued."""
    recoveries: int = 0
    recovered_token: int | None = None
    """The token of the last recovery that counts, unless it was taken back."""
    taken_back: int = 0
    attempts: bytes | None = None
    progress: bytes | None = None
    log: Log = NO_LOG
    result: bytes | None = None
    worker: str | None = None
    started: int | None = None
    failed: int | None = None
    finished: int | None = None
    expiry: int = 0

    def is_suspect(self) -> bool:
        """Return True if it was recovered as often as it may be."""
        return self.recoveries >= self.new.max_recoveries

    def state(self, now: int) -> State:
        """Return its state at this time."""
        if self.status == "waiting":
            return "queued" if self.due <= now else "scheduled"
        return self.status

    def matches(self, query: RecordsInState, now: int) -> bool:
        """Return True if no filter of a query leaves it out."""
        time = self.started if self.status == "active" else self.finished or self.due
        return (
            query.name in {None, self.new.name}
            and query.queue in {None, self.new.queue}
            and (query.attempts_hold is None or query.attempts_hold in (self.attempts or b""))
            and (query.older_than is None or (time or 0) < now - milliseconds(query.older_than))
        )

    def is_held(self, token: int, worker: str) -> bool:
        """Return True if this worker holds it under this token."""
        return self.token == token and self.worker == worker

    def enqueued(self, disposition: Literal["accepted", "duplicate", "existing"], now: int) -> Enqueued:
        """Return the answer to an enqueue of it, or of another record with its id or key."""
        return Enqueued(
            id=self.new.id,
            disposition=disposition,
            state=self.state(now),
            scheduled_for=moment(self.due),
            attempts=self.attempts,
        )

    def reserved(self) -> Reserved:
        """Return it as its worker gets it."""
        new = self.new
        return Reserved(
            id=new.id,
            token=self.token or 0,
            name=new.name,
            queue=new.queue,
            input=new.input,
            meta=new.meta,
            policy=new.policy,
            attempts=self.attempts,
            recoveries=self.recoveries,
            suspect=self.is_suspect(),
        )

    def stored(self, now: int) -> StoredRecord:
        """Return it as a reader gets it."""
        new = self.new
        return StoredRecord(
            id=new.id,
            name=new.name,
            queue=new.queue,
            state=self.state(now),
            input=new.input,
            meta=new.meta,
            key=new.key,
            policy=new.policy,
            attempts=self.attempts,
            result=self.result,
            recoveries=self.recoveries,
            max_recoveries=new.max_recoveries,
            worker=self.worker,
            created_at=moment(self.created),
            updated_at=moment(self.updated),
            scheduled_for=moment(self.due),
            failed_at=moment_or_none(self.failed),
            started_at=moment_or_none(self.started),
            finished_at=moment_or_none(self.finished),
            lease_until=moment(self.lease_end) if self.status == "active" else None,
            cancel_requested=self.status == "active" and self.cancel_requested,
            expires_at=moment_or_none(self.expires),
            expired=self.status == "cancelled" and self.expires is not None,
            progress=self.progress,
            log=self.log.lines,
        )


class TakenIds:
    """The ids of removed records that are still taken, each with the state in which its record finished."""

    def __init__(self) -> None:
        self._index = Index()
        self._found: dict[str, tuple[int, FinishedState]] = {}

    def add(self, record_id: str, until: int, state: FinishedState) -> None:
        """Keep an id taken until a time."""
        self._forget(record_id)
        self._found[record_id] = (until, state)
        self._index.add(until, record_id)

    def get(self, record_id: str, now: int) -> FinishedState | None:
        """Return the state in which the removed record of an id finished, or None if the id is free."""
        until, state = self._found.get(record_id, (0, None))
        return state if until > now else None

    def trim(self, now: int, limit: int) -> None:
        """Forget up to `limit` ids whose time is over, and the oldest of too many."""
        surplus = max(len(self._found) - MOST_TAKEN_IDS, 0)
        for _, record_id in self._index.until(now, limit) or self._index.entries[:surplus]:
            self._forget(record_id)

    def _forget(self, record_id: str) -> None:
        if record_id in self._found:
            self._index.remove(self._found.pop(record_id)[0], record_id)


class Store:
    """The records. Being in an index is the state of a record, and it has a token exactly while it is active.

    A waiting record is in an index of `waiting`, an active one in `leases`, a finished one in `finished` and
    `expiries`. `changed` names the queues whose waiters must be woken, `moved` the records that have changed.
    """

    def __init__(self) -> None:
        self.now = 0
        self.token = 0
        self.records: dict[str, Record] = {}
        self.keys: dict[str, str] = {}
        self.waiting: dict[tuple[str, bool], Index] = {}
        """The waiting records of each queue by due time, its suspects apart."""
        self.leases = Index()
        self.finished: dict[FinishedState, Index] = {state: Index() for state in FINISHED}
        self.expiries = Index()
        self.taken_ids = TakenIds()
        self.changed: set[str] = set()
        self.moved: list[str] = []
        self.schedules: dict[str, StoredSchedule] = {}
        self.ticks = Index()
        self.history = History()
        self.paused: dict[str, int] = {}
        """The paused queues, and when each was paused."""
        self._revision = 0

    def follow_clock(self, now: int) -> None:
        """Note the time. If the clock was set back, what was due stays due, and leases keep the time they had left."""
        seen, self.now = self.now, now
        self.history.follow_clock(now)
        if now < seen:
            self.token += SKIPPED_NUMBERS
            self._revision += SKIPPED_NUMBERS
        for record in list(self.records.values()) if now < seen else ():
            if record.status == "active" and record.lease_end > now:
                self.renew(record, max(record.lease_end - (seen - now), now))
            elif record.status == "waiting" and now < record.due <= seen:
                index = self.waiting[record.new.queue, record.is_suspect()]
                index.remove(record.due, record.new.id)
                index.add(now, record.new.id)
                record.due = now

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
        if new.key is not None and (holder := self.keys.setdefault(new.key, new.id)) != new.id:
            return self.records[holder].enqueued("existing", self.now)
        record = self.records[new.id] = Record(
            new, due=due, created=self.now, updated=self.now, expires=expiry_at(new.expires, due)
        )
        self.make_waiting(record, due)
        self.history.count(new, "enqueued")
        return record.enqueued("accepted", self.now)

    def due(self, queue: str, limit: int, *, suspect: bool = False) -> list[Entry]:
        """Return the first due records of a queue: its suspects, or the others. None of a paused queue is due."""
        index = self.waiting.get((queue, suspect))
        return [] if index is None or queue in self.paused else index.until(self.now, limit)

    def list_state(self, state: State) -> list[Entry]:
        """Return the position of each record in a state."""
        if state == "queued":
            return [entry for index in self.waiting.values() for entry in index.until(self.now)]
        if state == "scheduled":
            return [entry for index in self.waiting.values() for entry in index.entries if entry[0] > self.now]
        if state == "active":
            return [(0, record_id) for _, record_id in self.leases.entries]
        return self.finished[state].entries

    # From one state to another: `take_out`, and then one of `make_waiting`, `make_active` and `finish`.

    def take_out(self, record: Record) -> None:
        """Take a record out of its index, and its token from it."""
        new = record.new
        self.moved.append(new.id)
        if record.status == "waiting":
            index_key = (new.queue, record.is_suspect())
            self.waiting[index_key].remove(record.due, new.id)
            if not self.waiting[index_key].entries:
                del self.waiting[index_key]
        elif record.status == "active":
            record.token = None
            self.leases.remove(record.lease_end, new.id)
        else:
            self.finished[record.status].remove(record.finished or 0, new.id)
            self.expiries.remove(record.expiry, new.id)

    def make_waiting(self, record: Record, due: int) -> None:
        """Put a record into its queue; or cancel it if that was requested while it was active."""
        if record.cancel_requested:
            self.finish(record, "cancelled")
            return
        record.status, record.due, record.updated = "waiting", due, self.now
        self._add_waiting(record)

    def _add_waiting(self, record: Record) -> None:
        new, due = record.new, record.due
        index = self.waiting.setdefault((new.queue, record.is_suspect()), Index())
        index.add(due, new.id)
        if new.queue not in self.paused and (due <= self.now or index.entries[0] == (due, new.id)):
            self.changed.add(new.queue)  # wake a waiter for the record, or to wait for less long

    def make_active(self, record: Record, *, worker: str, token: int, lease_end: int) -> None:
        """Reserve a record for a worker."""
        self.token = token
        record.status, record.token, record.worker, record.lease_end = "active", token, worker, lease_end
        record.expires = None
        record.started = record.updated = self.now
        self.leases.add(lease_end, record.new.id)

    def take_back_recovery(self, record_id: str, token: int) -> None:
        """Take back the last recovery of a record if it was under this token: its worker has reported, so it is alive.

        A record that has finished stays as it is.
        """
        record = self.records.get(record_id)
        if record is None or record.recovered_token != token or record.status in FINISHED:
            return
        if record.taken_back >= MOST_TAKEN_BACK:
            return
        is_waiting = record.status == "waiting"
        if is_waiting:
            self.take_out(record)
        record.recoveries, record.recovered_token = record.recoveries - 1, None
        record.taken_back += 1
        if is_waiting:
            self._add_waiting(record)  # it may be no suspect any more

    def finish(self, record: Record, state: FinishedState) -> None:
        """Finish a record, count it, and free its key."""
        new = record.new
        self.history.count(new, state)
        record.status, record.updated, record.finished = state, self.now, self.now
        record.expiry = self.now + milliseconds(new.keep_completed if state == "completed" else new.keep_failed)
        self.finished[state].add(self.now, new.id)
        self.expiries.add(record.expiry, new.id)
        if new.key is not None and self.keys.get(new.key) == new.id:
            del self.keys[new.key]

    def renew(self, record: Record, lease_end: int) -> None:
        """Move the end of a lease."""
        self.leases.remove(record.lease_end, record.new.id)
        record.lease_end = lease_end
        self.leases.add(lease_end, record.new.id)

    def pause(self, queue: str) -> bool:
        """Pause a queue. Return False if it was paused already."""
        if queue in self.paused:
            return False
        if len(self.paused) >= MOST_PAUSED:
            raise too_many_paused()
        self.paused[queue] = self.now
        return True

    def resume(self, queue: str) -> bool:
        """Resume a queue. Return False if it was not paused."""
        if self.paused.pop(queue, None) is None:
            return False
        if (queue, False) in self.waiting or (queue, True) in self.waiting:
            self.changed.add(queue)  # wake a waiter for what is due, or to wait for less long
        return True

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
                self.changed.add(schedule.queue)  # wake a waiter, to wait for less long

    def remove(self, entries: list[Entry]) -> int:
        """Remove finished records, and return how many."""
        for _, record_id in entries:
            record = self.records.pop(record_id)
            self.take_out(record)
            until = self.now if record.finished is None else record.finished + milliseconds(record.new.keep_id)
            if until > self.now and record.status in FINISHED:
                self.taken_ids.add(record_id, until, record.status)
        return len(entries)
