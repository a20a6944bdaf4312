"""The last attempts and the last error of a record, as callers get them."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from flowli_core._wire.attempts import NEWER_RECORD, WORKER_LOST, Attempts, check_attempts_version
from flowli_core._wire.versioned import NewerVersionError
from flowli_core.errors import LastError
from flowli_core.stored import StoredRecord

_DAMAGED = "StoreDamaged"

DERIVED_ERRORS = frozenset({_DAMAGED, WORKER_LOST, NEWER_RECORD})
"""The types of the errors that no handler raised. They are derived from other data of a record, and are not stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastAttempt:
    """An attempt that failed or lost its worker. `started_at` is the store's time, in UTC.

    One that lost its worker has the error "WorkerLost". It does not count, so the next attempt has the same number. Its
    duration is unknown, and so are its start and its worker, unless the record has failed with it: they are None then.

    `error` is shortened, unless it is the last error of the record.
    """

    number: int
    started_at: datetime | None
    duration: timedelta | None
    worker: str | None
    error: LastError


def is_lost(stored: StoredRecord) -> bool:
    """Return True if a record has failed because it lost its worker too often."""
    return stored.state == "failed" and stored.recoveries > stored.max_recoveries


def find_last_error(stored: StoredRecord, attempts: Attempts) -> LastError | None:
    """Return the last error of a record with these attempts: that of the last one, or a derived one, or None."""
    if stored.damage is not None:
        return LastError(_DAMAGED, f"this job cannot run, because {stored.damage}")
    if is_lost(stored):
        message = f"worker lost: its lease expired {stored.recoveries} times, so this job may be crashing its workers"
        return LastError(WORKER_LOST, message)
    try:
        check_attempts_version(stored.attempts)
    except NewerVersionError as newer:
        return LastError(NEWER_RECORD, str(newer))
    return attempts.last_error


def to_past_attempts(stored: StoredRecord, attempts: Attempts) -> tuple[PastAttempt, ...]:
    """Return the last attempts of a record, newest last."""
    found = [
        PastAttempt(
            number=kept.number,
            started_at=kept.started_at,
            duration=kept.duration,
            worker=kept.worker,
            error=kept.error or attempts.last_error or LastError("", ""),
        )
        for kept in attempts.with_lost(stored.recoveries).kept
    ]
    if is_lost(stored) and found:
        found[-1] = replace(found[-1], started_at=stored.started_at, worker=stored.worker)
    return tuple(found)
