"""What a runner makes known: counts, log lines and hooks. None of it can change an outcome."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from flowli_core._running.attempt import Attempt
from flowli_core._running.hooks import Happening, HookCalls, HookName, Hooks, JobEvent, Observer
from flowli_core.driver import Cancelled, Completed, Failed, Recovered, Released, Reserved, Retried
from flowli_core.durations import format_duration
from flowli_core.errors import LeaseLost

if TYPE_CHECKING:
    import asyncio

logger = logging.getLogger("flowli")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCounts:
    """How many attempts ended in which way, as the store accepted it, and how many leases were recovered."""

    completed: int = 0
    failed: int = 0
    retried: int = 0
    released: int = 0
    cancelled: int = 0
    lost: int = 0
    recovered: int = 0

    def __add__(self, other: RunCounts) -> RunCounts:
        """Both together."""
        return RunCounts(**{name: getattr(self, name) + getattr(other, name) for name in RunCounts.__slots__})


class Report:
    """Tells of one worker's jobs. `tasks` is where its hooks run."""

    def __init__(
        self, hooks: Hooks, *, worker: str, tasks: asyncio.TaskGroup, observers: Sequence[Observer] = ()
    ) -> None:
        self._hooks = hooks
        self._observers = observers
        self._worker = worker
        self._calls = HookCalls(hooks, tasks)
        self._counts: Counter[str] = Counter()

    def close(self) -> None:
        """Nothing more will be told."""
        self._calls.close()

    def counts(self) -> RunCounts:
        """What has happened so far."""
        return RunCounts(**self._counts)

    def started(self, attempt: Attempt) -> None:
        """Its handler is about to be called."""
        if self._observers:
            self._observe("started", attempt)
        self._emit("on_job_started", attempt)

    def accepted(self, attempt: Attempt) -> None:
        """The store has accepted its outcome."""
        what = (attempt.reserved.id, attempt.reserved.name)
        match attempt.outcome:
            case Completed():
                self._counts["completed"] += 1
                if logger.isEnabledFor(logging.INFO):
                    took = format_duration(_duration(attempt))
                    logger.info("job %s (%s) completed in %s", *what, took, extra=_facts(attempt, "completed"))
                if self._observers:
                    self._observe("completed", attempt)
                self._emit("on_job_completed", attempt)
            case Failed():
                self._counts["failed"] += 1
                facts = _facts(attempt, "failed")
                logger.error("job %s (%s) failed for good", *what, exc_info=attempt.error, extra=facts)
                self._observe("failed", attempt)
                self._emit("on_job_failed", attempt)
            case Retried(delay):
                self._counts["retried"] += 1
                told = (*what, type(attempt.error).__name__, format_duration(delay))
                facts = _facts(attempt, "retried")
                logger.warning("job %s (%s) failed with %s; the next attempt is in %s", *told, extra=facts)
                self._observe("retried", attempt, retry_in=delay)
                self._emit("on_job_retry_scheduled", attempt, retry_in=delay)
            case Released():
                self._counts["released"] += 1
                logger.info("job %s (%s) is given back", *what, extra=_facts(attempt, "released"))
                self._observe("released", attempt)
            case Cancelled() | None:
                self._counts["cancelled"] += 1
                logger.info("job %s (%s) was cancelled", *what, extra=_facts(attempt, "cancelled"))
                self._observe("cancelled", attempt)

    def lost(self, attempt: Attempt) -> None:
        """Its lease is somebody else's."""
        self._counts["lost"] += 1
        what = (attempt.reserved.id, attempt.reserved.name)
        logger.warning("job %s (%s) lost its lease; its outcome is discarded", *what, extra=_facts(attempt, "lost"))
        self._observe("lost", attempt)
        self._emit("on_lease_lost", attempt)

    def recovered(self, recovered: Recovered) -> None:
        """This worker recovered a lease that had run out."""
        self._counts["recovered"] += 1
        logger.warning("job %s (%s) had lost its worker and is %s", recovered.id, recovered.name, recovered.state)
        event = JobEvent(
            id=recovered.id,
            name=recovered.name,
            queue=recovered.queue,
            worker=self._worker,
            attempt=0,
            recoveries=recovered.recoveries,
        )
        self._tell("recovered", event)
        self._calls.emit("on_lease_recovered", event)
        if recovered.state == "failed":
            lost = LeaseLost(f"worker lost: the lease ended unrenewed {recovered.recoveries} times")
            self._calls.emit("on_job_failed", replace(event, error=lost))

    def parked(self, reserved: Reserved, delay: timedelta, why: str) -> None:
        """It cannot be run here (yet), and is given back."""
        logger.warning("job %s is given back for %s: %s", reserved.id, format_duration(delay), why)

    def left_behind(self, attempt: Attempt) -> None:
        """Its handler goes on although it was told to end, and the runner ends now."""
        logger.warning("job %s (%s) still runs as its runner ends", attempt.reserved.id, attempt.reserved.name)

    def _observe(self, what: Happening, attempt: Attempt, *, retry_in: timedelta | None = None) -> None:
        if self._observers:
            self._tell(what, self._event(attempt, retry_in))

    def _tell(self, what: Happening, event: JobEvent) -> None:
        for observer in self._observers:
            try:
                observer.observe(what, event)
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


def _facts(attempt: Attempt, outcome: str) -> dict[str, object]:
    """What a log line about an attempt's end carries beside its text: see `flowli_core.logs`."""
    reserved = attempt.reserved
    return {
        "job_id": reserved.id,
        "job_name": reserved.name,
        "queue": reserved.queue,
        "attempt": attempt.number,
        "outcome": outcome,
        "duration_ms": _duration(attempt) / timedelta(milliseconds=1),
    }
