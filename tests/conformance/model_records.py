"""A record of the model, and everything that has happened to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flowli_core.lanes import Lane
from flowli_core.limits import MOST_LOG_LINES
from flowli_core.new_records import Enqueued, NewRecord

if TYPE_CHECKING:
    from datetime import datetime

    from flowli_core.driver import AckAnswer
    from flowli_core.new_records import Disposition
    from flowli_core.reports import Report
    from flowli_core.stored import State, StoredRecord


@dataclass(slots=True)
class LastStep:
    """The last step of a sequence, and its answer."""

    sequence: int
    acks: tuple[AckAnswer, ...]
    batch: list[tuple[str, int]]


@dataclass(slots=True)
class Worker:
    """A worker: when it was last seen, its last step, and its last waiting step."""

    seen: datetime
    steps: dict[bool, LastStep] = field(default_factory=dict[bool, LastStep])


@dataclass(slots=True)
class Call:
    """A record and everything that has happened to it."""

    new: NewRecord
    created_at: datetime
    due: datetime
    state: State
    attempts: bytes | None = None
    progress: bytes | None = None
    log: list[bytes] = field(default_factory=list[bytes])
    lines: dict[int, int] = field(default_factory=dict[int, int])
    """The number of the next line under each token."""
    result: bytes | None = None
    recoveries: int = 0
    recovered_token: int | None = None
    taken_back: int = 0
    cancel: bool = False
    expires: datetime | None = None
    """When it expires, or has expired. None once it cannot."""
    token: int | None = None
    settled: int | None = None
    worker: str | None = None
    ends: datetime | None = None
    failed_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    behind: str | None = None
    """The record that must finish before this one is due."""

    def is_suspect(self) -> bool:
        """Return True if it was recovered as often as it may be."""
        return self.recoveries >= self.new.max_recoveries

    def end(self) -> datetime:
        """Return when the record finished."""
        assert self.finished_at is not None
        return self.finished_at

    def is_waiting(self) -> bool:
        """Return True if it waits in its queue or its lane."""
        return self.state in {"queued", "scheduled"} and self.behind is None

    def report(self, report: Report) -> None:
        """Store a report. Lines that came before under its token are left out."""
        self.progress = report.progress or self.progress
        for number, line in enumerate(report.log, report.first_line):
            if number >= self.lines.get(report.token, 0):
                self.log = [*self.log, line][-MOST_LOG_LINES:]
                self.lines[report.token] = number + 1

    def enqueued(self, disposition: Disposition) -> Enqueued:
        """Return the answer to an enqueue."""
        return Enqueued(
            id=self.new.id,
            disposition=disposition,
            state=self.state,
            scheduled_for=self.due,
            attempts=self.attempts,
        )

    def differences(self, found: StoredRecord) -> dict[str, tuple[object, object]]:
        """Compare it with a record of a driver: return (expected, found) for each field that differs."""
        new = self.new
        expected: dict[str, object] = {
            "name": new.name,
            "queue": new.queue,
            "input": new.input,
            "meta": new.meta,
            "key": new.key,
            "lane": new.lane and Lane(new.lane.limit, new.lane.value),
            "policy": new.policy,
            "max_recoveries": new.max_recoveries,
            "state": self.state,
            "attempts": self.attempts,
            "progress": self.progress,
            "result": self.result,
            "recoveries": self.recoveries,
            "created_at": self.created_at,
            "scheduled_for": self.due,
            "failed_at": self.failed_at,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "lease_until": self.ends,
            "cancel_requested": self.cancel and self.state == "active",
            "expires_at": self.expires,
            "expired": self.state == "cancelled" and self.expires is not None,
        }
        if self.state in {"active", "completed"}:
            expected["worker"] = self.worker
        return {
            name: (value, getattr(found, name)) for name, value in expected.items() if getattr(found, name) != value
        }
