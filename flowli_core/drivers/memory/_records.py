"""What the memory driver keeps: a record, the queue it belongs to, and what a worker was last told. Times are in ms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from flowli_core.driver import AckAnswer, Enqueued, NewRecord, Reserved
from flowli_core.drivers._times import moment, moment_or_none
from flowli_core.drivers.memory._index import Index
from flowli_core.stored import FinishedState, State, StateCounts, StoredRecord

Status = Literal["waiting", "active"] | FinishedState
"""A state, without the difference that only the time makes."""


@dataclass(slots=True, eq=False)
class Record:
    """A record: `new` is what was enqueued, the rest is what has happened to it since.

    `token` is there exactly while it is active; `settled` is the token under which it was last settled.
    """

    new: NewRecord
    due: int
    created: int
    updated: int
    status: Status = "waiting"
    token: int | None = None
    settled: int | None = None
    cancel: bool = False
    recoveries: int = 0
    progress: bytes | None = None
    result: bytes | None = None
    worker: str | None = None
    started: int | None = None
    failed: int | None = None
    finished: int | None = None

    def is_suspect(self) -> bool:
        """Whether it has taken down as many workers as it may."""
        return self.recoveries >= self.new.max_recoveries

    def state(self, now: int) -> State:
        """Answer the state that a reader sees."""
        if self.status == "waiting":
            return "queued" if self.due <= now else "scheduled"
        return self.status

    def enqueued(self, disposition: Literal["accepted", "duplicate", "existing"], now: int) -> Enqueued:
        """Answer one who enqueued it, or something in its place."""
        return Enqueued(
            id=self.new.id,
            disposition=disposition,
            state=self.state(now),
            scheduled_for=moment(self.due),
            progress=self.progress,
        )

    def reserved(self, token: int) -> Reserved:
        """Answer the worker that holds it."""
        new = self.new
        return Reserved(
            id=new.id,
            token=token,
            name=new.name,
            queue=new.queue,
            input=new.input,
            meta=new.meta,
            policy=new.policy,
            progress=self.progress,
            recoveries=self.recoveries,
            suspect=self.is_suspect(),
        )

    def stored(self, now: int) -> StoredRecord:
        """Answer a reader."""
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
            progress=self.progress,
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
        )


@dataclass(slots=True, eq=False)
class Lane:
    """The waiting records of one kind in a queue. `due` holds what was due when `promote` was last called."""

    due: Index = field(default_factory=Index)
    later: Index = field(default_factory=Index)

    def put(self, record: Record, now: int) -> None:
        """Add a record."""
        (self.due if record.due <= now else self.later).put(record.new.id, record.due)

    def discard(self, record_id: str) -> None:
        """Remove a record."""
        (self.due if record_id in self.due else self.later).discard(record_id)

    def promote(self, now: int) -> bool:
        """Move what has become due; answer whether anything has."""
        promoted = False
        while (place := self.later.first()) is not None and place[0] <= now:
            self.later.discard(place[1])
            self.due.put(place[1], place[0])
            promoted = True
        return promoted


@dataclass(slots=True, eq=False)
class Queue:
    """The waiting records of a queue, and how many others it has. Suspects wait apart: most steps pass them by."""

    ordinary: Lane = field(default_factory=Lane)
    suspects: Lane = field(default_factory=Lane)
    others: dict[Status, int] = field(
        default_factory=lambda: {"active": 0, "completed": 0, "failed": 0, "cancelled": 0}
    )

    def lane(self, record: Record) -> Lane:
        """Answer where a record waits."""
        return self.suspects if record.is_suspect() else self.ordinary

    def promote(self, now: int) -> bool:
        """Move what has become due; answer whether anything has."""
        return self.ordinary.promote(now) | self.suspects.promote(now)

    def has_due(self, *, suspects: bool = True) -> bool:
        """Whether something is due."""
        return bool(self.ordinary.due) or (suspects and bool(self.suspects.due))

    def clamp(self, now: int) -> list[str]:
        """Keep due what was due before the clock was set back; answer what has moved for that."""
        moved = [
            (lane.due, one) for lane in (self.ordinary, self.suspects) for time, one in lane.due.places() if time > now
        ]
        for due, record_id in moved:
            due.put(record_id, now)
        return [record_id for _, record_id in moved]

    def next_later(self, *, suspects: bool = True) -> int | None:
        """Answer when the next scheduled record will be due."""
        lanes = (self.ordinary, self.suspects) if suspects else (self.ordinary,)
        return min((place[0] for lane in lanes if (place := lane.later.first()) is not None), default=None)

    def next_due(self, *, suspects: bool) -> tuple[str, Index] | None:
        """Answer the id of the first due record, and the index to take it from."""
        ordinary = self.ordinary.due.first()
        if (
            suspects
            and self.suspects.due
            and (suspect := self.suspects.due.first()) is not None
            and (ordinary is None or suspect < ordinary)
        ):
            return suspect[1], self.suspects.due
        return None if ordinary is None else (ordinary[1], self.ordinary.due)

    def counts(self) -> StateCounts:
        """Count the records in each state, as of the last `promote`."""
        return StateCounts(
            queued=len(self.ordinary.due) + len(self.suspects.due),
            scheduled=len(self.ordinary.later) + len(self.suspects.later),
            active=self.others["active"],
            completed=self.others["completed"],
            failed=self.others["failed"],
            cancelled=self.others["cancelled"],
        )

    def is_empty(self) -> bool:
        """Whether no record is left."""
        lanes = (self.ordinary, self.suspects)
        return not any(self.others.values()) and not any(lane.due or lane.later for lane in lanes)


@dataclass(frozen=True, slots=True)
class LastStep:
    """The last step of a sequence: its answer if it is sent again."""

    sequence: int
    acks: tuple[AckAnswer, ...]
    token: int
    batch: tuple[str, ...]


@dataclass(slots=True, eq=False)
class Worker:
    """The last step of a worker, its last waiting step, and when it was last seen."""

    seen: int
    steps: dict[bool, LastStep] = field(default_factory=dict[bool, LastStep])
