"""The contract between the core and a store.

A driver stores records and moves them between states. It decides nothing: the core decides what a failure means and
when to retry, and sends the decision as an ack. `drivers/memory` is written to be read beside this page, and
tests/conformance checks every driver against it.

Every driver guarantees:

- Each method is one transition. It is done completely or not at all, even if the caller is cancelled or dies.
- `enqueue` is idempotent by record id, an ack by its token, and a step by its worker and sequence number.
- All times are the store's own, in whole milliseconds and UTC. Callers send durations, or a moment that a user named.
- Records are reserved in the order of due time, then id, from the first queue that has any. Lanes take turns: see
  `flowli_core/lanes.py`.
- Every method may be called on any event loop. `heartbeat` may be called on another loop than the rest, because leases
  are renewed from a thread while the main loop is blocked.
- If the store refuses a call or cannot do it, the driver raises `DriverError`; if the same call may be repeated, it
  raises `StoreUnavailable`.
- Stored data may be damaged. A record or a schedule that cannot be read affects no other, and no call fails for it: a
  step sets a damaged record aside as failed, and a damaged schedule no longer ticks. Their data is kept, and reads
  return them with `damage`.

`input`, `meta`, `policy`, `attempts`, `progress`, the lines of a log, `result` and the `spec` of a schedule are JSON
that only the core writes and reads. A driver stores the bytes unchanged.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, Protocol

from flowli_core.durations import ZERO
from flowli_core.history import HistoryEntry, HistoryQuery
from flowli_core.limits import Keep
from flowli_core.new_records import Enqueued, NewRecord
from flowli_core.reports import Report
from flowli_core.stored import (
    FinishedState,
    Found,
    Overview,
    RecordQuery,
    ScheduleByKey,
    SchedulesAfter,
    SchedulesDue,
    StoredSchedule,
    Watch,
)
from flowli_core.targets import CancelAnswer, RequeueAnswer, Target

# Completed, Ack and Reserved are made for each job, and would be frozen if that did not take three times as long.


@dataclass(slots=True)
class Completed:
    """The handler returned `result`."""

    result: bytes


@dataclass(frozen=True, slots=True)
class Retried:
    """The attempt failed; the next one is due after `delay`."""

    delay: timedelta
    attempts: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed, and there will be no other."""

    attempts: bytes


@dataclass(frozen=True, slots=True)
class Released:
    """The record is returned to the queue without using an attempt, and is due again after `delay`.

    With no delay it keeps its due time, so it does not move behind records that were enqueued later. `attempts`
    replace those that are stored, unless None.
    """

    delay: timedelta = ZERO
    attempts: bytes | None = None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The handler was cancelled because `cancel` had requested it."""


Outcome = Completed | Retried | Failed | Released | Cancelled


@dataclass(slots=True)
class Ack:
    """The outcome of running a record under a token. `started_at` is when its handler started, in the store's time."""

    id: str
    token: int
    outcome: Outcome
    started_at: datetime | None = None


AckAnswer = Literal["ok", "duplicate", "lost"]
"""ok: settled now. duplicate: settled before, under this token. lost: not held under this token. Only ok writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One round trip of a worker: settle `acks`, recover expired leases, reserve up to `want` records, and trim.

    A step without acks that reserves something does not trim, so a job that has just come does not wait for it.
    `sequence` starts at 1 for each worker and grows by one with each new step. A step that is sent again gets the
    answer of the first time, with those records of its batch that are still held; `recovered`, `expired` and `damaged`
    are reported only once. A step with a lower sequence does nothing, and each of its acks is answered `lost`.
    `reports` are stored before the acks are settled, so the last report of a handler may come with its outcome.

    A step with a `wait` has no acks and no reports. It waits until something may be due in its queues, at most for
    `wait`, and then does what any other step does. Waiting steps are numbered in a sequence of their own, so that other
    steps can be sent meanwhile. If a waiting step fails or is cancelled, it may have reserved records: send it again
    with `wait=ZERO` and `want=0`. It then does not wait, and its answer holds what it had reserved.

    A recovery by the worker that held the lease does not count: the worker is alive. For the same reason, the last
    recovery is taken back if the worker that held the lease names it later, by an ack or a heartbeat, before the record
    has finished. The driver does this after the step or the heartbeat, and at most MOST_TAKEN_BACK times for a record,
    because its job may be what makes workers stand still. A waiting step leaves the expired leases of its own worker as
    they are, and then reserves nothing, because the process that sent it may stand still.
    Waiters are woken as follows. A record that becomes due wakes one waiting step of its queue; if none waits, the
    wake-up is kept for the next. A step that leaves due records behind wakes another. A waiting step that is cancelled
    passes its wake-up on. A wait may end early for no reason. `close` makes waiting steps raise StoreUnavailable.

    `last_token` is the greatest token that the worker knows: a new one is greater, even if the store has lost it.
    `about` is JSON that describes the worker, for the overview; a worker sends it with its first step. The last step of
    a worker is `leaving`: after it, the store no longer knows the worker.

    A record that has been recovered `max_recoveries` times is a suspect: it may be what kills its workers. It runs
    alone, because the next loss of its worker makes it fail, and no other record may be the cause of that. Set
    `suspect` only if the worker holds nothing after the acks of the step, and no other step of it is in flight. Then,
    if a suspect is the next due record, the step reserves it and nothing else. A waiting step reserves no suspect.
    """

    worker: str
    sequence: int
    queues: tuple[str, ...]
    want: int
    lease: timedelta
    acks: tuple[Ack, ...] = ()
    reports: tuple[Report, ...] = ()
    suspect: bool = True
    keep: Keep = field(default_factory=Keep)
    wait: timedelta | None = None
    about: bytes | None = None
    leaving: bool = False
    last_token: int = 0


@dataclass(slots=True, kw_only=True)
class Reserved:
    """A record that the worker may run until its lease ends.

    The worker and the token prove the lease. All records of a batch share one token. That of a later reservation is
    greater, and at least the store's time in microseconds; after the store's clock was set back, it is greater by at
    least a minute. So no token is used twice, even if the store loses its last writes, as in a failover or a restart
    from a snapshot. `suspect` is True if the record must run alone: see `Step`.
    """

    id: str
    token: int
    name: str
    queue: str
    input: bytes
    meta: bytes | None
    policy: bytes
    attempts: bytes | None
    recoveries: int
    suspect: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """A record whose lease expired: queued again, failed (too many recoveries), or cancelled as requested."""

    id: str
    name: str
    queue: str
    meta: bytes | None
    recoveries: int
    state: Literal["queued", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Expired:
    """A record that the step has cancelled, because it had not begun when it expired."""

    id: str
    name: str
    queue: str


@dataclass(frozen=True, slots=True)
class Damaged:
    """A record that cannot be read, set aside as failed with its data. `queue` is the queue whose index held it."""

    id: str
    queue: str
    damage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepAnswer:
    """The result of a step. `acks` are in the order of the request.

    `next_due` is the time until there is something to do if nobody calls: zero if this step could have reserved more
    with a greater `want`, None if nothing is known. It counts scheduled records, the ends of all leases and the ticks
    to come, but not the suspects that are due. `suspect_due` is True if a due suspect comes before all other due
    records that the step has left, by queue and due time. `next_tick` is the time until the next tick of a schedule,
    zero if one is due now. `forgot` is True if the store does not know the worker's previous step, which means that it
    has lost data; it is always False for a waiting step.
    """

    now: datetime
    acks: tuple[AckAnswer, ...] = ()
    reserved: tuple[Reserved, ...] = ()
    recovered: tuple[Recovered, ...] = ()
    expired: tuple[Expired, ...] = ()
    damaged: tuple[Damaged, ...] = ()
    next_due: timedelta | None = None
    next_tick: timedelta | None = None
    suspect_due: bool = False
    forgot: bool = False


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that a worker believes it holds."""

    id: str
    token: int


@dataclass(frozen=True, slots=True)
class HeartbeatAnswer:
    """The ids of the leases that are no longer the worker's, and of the others that `cancel` was called for."""

    lost: frozenset[str] = frozenset()
    cancelled: frozenset[str] = frozenset()


class Driver(Protocol):
    """A store of records and schedules. The top of this module says what holds for every method."""

    async def open(self) -> None:
        """Connect, and check the store; idempotent. Raises DriverError if it lacks something, and names the cure."""
        ...

    async def close(self) -> None:
        """Release what `open` acquired, and end the waiting steps. Idempotent; `open` may follow."""
        ...

    async def enqueue(self, records: Sequence[NewRecord]) -> list[Enqueued]:
        """Store the records, all or none. The answers are in the order of the records."""
        ...

    async def step(self, step: Step) -> StepAnswer:
        """Settle, recover, reserve and trim in one round trip; wait before that if the step says so."""
        ...

    async def heartbeat(
        self, worker: str, leases: Sequence[Lease], lease: timedelta, reports: Sequence[Report] = ()
    ) -> HeartbeatAnswer:
        """Extend the leases that are still the worker's, to `lease` from now; and store the reports."""
        ...

    async def cancel(self, targets: Sequence[Target]) -> list[CancelAnswer]:
        """Cancel a waiting record now, or request the cancellation of an active one, for up to MOST_TARGETS records.

        Each of them is a transition of its own, in their order. The same holds for `requeue`.

        If its worker completes or fails the record all the same, that outcome counts. If the record would otherwise
        wait again, because it is retried, released or recovered, it becomes `cancelled`.
        """
        ...

    async def requeue(self, targets: Sequence[Target]) -> list[RequeueAnswer]:
        """Return finished or scheduled records to their queues, due now; up to MOST_TARGETS of them.

        They have the attempts of their targets, no recoveries and no progress.
        """
        ...

    async def purge(
        self, state: FinishedState, *, older_than: timedelta, limit: int, ids: Sequence[str] | None = None
    ) -> int:
        """Remove up to `limit` records that finished in this state more than `older_than` ago. Return how many.

        With `ids`, only those of them, up to MOST_TARGETS.
        """
        ...

    async def records(self, query: RecordQuery) -> Found:
        """Return the records that the query finds, and the position from which a listing continues.

        A driver may search the queues one after another. A record that stays in a state meanwhile is listed once; one
        that moves may be left out.
        """
        ...

    async def watch(self, watch: Watch) -> list[str]:
        """Return the ids of watched records that have changed since they were added, or last returned. Wait for one.

        A record changes when it moves to another state, unless by time alone, when its handler reports, and when it is
        removed. A wait may end early. Changes may be lost: if a call fails, after WATCHER_MEMORY without a call, or
        with the store's last writes. So a watcher adds and reads its records anew from time to time.
        """
        ...

    async def history(self, query: HistoryQuery) -> tuple[datetime, list[HistoryEntry]]:
        """Return the store's time, and the entries that the query finds, ordered by start, name and queue."""
        ...

    async def pause_queue(self, queue: str, *, paused: bool) -> bool:
        """Pause a queue, or resume it. Return False if it was paused, or not paused, already.

        Workers reserve nothing from a paused queue, also those that run already. Its active records go on. Its due
        records are nothing to do: they wake no step, and are in no `next_due`. When it is resumed, a waiting step is
        woken if records are due. A queue stays paused until it is resumed, even if it has no records. A store that
        loses its last writes may lose a pause. Raises DriverError if MOST_PAUSED queues are paused already.
        """
        ...

    async def overview(self) -> Overview:
        """Count the records, list the living workers, and find the oldest due record of each queue.

        The counts of a queue are those of one moment. A driver may read many queues one after another. So a sum over
        all queues may miss a record that was enqueued meanwhile, but counts none twice.
        """
        ...

    async def put_schedule(
        self, key: str, schedule: StoredSchedule | None, *, revision: int, records: Sequence[NewRecord] = ()
    ) -> bool:
        """Store the schedule, or remove it if None, provided that its revision is still `revision` (0: not stored).

        Return False and store nothing if it is another. The records of its ticks are stored in the same transition, as
        `enqueue` does it; the last that is accepted becomes the schedule's last record.
        """
        ...

    async def schedules(
        self, query: ScheduleByKey | SchedulesDue | SchedulesAfter
    ) -> tuple[datetime, list[StoredSchedule]]:
        """Return the store's time, and the schedules that the query asks for."""
        ...
