"""Reads of stored jobs and schedules: `jobs.inspect`."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime, timedelta

from flowli_core import _checks
from flowli_core._jobs.cursor import decode_cursor, encode_cursor
from flowli_core._jobs.finding import check_filters, count_records, find_page
from flowli_core._jobs.history import History, read_history
from flowli_core._jobs.pages import read_page
from flowli_core._jobs.parked import PARKED_DELAY, ParkedJobs, group_parked
from flowli_core._jobs.records import JobRecord, Page, ScheduleRecord, to_job_record, to_schedule_record
from flowli_core._jobs.runtime import Runtime
from flowli_core._jobs.updates import JobUpdate, to_update
from flowli_core._jobs.workers import WorkerRecord, to_workers
from flowli_core._schedules.spec import DEFAULT_RUNS, next_runs
from flowli_core.durations import Duration
from flowli_core.errors import ValidationError
from flowli_core.lanes import StoredLane
from flowli_core.outbox import Backlog
from flowli_core.stored import (
    Overview,
    Position,
    QueueCounts,
    ScheduleByKey,
    SchedulesAfter,
    State,
    StoredRecord,
    StoredSchedule,
)

MOST_PER_PAGE = 1_000
DEFAULT_PER_PAGE = 25

_FIRST_CALL, _MOST_PER_CALL = 4, 32
"""The number of schedules that a call reads. The first reads few, until their size is known."""

_LAST_ID = "~"
_SPARE = timedelta(seconds=1)


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
        """Count the records, find the oldest due job of each queue, and list workers, paused queues and lanes."""
        return await (await self._runtime.current_store()).overview()

    async def get_workers(self) -> tuple[WorkerRecord, ...]:
        """Return the workers that were seen within the last minute, except those that have stopped."""
        return to_workers(await self.get_overview())

    async def get_lanes(self) -> tuple[StoredLane, ...]:
        """Return the lanes with the most waiting jobs, at most 20. `get_overview` counts all, as `lane_count`."""
        return (await self.get_overview()).lanes

    async def history(self, last: Duration = "1h", *, job: str | None = None, queue: str | None = None) -> History:
        """Count the jobs that were enqueued, and how they ended, within the `last` minutes or hours, at most "7d".

        The history has a point for each minute, or for each hour if `last` is longer than "3h". Only the numbers of
        this job or this queue are returned, if one is named. All workers count together, in the store.
        """
        if job is not None:
            _checks.name(job, argument="job", error=ValidationError)
        if queue is not None:
            _checks.name(queue, argument="queue", error=ValidationError)
        return await read_history(await self._runtime.current_store(), last, job=job, queue=queue)

    async def get_outbox(self) -> Backlog | None:
        """Count the jobs of committed transactions that wait in the outbox. Return None if the registry has no outbox.

        Raises OutboxUnavailable if its database fails.
        """
        outbox = self._runtime.outbox
        return None if outbox is None else await outbox.backlog()

    async def get_parked(self, overview: Overview | None = None) -> tuple[ParkedJobs, ...]:
        """Return the jobs that wait because no worker that met them could run them, by name and reason.

        Jobs in paused queues are left out, because those wait for the queue.

        Give the `overview` if it was just read, to save a call of the store.

        A parked job is due again half a minute after a worker has met it. So it is among the jobs that become due until
        then, or among those that are due now. The last 1,000 of each are read.
        """
        overview = overview or await self.get_overview()
        found: list[JobRecord] = []
        if overview.counts.scheduled:
            soon = encode_cursor((overview.now + PARKED_DELAY + _SPARE).isoformat(), _LAST_ID)
            page = await self.find("scheduled", limit=MOST_PER_PAGE, cursor=soon, payloads=False)
            found += page.items
        if overview.counts.queued:
            found += (await self.find("queued", limit=MOST_PER_PAGE, payloads=False)).items
        return group_parked([record for record in found if record.queue not in overview.paused])

    async def find(
        self,
        state: State = "failed",
        *,
        name: str | None = None,
        queue: str | None = None,
        error: str | None = None,
        older_than: Duration | None = None,
        limit: int = DEFAULT_PER_PAGE,
        cursor: str | None = None,
        payloads: bool = True,
    ) -> Page[JobRecord]:
        """Return a page of `limit` (1 to 1,000) records in a state, newest first. `cursor` is that of the page before.

        The filters leave out other records. `error` is the class of the last error, with or without its module:
        "ConnectionError" or "app.mail.MailboxError". `older_than` compares the time by which the records are ordered:
        when a finished one finished, or when a waiting one is due; and for an active one, when it was started.

        Active records are ordered by id. Pages are stable: a record that is added or removed between two pages neither
        repeats nor hides another.

        A page ends early once its payloads exceed 8 MiB; with filters, also after about a second. It may then have few
        records or none: go on as long as there is a `cursor`. Without `payloads`, the input, meta and result of each
        record are None, and are not read.
        """
        filters = check_filters(state, name=name, queue=queue, error=error, older_than=older_than)
        _check_limit(limit)
        after = None if cursor is None else decode_cursor(cursor, _read_position)
        driver = await self._runtime.current_store()
        found, rest = await find_page(driver, filters, limit=limit, after=after, payloads=payloads)
        items = tuple(map(self._to_job_record, found))
        return Page(items, None if rest is None else encode_cursor(rest.at.isoformat(), rest.id))

    async def count(
        self,
        state: State = "failed",
        *,
        name: str | None = None,
        queue: str | None = None,
        error: str | None = None,
        older_than: Duration | None = None,
    ) -> int:
        """Count the records in a state; with the filters of `find`, those that it finds.

        With a `name`, an `error` or `older_than`, all records of the state are read for it, in many short calls.
        """
        filters = check_filters(state, name=name, queue=queue, error=error, older_than=older_than)
        return await count_records(await self._runtime.current_store(), filters)

    async def get_schedule(self, key: str) -> ScheduleRecord | None:
        """Return a schedule, or None if there is none with this key."""
        _checks.key(key)
        _, found = await (await self._runtime.current_store()).schedules(ScheduleByKey(key))
        return to_schedule_record(found[0], self._runtime.jobs) if found else None

    async def get_schedules(self, *, limit: int = DEFAULT_PER_PAGE, cursor: str | None = None) -> Page[ScheduleRecord]:
        """Return a page of `limit` schedules, in the order of their keys. `cursor` is that of the page before.

        A page ends early once its inputs exceed 8 MiB.
        """
        _check_limit(limit)
        after = None if cursor is None else decode_cursor(cursor, _checks.key)
        driver = await self._runtime.current_store()

        async def read(count: int, position: str | None) -> tuple[list[StoredSchedule], str | None]:
            found = (await driver.schedules(SchedulesAfter(limit=count + 1, after=position)))[1]
            return found[:count], found[count - 1].key if len(found) > count else None

        found, rest = await read_page(
            read, limit, after=after, size=lambda schedule: len(schedule.spec), first=_FIRST_CALL, most=_MOST_PER_CALL
        )
        items = tuple(to_schedule_record(schedule, self._runtime.jobs) for schedule in found)
        return Page(items, None if rest is None else encode_cursor(rest))

    async def next_runs(self, key: str, n: int = DEFAULT_RUNS) -> tuple[datetime, ...]:
        """Return the next `n` (1 to 1,000) ticks of a schedule, in UTC.

        There are none if the schedule is paused, has ended or does not exist.
        """
        _checks.key(key)
        _check_limit(n, argument="n")
        _, found = await (await self._runtime.current_store()).schedules(ScheduleByKey(key))
        return next_runs(found[0], n) if found else ()

    def _to_job_record(self, stored: StoredRecord) -> JobRecord:
        return to_job_record(stored, self._runtime.jobs.get(stored.name))


def _read_position(at: str, id: str) -> Position:
    return Position(_checks.aware(datetime.fromisoformat(at), argument="cursor"), _checks.record_id(id))


def _check_limit(limit: object, *, argument: str = "limit") -> None:
    _checks.whole_number(limit, argument=argument, low=1, high=MOST_PER_PAGE, error=ValidationError)
