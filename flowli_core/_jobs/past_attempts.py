"""The last attempts of a record, as callers get them."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from flowli_core._wire.attempts import Attempts
from flowli_core.errors import LastError
from flowli_core.stored import StoredRecord


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


def to_past_attempts(stored: StoredRecord, attempts: Attempts, *, lost: bool) -> tuple[PastAttempt, ...]:
    """Return the last attempts of a record, newest last. `lost` is True if it failed because it lost its worker."""
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
    if lost and found:
        found[-1] = replace(found[-1], started_at=stored.started_at, worker=stored.worker)
    return tuple(found)
