"""THE contract between the core and a store.

A driver keeps records and moves them between states; it decides nothing. What a failure means and when to retry is
decided by the core, which sends the decision as an ack. `drivers/memory.py` is written to be read beside this page, and
tests/conformance holds every driver to it.

What every driver guarantees:

- Each method is one transition: it happens wholly or not at all, also when the caller is cancelled or the process dies.
- `enqueue` is idempotent by id, an ack by its token, a step by its (worker, sequence).
- All times are the store's own, in whole milliseconds and UTC; callers send durations, or a moment that a user named.
- Records are handed out by due time, then by id, from the first queue that has any.
- Every method may be awaited on any event loop, `heartbeat` also on another one than the rest: leases are renewed from
  a thread while the main loop is blocked.
- What the store says no to, or cannot do, is a `DriverError`; `StoreUnavailable` where the same call may be repeated.

`input`, `meta`, `policy`, `progress`, `result` and the `spec` of a schedule are JSON made and read by the core; a
driver stores the bytes as they are. A schedule's tick is one `put_schedule`: it stores the records and moves the next
tick on, or does nothing where another was faster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol, runtime_checkable

from flowli_core.durations import ZERO

State = Literal["queued", "scheduled", "active", "completed", "failed", "cancelled"]
"""Where a record is. Queued and scheduled differ only by the time: a scheduled record is not yet due."""

FinishedState = Literal["completed", "failed", "cancelled"]

STATES: tuple[State, ...] = ("queued", "scheduled", "active", "completed", "failed", "cancelled")
FINISHED: tuple[FinishedState, ...] = ("completed", "failed", "cancelled")

MAX_BATCH_BYTES = 8 * 1024 * 1024
"""A step stops reserving before the inputs of its batch exceed this; a batch always holds at least one record."""

RECOVER_PER_STEP = 64
"""How many expired leases a step recovers at the most."""

TRIM_PER_STEP = 1000
"""How many finished records a step removes at the most."""

WORKER_ALIVE = timedelta(minutes=1)
"""A worker that was not heard of for this long is taken for gone. A runner steps every few seconds."""

WORKER_HEARD = timedelta(seconds=15)
"""How much later than it was a driver may say that a worker was heard of: so that idle ones need not be noted down."""

WORKER_MEMORY = timedelta(minutes=10)
"""How long a driver remembers the last sequence of a worker that it no longer hears of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRecord:
    """A record to be stored: all of it stays as it is until the record is removed, but for the due time.

    `key` is unique among the unfinished records; while one holds it, enqueueing another answers `existing`.
    `due` counts from the store's now, or names a moment; a moment in the past means now.
    A finished record is kept for `keep_completed`, or for `keep_failed` where it failed or was cancelled.
    """

    id: str
    name: str
    queue: str
    input: bytes
    meta: bytes | None = None
    key: str | None = None
    due: timedelta | datetime = ZERO
    policy: bytes = b"{}"
    max_recoveries: int = 3
    keep_completed: timedelta = timedelta(hours=1)
    keep_failed: timedelta = timedelta(days=14)


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued:
    """What became of one record of an `enqueue`.

    accepted: it is stored now. duplicate: its id was there already. existing: another unfinished record holds its key.
    The other fields describe the record that is stored: in the last case the other one.
    """

    id: str
    disposition: Literal["accepted", "duplicate", "existing"]
    state: State
    scheduled_for: datetime
    progress: bytes | None = None


@dataclass(frozen=True, slots=True)
class Completed:
    """The handler returned `result`."""

    result: bytes


@dataclass(frozen=True, slots=True)
class Retried:
    """The attempt failed; the next one is due in `delay`."""

    delay: timedelta
    progress: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed, and there will be no other."""

    progress: bytes


@dataclass(frozen=True, slots=True)
class Released:
    """Given back, no attempt used, due again in `delay`; without one at once, and not behind what was enqueued later.

    `progress` replaces the stored one where it is given.
    """

    delay: timedelta = ZERO
    progress: bytes | None = None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The handler was cancelled because `cancel` had asked for it."""


Outcome = Completed | Retried | Failed | Released | Cancelled


@dataclass(frozen=True, slots=True)
class Ack:
    """The outcome of running a record under a token. `started_at` is when its handler started, in the store's time."""

    id: str
    token: int
    outcome: Outcome
    started_at: datetime | None = None


AckAnswer = Literal["ok", "duplicate", "lost"]
"""ok: done as asked. duplicate: settled before, under this token. lost: the token is not current. Only ok wrote."""


@dataclass(frozen=True, slots=True)
class Keep:
    """How many finished records of each state are kept at the most; the oldest go first."""

    completed: int = 1_000
    failed: int = 10_000
    cancelled: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One round trip of a runner: settle `acks`, recover expired leases, reserve up to `want`, trim what is finished.

    A step that brings no acks and reserves something trims nothing: the one that settles what it reserved will. So a
    record that has come waits for nothing else.

    `sequence` starts at 1 for each worker and grows by one with each new step. A step sent again with its sequence is
    answered as it was the first time, with what of its batch is still held (recoveries are not told twice); one with a
    lower sequence does nothing, and each of its acks is answered `lost`.

    A record that has been recovered `max_recoveries` times may be what kills its workers. Such a suspect is handed out
    only where `suspect` is set, and one at a time: so that it cannot take another suspect down with it.
    """

    worker: str
    sequence: int
    queues: tuple[str, ...]
    want: int
    lease: timedelta
    acks: tuple[Ack, ...] = ()
    suspect: bool = True
    keep: Keep = Keep()
    ahead: bool = False
    """Whether it belongs to the other sequence of its worker, that of `StepsAfterWaiting`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """A record that the worker may run until its lease ends.

    The token proves it: one number for the whole batch, never used twice, and always greater for a later delivery.
    `suspect` says that this is its last chance: see `Step`.
    """

    id: str
    token: int
    name: str
    queue: str
    input: bytes
    meta: bytes | None
    policy: bytes
    progress: bytes | None
    recoveries: int
    suspect: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """A record whose lease had expired: it waits again, has failed (too many recoveries), or was cancelled as asked."""

    id: str
    name: str
    queue: str
    recoveries: int
    state: Literal["queued", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepAnswer:
    """What a step did. `acks` are in the order of the request.

    `next_due` is how long until there will be something to do if nobody calls: zero where there was left what this step
    might have taken with a greater `want`, None where nothing is foreseen. Scheduled records, the ends of all leases
    and the ticks to come count; suspects that the step did not ask for do not.

    `next_tick` is how long until a schedule has its next tick, zero where one has it now: see `due_schedules`.
    `forgot` says that the store does not know the worker's step before this one: it has lost data.
    """

    now: datetime
    acks: tuple[AckAnswer, ...] = ()
    reserved: tuple[Reserved, ...] = ()
    recovered: tuple[Recovered, ...] = ()
    next_due: timedelta | None = None
    next_tick: timedelta | None = None
    forgot: bool = False


@dataclass(frozen=True, slots=True)
class Lease:
    """What a worker believes that it holds."""

    id: str
    token: int


@dataclass(frozen=True, slots=True)
class HeartbeatAnswer:
    """The leases that are no longer the worker's, and the records among the others that `cancel` was called for."""

    lost: frozenset[str] = frozenset()
    cancelled: frozenset[str] = frozenset()


CancelAnswer = Literal["cancelled", "requested", "finished", "unknown"]
"""cancelled: it had not started and never will. requested: it is active; its worker is told at the next heartbeat."""

RequeueAnswer = Literal["requeued", "unfinished", "key_taken", "unknown"]
"""requeued: it is due now. unfinished: queued or active. key_taken: another record holds its key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecord:
    """A record as it is stored.

    `progress` is what the last Retried, Failed or Released ack carried; `failed_at` is when an attempt last failed.
    `started_at` is when the attempt that runs, or ran last, was reserved or, once settled, when its handler started.
    """

    id: str
    name: str
    queue: str
    state: State
    input: bytes
    meta: bytes | None
    key: str | None
    policy: bytes
    progress: bytes | None
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


@dataclass(frozen=True, slots=True, kw_only=True)
class StateCounts:
    """How many records are in each state."""

    queued: int = 0
    scheduled: int = 0
    active: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueCounts(StateCounts):
    """How many records are in each state, over all queues and in each queue that holds any."""

    by_queue: Mapping[str, StateCounts] = field(default_factory=dict[str, StateCounts])


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """Who works, and since when the work waits.

    `workers` says when each was last heard of, to within 15 seconds; one that was not for a minute is taken for gone.
    `oldest` is since when the first due record of a queue could have run, for each queue that has any due.
    """

    now: datetime
    workers: Mapping[str, datetime] = field(default_factory=dict[str, datetime])
    oldest: Mapping[str, datetime] = field(default_factory=dict[str, datetime])


@dataclass(frozen=True, slots=True)
class Position:
    """A record's place in the listing of its state: newest first, so by time and then by id, both descending."""

    at: datetime
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSchedule:
    """A recurring definition as it is stored. What recurs, and when, is in `spec`, which only the core reads.

    `next_tick` is None where there will be none: it is paused, or over. `last_record_id` is that of the last record
    that was accepted with it. `revision` is another after each change; 0 says that it is not stored yet. One who waits
    for the `queue` may be told of the next tick.
    """

    key: str
    queue: str
    spec: bytes
    next_tick: datetime | None
    last_tick: datetime | None = None
    paused: bool = False
    last_record_id: str | None = None
    revision: int = 0


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def position(record: StoredRecord) -> Position:
    """Where a record stands in the listing of its state.

    By finishing time; by due time where it waits; by id alone where it is active, because ids are made in order.
    """
    if record.state == "active":
        return Position(_EPOCH, record.id)
    return Position(record.finished_at or record.scheduled_for, record.id)


class Driver(Protocol):
    """Where records live. See the top of this module for what holds of every method."""

    async def open(self) -> None:
        """Connect, and check that the store can do what is needed. Called before anything else; again does nothing.

        Raises DriverError where it cannot, naming the cure.
        """
        ...

    async def close(self) -> None:
        """Let go of what `open` took. Waiters return. Again does nothing; `open` may follow."""
        ...

    async def enqueue(self, records: Sequence[NewRecord]) -> list[Enqueued]:
        """Store the records, all or none, and answer for each in its place."""
        ...

    async def step(self, step: Step) -> StepAnswer:
        """Do everything that a busy runner needs, in one round trip."""
        ...

    async def wait(self, queues: tuple[str, ...], timeout: timedelta) -> None:
        """Return when there may be something due in one of the queues, at the latest after `timeout`.

        It may return early for nothing. A record that became due since the last step that left nothing behind is not
        missed: a wake-up that nobody waited for is kept for the next one who waits.
        """
        ...

    async def heartbeat(self, worker: str, leases: Sequence[Lease], lease: timedelta) -> HeartbeatAnswer:
        """Extend the leases that are still the worker's, to `lease` from now."""
        ...

    async def cancel(self, record_id: str) -> CancelAnswer:
        """Cancel a waiting record at once; ask for an active one.

        An active one that completes or fails for good all the same stays so; a retry, a release or a recovery becomes
        `cancelled`.
        """
        ...

    async def requeue(self, record_id: str, *, progress: bytes | None = None) -> RequeueAnswer:
        """Put a finished or scheduled record back into its queue, due now, with this progress and no recoveries."""
        ...

    async def purge(self, state: FinishedState, *, older_than: timedelta, limit: int) -> int:
        """Remove up to `limit` records that finished in this state more than `older_than` ago; answer how many."""
        ...

    async def get(self, record_id: str) -> StoredRecord | None:
        """Answer the record, or None."""
        ...

    async def page(self, state: State, *, limit: int, after: Position | None = None) -> list[StoredRecord]:
        """List the records in a state, newest first, from behind `after`: see `position`."""
        ...

    async def counts(self) -> QueueCounts:
        """Count the records in each state, over all and by queue."""
        ...

    async def activity(self) -> Activity:
        """Tell which workers were heard of lately, and since when the first record of each queue waits."""
        ...

    async def put_schedule(self, schedule: StoredSchedule, records: Sequence[NewRecord] = ()) -> bool:
        """Store a schedule where its revision is still the given one, and with it the records of its ticks.

        False, and nothing is stored, where it has been changed since, is gone, or (at revision 0) is there already.
        The records are stored as `enqueue` does it; the last that is accepted becomes the schedule's last record.
        """
        ...

    async def remove_schedule(self, key: str) -> bool:
        """Remove a schedule; answer whether there was one. The records of its ticks stay."""
        ...

    async def get_schedule(self, key: str) -> tuple[datetime, StoredSchedule | None]:
        """Answer the store's time, and the schedule where there is one."""
        ...

    async def due_schedules(self, limit: int) -> tuple[datetime, list[StoredSchedule]]:
        """Answer the store's time, and the schedules whose next tick has come, the earliest first."""
        ...

    async def page_schedules(self, *, limit: int, after: str | None = None) -> list[StoredSchedule]:
        """List the schedules in the order of their keys, from behind `after`."""
        ...


@runtime_checkable
class StepsAfterWaiting(Protocol):
    """What a driver may do besides: it saves an idle runner the round trip between a wake-up and what it is about."""

    async def wait_and_step(self, queues: tuple[str, ...], timeout: timedelta, step: Step) -> StepAnswer | None:
        """Wait as `wait` does, and take the step in the same breath. None: it waited, and the step was never sent.

        The step is `ahead`: it has no acks, and a sequence beside that of the steps that are sent meanwhile. Where this
        fails or is cancelled nobody can say whether it was taken: sent again to `step` it is answered as any other.
        """
        ...
