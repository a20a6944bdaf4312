"""Reads of stored jobs and schedules: `jobs.inspect`."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import TypeVar

from flowli_core import _checks
from flowli_core._jobs.cursor import decode_cursor, encode_cursor
from flowli_core._jobs.history import History, read_history
from flowli_core._jobs.parked import PARKED_DELAY, ParkedJobs, group_parked
from flowli_core._jobs.records import JobRecord, Page, ScheduleRecord, to_job_record, to_schedule_record
from flowli_core._jobs.runtime import Runtime
from flowli_core._jobs.updates import JobUpdate, to_update
from flowli_core._jobs.workers import WorkerRecord, to_workers
from flowli_core._schedules.spec import DEFAULT_RUNS, next_runs
from flowli_core.durations import Duration
from flowli_core.errors import ValidationError
from flowli_core.limits import MAX_BATCH_BYTES
from flowli_core.stored import (
    STATES,
    Overview,
    Position,
    QueueCounts,
    RecordsInState,
    ScheduleByKey,
    SchedulesAfter,
    State,
    StoredRecord,
    StoredSchedule,
    position,
)

MOST_PER_PAGE = 1_000
DEFAULT_PER_PAGE = 25

_FIRST_CALL, _MOST_PER_CALL, _MOST_WITHOUT_PAYLOADS = 4, 32, MOST_PER_PAGE + 1
_BYTES_PER_CALL = 1024 * 1024
"""A call reads few entries until their size is known, and then about this much: an answer must pass a slow network
within the time limit of a call. The payloads of a record may be three quarters of a mebibyte. Without them, one call
reads a whole page: a driver that has to search many queues then does so once."""

_LAST_ID = "~"
_SPARE = timedelta(seconds=1)

T = TypeVar("T")


class Inspect:
    """Reads jobs and schedules, and changes nothing.

    Every method raises StrategyError if the registry has no driver, DriverError if the store fails, and ValidationError
    for an invalid argument.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def get_job(self, id: str) -> JobRecord | None:
        """Return a record, or None if there is none with this id."""
        stored = await self._runtime.find_record(id)
        return None if stored is None else self._to_job_record(stored)

    async def watch(self, id: str) -> AsyncGenerator[JobUpdate]:
        """Yield the state of a job, and again after each change, until it has finished: see BoundJob.watch.

        Its result is plain JSON with secrets masked. Raises RecordNotFound if there is no such record.
        """
        async with aclosing(self._runtime.follow(_checks.record_id(id))) as records:
            async for stored in records:
                yield to_update(stored, self._runtime.find_definition(stored.name), typed=False)

    async def get_queue_counts(self) -> QueueCounts:
        """Count the records in each state, in total and by queue."""
        return (await self.get_overview()).counts

    async def get_overview(self) -> Overview:
        """Count the records, list the workers that were seen, and find the oldest due job of each queue."""
        return await (await self._runtime.store()).overview()

    async def get_workers(self) -> tuple[WorkerRecord, ...]:
        """Return the workers that were seen within the last minute, except those that have stopped."""
        return to_workers(await self.get_overview())

    async def history(self, last: Duration = "1h", *, job: str | None = None, queue: str | None = None) -> History:
        """Count the jobs that were enqueued, and how they ended, within the `last` minutes or hours, at most "7d".

        The history has a point for each minute, or for each hour if `last` is longer than "3h". Only the numbers of
        this job or this queue are returned, if one is named. All workers count together, in the store.
        """
        if job is not None:
            _checks.name(job, argument="job", error=ValidationError)
        if queue is not None:
            _checks.name(queue, argument="queue", error=ValidationError)
        return await read_history(await self._runtime.store(), last, job=job, queue=queue)

    async def get_parked(self, overview: Overview | None = None) -> tuple[ParkedJobs, ...]:
        """Return the jobs that wait because no worker that met them could run them, by name and reason.

        Give the `overview` if it was just read, to save a call of the store.

        A parked job is due again half a minute after a worker has met it. So it is among the jobs that become due until
        then, or among those that are due now. The last 1,000 of each are read.
        """
        overview = overview or await self.get_overview()
        found: list[JobRecord] = []
        if overview.counts.scheduled:
            soon = encode_cursor((overview.now + PARKED_DELAY + _SPARE).isoformat(), _LAST_ID)
            page = await self.get_jobs_by_state("scheduled", limit=MOST_PER_PAGE, cursor=soon, payloads=False)
            found += page.items
        if overview.counts.queued:
            found += (await self.get_jobs_by_state("queued", limit=MOST_PER_PAGE, payloads=False)).items
        return group_parked(found)

    async def get_jobs_by_state(
        self, state: State, *, limit: int = DEFAULT_PER_PAGE, cursor: str | None = None, payloads: bool = True
    ) -> Page[JobRecord]:
        """Return a page of `limit` (1 to 1,000) records in a state, newest first. `cursor` is that of the page before.

        Finished records are ordered by the time of finishing, waiting ones by due time, and active ones by id. Pages
        are stable: a record that is added or removed between two pages neither repeats nor hides another.

        A page ends early once its payloads exceed 8 MiB. Without `payloads`, the input, meta and result of each record
        are None, and are not read.
        """
        _checks.one_of(state, STATES, argument="state", error=ValidationError)
        _check_limit(limit)
        after = None if cursor is None else decode_cursor(cursor, _read_position)
        driver = await self._runtime.store()

        async def read(count: int, last: StoredRecord | None) -> list[StoredRecord]:
            behind = after if last is None else position(last)
            query = RecordsInState(state=state, limit=count, after=behind, payloads=payloads)
            return (await driver.records(query)).records

        first, most = (_FIRST_CALL, _MOST_PER_CALL) if payloads else (_MOST_WITHOUT_PAYLOADS, _MOST_WITHOUT_PAYLOADS)
        found, has_more = await _read_page(read, limit, size=_size, first=first, most=most)
        last = position(found[-1]) if has_more else None
        items = tuple(map(self._to_job_record, found))
        return Page(items, None if last is None else encode_cursor(last.at.isoformat(), last.id))

    async def get_schedule(self, key: str) -> ScheduleRecord | None:
        """Return a schedule, or None if there is none with this key."""
        _checks.key(key)
        _, found = await (await self._runtime.store()).schedules(ScheduleByKey(key))
        return to_schedule_record(found[0], self._runtime.jobs) if found else None

    async def get_schedules(self, *, limit: int = DEFAULT_PER_PAGE, cursor: str | None = None) -> Page[ScheduleRecord]:
        """Return a page of `limit` schedules, in the order of their keys. `cursor` is that of the page before.

        A page ends early once its inputs exceed 8 MiB.
        """
        _check_limit(limit)
        after = None if cursor is None else decode_cursor(cursor, _checks.key)
        driver = await self._runtime.store()

        async def read(count: int, last: StoredSchedule | None) -> list[StoredSchedule]:
            query = SchedulesAfter(limit=count, after=after if last is None else last.key)
            return (await driver.schedules(query))[1]

        found, has_more = await _read_page(read, limit, size=lambda schedule: len(schedule.spec))
        items = tuple(to_schedule_record(schedule, self._runtime.jobs) for schedule in found)
        return Page(items, encode_cursor(found[-1].key) if has_more else None)

    async def next_runs(self, key: str, n: int = DEFAULT_RUNS) -> tuple[datetime, ...]:
        """Return the next `n` (1 to 1,000) ticks of a schedule, in UTC.

        There are none if the schedule is paused, has ended or does not exist.
        """
        _checks.key(key)
        _check_limit(n, argument="n")
        _, found = await (await self._runtime.store()).schedules(ScheduleByKey(key))
        return next_runs(found[0], n) if found else ()

    def _to_job_record(self, stored: StoredRecord) -> JobRecord:
        return to_job_record(stored, self._runtime.jobs.get(stored.name))


async def _read_page(
    read: Callable[[int, T | None], Awaitable[list[T]]],
    limit: int,
    *,
    size: Callable[[T], int],
    first: int = _FIRST_CALL,
    most: int = _MOST_PER_CALL,
) -> tuple[list[T], bool]:
    """Read a page in parts, so that no call holds up the store. Return it, and True if there is more behind it.

    `read` returns up to so many entries behind the given one. The first call reads `first` of them, and each later one
    as many as fit by their `size`, but not more than `most`.
    """
    found: list[T] = []
    total = 0
    while True:
        fitting = _BYTES_PER_CALL * len(found) // max(total, 1) if found else first
        count = min(limit + 1 - len(found), max(fitting, 1), most)
        part = await read(count, found[-1] if found else None)
        found += part
        total += sum(map(size, part))
        if len(found) > limit:
            return found[:limit], True
        if len(part) < count:
            return found, False
        if total > MAX_BATCH_BYTES:
            return found, True


def _size(record: StoredRecord) -> int:
    return len(record.input) + len(record.meta or b"") + len(record.result or b"")


def _read_position(at: str, id: str) -> Position:
    return Position(_checks.aware(datetime.fromisoformat(at), argument="cursor"), _checks.record_id(id))


def _check_limit(limit: object, *, argument: str = "limit") -> None:
    _checks.whole_number(limit, argument=argument, low=1, high=MOST_PER_PAGE, error=ValidationError)
