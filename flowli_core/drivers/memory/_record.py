"""A record of the memory driver. Times are in milliseconds since 1970."""

from dataclasses import dataclass
from typing import Literal

from flowli_core.driver import Reserved
from flowli_core.drivers._logs import NO_LOG, Log
from flowli_core.drivers._times import milliseconds, moment, moment_or_none
from flowli_core.lanes import Lane
from flowli_core.new_records import Disposition, Enqueued, NewRecord
from flowli_core.stored import FinishedState, RecordsInState, State, StoredRecord


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
    behind: str | None = None
    """The id of the record with the same key that must finish before this one is due. It is then in no order."""
    follower: str | None = None
    """The id of the record that is behind this one."""

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

    def enqueued(self, disposition: Disposition, now: int) -> Enqueued:
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
            lane=None if new.lane is None else Lane(new.lane.limit, new.lane.value),
            progress=self.progress,
            log=self.log.lines,
        )
