"""The events of a run: they are counted, logged, and passed to observers and hooks. None of that changes an outcome."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import get_args

from flowli_core._jobs.tracer import Tracer
from flowli_core._logger import logger
from flowli_core._running.attempt import Attempt
from flowli_core._running.hooks import EventKind, HookCalls, HookName, JobEvent, Observer
from flowli_core._text import escape_controls
from flowli_core._wire.trace import trace_of
from flowli_core.driver import Cancelled, Completed, Damaged, Expired, Failed, Recovered, Released, Reserved, Retried
from flowli_core.durations import format_duration, format_elapsed
from flowli_core.errors import LeaseLost, StoreDamaged

_LONGEST_MESSAGE = 200
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCounts:
    """The number of attempts by the outcome that the store accepted, of recovered leases, and of expired jobs."""

    completed: int = 0
    failed: int = 0
    retried: int = 0
    released: int = 0
    cancelled: int = 0
    lost: int = 0
    recovered: int = 0
    expired: int = 0

    def __add__(self, other: RunCounts) -> RunCounts:
        """Return the sums of both."""
        return RunCounts(**{name: getattr(self, name) + getattr(other, name) for name in RunCounts.__slots__})


class Events:
    """Reports what happens to the jobs of one worker."""

    def __init__(
        self, calls: HookCalls, *, worker: str, observers: Sequence[Observer], tracer: Tracer | None = None
    ) -> None:
        self._observers = observers
        self._tracer = tracer
        self._worker = worker
        self._calls = calls
        self._counts: dict[EventKind, int] = dict.fromkeys(get_args(EventKind), 0)

    def close(self) -> None:
        """End the threads of plain hooks. No event may follow."""
        self._calls.close()

    def counts(self) -> RunCounts:
        """Return the counts so far."""
        return RunCounts(**{kind: count for kind, count in self._counts.items() if kind != "started"})

    def started(self, attempt: Attempt) -> None:
        """Report that a handler is about to be called."""
        self._publish("started", attempt, "on_job_started")

    def accepted(self, attempt: Attempt) -> None:
        """Report that the store has accepted an outcome."""
        job = (attempt.reserved.id, attempt.reserved.name)
        match attempt.outcome:
            case Completed():
                if logger.isEnabledFor(logging.INFO):
                    took = format_elapsed(_duration(attempt))
                    logger.info("job %s (%s) completed in %s", *job, took, extra=_fields(attempt, "completed"))
                self._publish("completed", attempt, "on_job_completed")
            case Failed():
                logger.error(
                    "job %s (%s) failed for good at attempt %d of %d: %s",
                    *job,
                    *_failure(attempt),
                    exc_info=attempt.error,
                    extra=_fields(attempt, "failed") | _error_fields(attempt),
                )
                self._publish("failed", attempt, "on_job_failed")
            case Retried(delay):
                logger.warning(
                    "job %s (%s) failed at attempt %d of %d: %s; the next is in %s",
                    *job,
                    *_failure(attempt),
                    format_duration(delay),
                    extra=_fields(attempt, "retried") | _error_fields(attempt) | {"retry_in_ms": delay / _MILLISECOND},
                )
                self._publish("retried", attempt, "on_job_retry_scheduled", retry_in=delay)
            case Released():
                why = attempt.end_reason.value if attempt.end_reason else "its task was cancelled"
                logger.info("job %s (%s) was returned to the queue: %s", *job, why, extra=_fields(attempt, "released"))
                self._publish("released", attempt)
            case Cancelled() | None:
                logger.info("job %s (%s) was cancelled", *job, extra=_fields(attempt, "cancelled"))
                self._publish("cancelled", attempt)

    def lost(self, attempt: Attempt) -> None:
        """Report that the lease of an attempt was lost."""
        job = (attempt.reserved.id, attempt.reserved.name)
        logger.warning(
            "job %s (%s) lost its lease: its outcome here is discarded, and another worker may run it again",
            *job,
            extra=_fields(attempt, "lost"),
        )
        self._publish("lost", attempt, "on_lease_lost")

    def recovered(self, recovered: Recovered) -> None:
        """Report that a step of this worker has recovered an expired lease."""
        self._counts["recovered"] += 1
        logger.warning(
            "job %s (%s) was recovered (recovery %d), and is %s: its worker died, hangs or cannot reach the store",
            recovered.id,
            recovered.name,
            recovered.recoveries,
            recovered.state,
        )
        event = JobEvent(
            id=recovered.id,
            name=recovered.name,
            queue=recovered.queue,
            worker=self._worker,
            attempt=0,
            recoveries=recovered.recoveries,
        )
        self._observe("recovered", event)
        self._calls.emit("on_lease_recovered", event)
        error = LeaseLost("worker lost: the lease has expired")
        if recovered.state == "failed":
            error = LeaseLost(f"worker lost: the lease has expired {recovered.recoveries} times")
            self._calls.emit("on_job_failed", replace(event, error=error))
        if self._tracer is not None:
            try:
                self._tracer.recovered(recovered, trace_of(recovered.meta), error)
            except Exception:
                logger.exception("the tracer failed for job %s (%s)", recovered.id, recovered.name)

    def expired(self, expired: Expired) -> None:
        """Report that a step of this worker has cancelled a record that had expired."""
        self._counts["expired"] += 1
        logger.warning("job %s (%s) expired before a worker began it, and is cancelled", expired.id, expired.name)
        event = JobEvent(
            id=expired.id, name=expired.name, queue=expired.queue, worker=self._worker, attempt=0, recoveries=0
        )
        self._observe("expired", event)
        self._calls.emit("on_job_expired", event)

    def damaged(self, damaged: Damaged) -> None:
        """Report that a step of this worker has set aside a record that cannot be read."""
        error = StoreDamaged(f"job {damaged.id} cannot run: {damaged.damage}")
        logger.error(
            "job %s in queue %s is damaged and was set aside as failed: %s", damaged.id, damaged.queue, damaged.damage
        )
        event = JobEvent(
            id=damaged.id, name="", queue=damaged.queue, worker=self._worker, attempt=0, recoveries=0, error=error
        )
        self._calls.emit("on_job_failed", event)

    def released_unknown(self, reserved: Reserved, delay: timedelta, why: str) -> None:
        """Report that a record cannot run here and is returned to the queue."""
        logger.warning(
            "job %s (%s) cannot run here and is returned to the queue for %s: %s; deploy a worker that can run it",
            reserved.id,
            reserved.name,
            format_duration(delay),
            why,
        )

    def abandoned(self, attempt: Attempt) -> None:
        """Report that a handler is still running although the run ends."""
        logger.warning(
            "job %s (%s) is still running as its runner ends: its handler ignores that it should end",
            attempt.reserved.id,
            attempt.reserved.name,
        )

    def _publish(
        self, kind: EventKind, attempt: Attempt, hook: HookName | None = None, *, retry_in: timedelta | None = None
    ) -> None:
        """Count an event, and call the observers and its hook."""
        self._counts[kind] += 1
        if self._observers or hook in self._calls.names:
            event = self._event(attempt, retry_in)
            self._observe(kind, event)
            if hook is not None:
                self._calls.emit(hook, event)

    def _observe(self, kind: EventKind, event: JobEvent) -> None:
        for observer in self._observers:
            try:
                observer.observe(kind, event)
            except Exception:
                logger.exception("an observer failed for job %s (%s)", event.id, event.name)

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
        "job_id": escape_controls(reserved.id),
        "job_name": reserved.name,
        "queue": reserved.queue,
        "attempt": attempt.number,
        "outcome": outcome,
        "duration_ms": _duration(attempt) / _MILLISECOND,
    }


def _failure(attempt: Attempt) -> tuple[int, int, str]:
    """Return the number of an attempt, the limit of attempts, and the error in one short text."""
    error = attempt.described
    if error is None:
        return attempt.number, attempt.policy.max_attempts, ""
    kind, message = error.type.rpartition(".")[2], error.message
    if len(message) > _LONGEST_MESSAGE:
        message = f"{message[:_LONGEST_MESSAGE]}..."
    return attempt.number, attempt.policy.max_attempts, f"{kind}: {message}" if message else kind


def _error_fields(attempt: Attempt) -> dict[str, object]:
    """Return the extra fields of a log line about a failed attempt."""
    error = attempt.described
    fields: dict[str, object] = {"max_attempts": attempt.policy.max_attempts}
    return fields if error is None else fields | {"error_type": error.type, "error_message": error.message}
