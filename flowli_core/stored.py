"""The data that is read from a store: records, counts and schedules, and the queries that find them.

The second page of the contract: see `flowli_core/driver.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, Self

from flowli_core.durations import ZERO
from flowli_core.lanes import Lane, StoredLane

State = Literal["queued", "scheduled", "active", "completed", "failed", "cancelled"]
"""The state of a record. A scheduled record is not due yet; it becomes queued by time alone."""

FinishedState = Literal["completed", "failed", "cancelled"]

STATES: tuple[State, ...] = ("queued", "scheduled", "active", "completed", "failed", "cancelled")
FINISHED: tuple[FinishedState, ...] = ("completed", "failed", "cancelled")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecord:
    """A record as it is stored.

    `attempts` come from the last Retried, Failed or Released ack, `failed_at` is when an attempt last failed.
    `started_at` is when the last attempt was reserved; once it is settled, when its handler started.

    `lease_until` and `cancel_requested` are about an active record: when its lease expires, and if an operator has
    cancelled it. For other records they are None and False.

    `expires_at` is when a record that has not begun expires, or has expired; then it is cancelled, and `expired`.

    `lane` has only the limit and the value.

    `progress` is what the last handler that reported any reported last. `log` holds the last lines of all attempts; it
    is empty unless the record was found by its id.

    `damage` is None, or says what cannot be read. A field that cannot be read is then empty, and a time is 1970.
    """

    id: str
    name: str
    queue: str
    state: State
    input: bytes
    meta: bytes | None
    key: str | None
    policy: bytes
    attempts: bytes | None
    result: bytes | None
    recoveries: int
    max_recoveries: int
    worker: str | None
    created_at: datetime
    updated_at: datetime
    scheduled_for: datetime
    failed_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    lease_until: datetime | None = None
    cancel_requested: bool = False
    expires_at: datetime | None = None
    expired: bool = False
    lane: Lane | None = None
    progress: bytes | None = None
    log: tuple[bytes, ...] = ()
    damage: str | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """The position of a record in the listing of its state: newest first, by time and then by id."""

    at: datetime
    id: str


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def position(record: StoredRecord) -> Position:
    """Return the position of a record in the listing of its state.

    The time is that of finishing, or the due time of a waiting record. Active records are listed by id alone.
    """
    at = _EPOCH if record.state == "active" else record.finished_at or record.scheduled_for
    return Position(at, record.id)


@dataclass(frozen=True, slots=True)
class RecordById:
    """Finds the record with this id, if there is one."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsById:
    """Finds the records with these ids, in this order, with their results, but with an empty input, meta and log.

    The answer may end early if it has become large. It then holds at least one record, and the ids behind that of its
    last record are to be asked for again. An id before it that is not in the answer is not stored.
    """

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsInState:
    """Lists up to `limit` records in a state in the order of their positions, from the first behind `after`.

    Without `payloads`, a record has an empty input, and None as meta and result.

    The filters `name`, `queue` and `attempts_hold` (bytes that its attempts contain) leave out other records, and
    `older_than` those whose time is not more than this long ago. The time of a finished record is when it finished,
    that of a waiting one when it is due, and that of an active one when it was reserved.
    """

    state: State
    limit: int
    after: Position | None = None
    payloads: bool = True
    name: str | None = None
    queue: str | None = None
    attempts_hold: bytes | None = None
    older_than: timedelta | None = None

    def is_filtered(self) -> bool:
        """Return True if it has a filter."""
        return (self.name, self.queue, self.attempts_hold, self.older_than) != (None, None, None, None)


RecordQuery = RecordById | RecordsById | RecordsInState


@dataclass(frozen=True, slots=True)
class Found:
    """The records that a query has found.

    `rest` is the position behind which a listing may go on, or None at its end. `looked_at` is the number of records
    that the call has looked at. With filters that is at most MOST_LOOKED_AT, and less if they are large, so that no
    call blocks the store. So fewer records than the `limit`, or none, may come with a `rest`.
    """

    records: list[StoredRecord]
    rest: Position | None = None
    looked_at: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A call of a watcher: a part of a process that waits for changes of records.

    It watches the records in `add`, no longer those in `remove`, and then waits for a change, at most for `wait`. The
    name of a watcher has no spaces. It makes one call with a `wait` at a time; calls without one may be made meanwhile,
    and change what it waits for.
    """

    watcher: str
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    wait: timedelta = ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class StateCounts:
    """The number of records in each state."""

    queued: int = 0
    scheduled: int = 0
    active: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueCounts(StateCounts):
    """The number of records in each state, over all queues and in each queue that holds any."""

    by_queue: Mapping[str, StateCounts] = field(default_factory=dict[str, StateCounts])

    @classmethod
    def of(cls, by_queue: Mapping[str, StateCounts]) -> Self:
        """Make the counts over all queues from those of each."""
        totals = {state: sum([getattr(counts, state) for counts in by_queue.values()]) for state in STATES}
        return cls(**totals, by_queue=by_queue)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWorker:
    """A worker: when it was last seen, to within LAST_SEEN_PRECISION, and its description in JSON, if it gave one."""

    seen: datetime
    about: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The counts, the workers that were seen within the last minute, and the age of the work that waits.

    `oldest` is the due time of the first due record of each queue that has any. `workers` are those that were seen
    within WORKER_LISTED and have not left. `paused` are the paused queues, with the time at which they were paused.
    `lanes` are those with the most waiting records, at most MOST_LISTED_LANES, and `lane_count` is the number of all
    lanes with waiting records; a lane counts once for each of its queues.
    """

    now: datetime
    counts: QueueCounts = QueueCounts()
    oldest: Mapping[str, datetime] = field(default_factory=dict[str, datetime])
    workers: Mapping[str, StoredWorker] = field(default_factory=dict[str, StoredWorker])
    paused: Mapping[str, datetime] = field(default_factory=dict[str, datetime])
    lanes: tuple[StoredLane, ...] = ()
    lane_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSchedule:
    """A schedule as it is stored. Only the core reads `spec`, which says what recurs and when.

    `next_tick` is None if the schedule is paused or over. `last_record_id` is the last record that was accepted with
    it. `revision` grows with each change, like a token; it is 0 until the schedule is stored. A new next tick may wake
    a waiting step of `queue`.

    `damage` is None, or says what cannot be read. Such a schedule has no next tick and an empty spec; it can be removed
    or stored anew under its revision.
    """

    key: str
    queue: str
    spec: bytes
    next_tick: datetime | None
    last_tick: datetime | None = None
    paused: bool = False
    last_record_id: str | None = None
    revision: int = 0
    damage: str | None = None


@dataclass(frozen=True, slots=True)
class ScheduleByKey:
    """Finds the schedule with this key, if there is one."""

    key: str


@dataclass(frozen=True, slots=True)
class SchedulesDue:
    """Lists up to `limit` schedules whose next tick is due, the earliest first."""

    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulesAfter:
    """Lists up to `limit` schedules in the order of their keys, from the first behind `after`."""

    limit: int
    after: str | None = None
