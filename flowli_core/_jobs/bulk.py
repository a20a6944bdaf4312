"""Changing many stored jobs: the same change to all that some filters find."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from flowli_core._jobs.finding import Filters, find_all
from flowli_core._wire.attempts import renew_attempts
from flowli_core.driver import Driver
from flowli_core.durations import ZERO
from flowli_core.errors import StoreUnavailable
from flowli_core.stored import FinishedState, StoredRecord
from flowli_core.targets import MOST_TARGETS, Target

OnProgress = Callable[[int, int], object]
"""Called after each round trip, with the number of jobs that were looked at, and of those that were changed."""

Change = Callable[[Driver, Sequence[StoredRecord]], Awaitable[int]]
"""Changes records, and returns the number of those that it has changed."""

_PURGED_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkResult:
    """The number of jobs that a call has changed, and of those that it found, but could not change."""

    changed: int = 0
    skipped: int = 0


async def change_all(driver: Driver, filters: Filters, change: Change, on_progress: OnProgress | None) -> BulkResult:
    """Change all records that the filters find, newest first, except those that came into the state since the start.

    Raises StoreUnavailable with the number of those that were changed before.
    """
    report, started = on_progress or _ignore, (await driver.overview()).now
    looked_at = changed = skipped = 0
    try:
        async for found in find_all(driver, filters, per_call=MOST_TARGETS):
            # A job that fails again after it was requeued must not be requeued for ever.
            wanted = [record for record in found.records if record.updated_at <= started]
            done = await change(driver, wanted) if wanted else 0
            looked_at, changed, skipped = looked_at + found.looked_at, changed + done, skipped + len(wanted) - done
            report(looked_at, changed)
    except StoreUnavailable as error:
        raise _interrupted(error, changed) from error
    return BulkResult(changed=changed, skipped=skipped)


async def cancel_records(driver: Driver, records: Sequence[StoredRecord]) -> int:
    """Cancel records that are still in the same state. Return how many were cancelled, or are to be."""
    answers = await driver.cancel([Target(id=record.id, state=record.state) for record in records])
    return answers.count("cancelled") + answers.count("requested")


async def requeue_records(driver: Driver, records: Sequence[StoredRecord]) -> int:
    """Requeue records that are still in the same state. Return how many were requeued."""
    targets = [
        Target(id=record.id, state=record.state, attempts=renew_attempts(record.attempts, record.recoveries))
        for record in records
    ]
    return (await driver.requeue(targets)).count("requeued")


async def purge_all(
    driver: Driver, state: FinishedState, filters: Filters, on_progress: OnProgress | None
) -> BulkResult:
    """Remove all records that the filters find, except those that finished since the start."""
    age = filters.older_than or ZERO
    if (filters.name, filters.queue, filters.error) == (None, None, None):
        return await _purge_by_age(driver, state, age, on_progress)

    async def purge(driver: Driver, records: Sequence[StoredRecord]) -> int:
        ids = [record.id for record in records]
        return await driver.purge(state, older_than=age, limit=len(ids), ids=ids)

    return await change_all(driver, filters, purge, on_progress)


async def _purge_by_age(
    driver: Driver, state: FinishedState, age: timedelta, on_progress: OnProgress | None
) -> BulkResult:
    """Remove all records that finished so long before the start, without reading them."""
    report, removed, started = on_progress or _ignore, 0, time.monotonic()
    try:
        # Leave out the jobs that finish meanwhile, or this might never end.
        while found := await driver.purge(
            state, older_than=age + timedelta(seconds=time.monotonic() - started), limit=_PURGED_AT_ONCE
        ):
            removed += found
            report(removed, removed)
    except StoreUnavailable as error:
        raise _interrupted(error, removed) from error
    return BulkResult(changed=removed)


def _interrupted(error: StoreUnavailable, changed: int) -> StoreUnavailable:
    done = f"{changed:,} job{'' if changed == 1 else 's'} had been changed; call again to go on with the rest"
    return StoreUnavailable(f"{error}; {done}", ids=error.ids)


def _ignore(looked_at: int, changed: int) -> None:
    pass
