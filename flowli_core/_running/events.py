"""The events of a run: they are counted, logged, and passed to observers and hooks. None of that changes an outcome."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from flowli_core._running.attempt import Attempt
from flowli_core._running.hooks import EventKind, HookCalls, HookName, Hooks, JobEvent, Observer
from flowli_core.driver import Cancelled, Completed, Failed, Recovered, Released, Reserved, Retried
from flowli_core.durations import format_duration
from flowli_core.errors import LeaseLost

logger = logging.getLogger("flowli")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCounts:
    """The number of attempts by the outcome that the store accepted, and the number of recovered leases."""

    completed: int = 0
    failed: int = 0
    retried: int = 0
    released: int = 0
    cancelled: int = 0
    lost: int = 0
    recovered: int = 0

    def __add__(self, other: RunCounts) -> RunCounts:
        """Return the sums of both."""
        return RunCounts(**{name: getattr(self, name) + getattr(other, name) for name in RunCounts.__slots__})


class Events:
    """Reports what happens to the jobs of one worker. Hooks run in tasks of the group `tasks`."""

    def __init__(
        self, hooks: Hooks, *, worker: str, tasks: asyncio.TaskGroup, observers: Sequence[Observer] = ()
    ) -> None:
        self._hooks = hooks
        self._observers = observers
        self._worker = worker
        self._calls = HookCalls(hooks, tasks)
        self._counts: Counter[str] = Counter()

    def close(self) -> None:
        """End the threads of plain hooks. No event may follow."""
        self._calls.close()

    def counts(self) -> RunCounts:
        """Return the counts so far."""
        return RunCounts(**self._counts)

    def started(self, attempt: Attempt) -> None:
        """Report that a handler is about to be called."""
        if self._observers:
            self._observe("started", attempt)
        self._emit("on_job_started", attempt)

    def accepted(self, attempt: Attempt) -> None:
        """Report that the store has accepted an outcome."""
        job = (attempt.reserved.id, attempt.reserved.name)
        match attempt.outcome:
            case Completed():
                self._counts["completed"] += 1
                if logger.isEnabledFor(logging.INFO):
                    took = format_duration(_duration(attempt))
                    logger.info("job %s (%s) completed in %s", *job, took, extra=_fields(attempt, "completed"))
                if self._observers:
                    self._observe("completed", attempt)
                self._emit("on_job_completed", attempt)
            case Failed():
                self._counts["failed"] += 1
                fields = _fields(attempt, "failed")
                logger.error("job %s (%s) failed for good", *job, exc_info=attempt.error, extra=fields)
                self._observe("failed", attempt)
                self._emit("on_job_failed", attempt)
            case Retried(delay):
                self._counts["retried"] += 1
                failure = (*job, type(attempt.error).__name__, format_duration(delay))
                fields = _fields(attempt, "retried")
                logger.warning("job %s (%s) failed with %s; the next attempt is in %s", *failure, extra=fields)
                self._observe("retried", attempt, retry_in=delay)
                self._emit("on_job_retry_scheduled", attempt, retry_in=delay)
            case Released():
                self._counts["released"] += 1
                logger.info("job %s (%s) was returned to the queue", *job, extra=_fields(attempt, "released"))
                self._observe("released", attempt)
            case Cancelled() | None:
                self._counts["cancelled"] += 1
                logger.info("job %s (%s) was cancelled", *job, extra=_fields(attempt, "cancelled"))
                self._observe("cancelled", attempt)

    def lost(self, attempt: Attempt) -> None:
        """Report that the lease of an attempt was lost."""
        self._counts["lost"] += 1
        job = (attempt.reserved.id, attempt.reserved.name)
        logger.warning("job %s (%s) lost its lease; its outcome is discarded", *job, extra=_fields(attempt, "lost"))
        self._observe("lost", attempt)
        self._emit("on_lease_lost", attempt)

    def recovered(self, recovered: Recovered) -> None:
        """Report that a step of this worker has recovered an expired lease."""
        self._counts["recovered"] += 1
        logger.warning(
            "the worker of job %s (%s) died; the job is %s now", recovered.id, recovered.name, recovered.state
        )
        event = JobEvent(
            id=recovered.id,
            name=recovered.name,
            queue=recovered.queue,
            worker=self._worker,
            attempt=0,
            recoveries=recovered.recoveries,
        )
        self._call_observers("recovered", event)
        self._calls.emit("on_lease_recovered", event)
        if recovered.state == "failed":
            error = LeaseLost(f"worker lost: the lease has expired {recovered.recoveries} times")
            self._calls.emit("on_job_failed", replace(event, error=error))

    def released_unknown(self, reserved: Reserved, delay: timedelta, why: str) -> None:
        """Report that a record cannot run here and is returned to the queue."""
        logger.warning("job %s is returned to the queue for %s: %s", reserved.id, format_duration(delay), why)

    def abandoned(self, attempt: Attempt) -> None:
        """Report that a handler is still running although the run ends."""
        logger.warning("job %s (%s) is still running as its runner ends", attempt.reserved.id, attempt.reserved.name)

    def _observe(self, kind: EventKind, attempt: Attempt, *, retry_in: timedelta | None = None) -> None:
        if self._observers:
            self._call_observers(kind, self._event(attempt, retry_in))

    def _call_observers(self, kind: EventKind, event: JobEvent) -> None:
        for observer in self._observers:
            try:
                observer.observe(kind, event)
            except Exception:
                logger.exception("an observer failed for job %s (%s)", event.id, event.name)

    def _emit(self, name: HookName, attempt: Attempt, *, retry_in: timedelta | None = None) -> None:
        if getattr(self._hooks, name) is not None:
            self._calls.emit(name, self._event(attempt, retry_in))

    def _event(self, attempt: Attempt, retry_in: timedelta | None) -> JobEvent:
        reserved = attempt.reserved
        return JobEvent(
            id=reserved.id,
            name=reserved.name,
            queue=reserved.queue,
            worker=self._worker,
            attempt=attempt.number,
            recoveries=reserved.recoveries,
            error=attempt.error,
            retry_in=retry_in,
            duration=None if attempt.outcome is None else _duration(attempt),
        )


def _duration(attempt: Attempt) -> timedelta:
    return timedelta(milliseconds=round((attempt.ended - attempt.started) * 1000, 1))


def _fields(attempt: Attempt, outcome: str) -> dict[str, object]:
    """Return the extra fields of a log line about the end of an attempt: see `flowli_core.logs`."""
    reserved = attempt.reserved
    return {
        "job_id": reserved.id,
        "job_name": reserved.name,
        "queue": reserved.queue,
        "attempt": attempt.number,
        "outcome": outcome,
        "duration_ms": _duration(attempt) / timedelta(milliseconds=1),
    }
