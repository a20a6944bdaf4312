"""Parked jobs: those that a worker could not run, and returned to the queue for a worker of another release."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter

from flowli_core._jobs.records import JobRecord
from flowli_core._wire.attempts import PARKED

PARKED_DELAY = timedelta(seconds=30)
"""The time until a parked job is offered to workers again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedJobs:
    """The parked jobs with the same name and reason: how many were found, and when the oldest was enqueued."""

    name: str
    reason: str
    count: int
    oldest: datetime


def group_parked(records: Iterable[JobRecord]) -> tuple[ParkedJobs, ...]:
    """Group those of the records that are parked. The most frequent come first."""
    found: dict[tuple[str, str], ParkedJobs] = {}
    for record in records:
        error = record.last_error
        if error is not None and error.type in PARKED:
            known = found.get((record.name, error.message))
            found[record.name, error.message] = ParkedJobs(
                name=record.name,
                reason=error.message,
                count=1 if known is None else known.count + 1,
                oldest=record.created_at if known is None else min(known.oldest, record.created_at),
            )
    return tuple(sorted(found.values(), key=attrgetter("count"), reverse=True))
