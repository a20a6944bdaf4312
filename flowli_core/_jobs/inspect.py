"""Reads of stored jobs and schedules: `jobs.inspect`."""

from datetime import datetime

from flowli_core import _checks
from flowli_core._jobs.cursor import decode_cursor, encode_cursor
from flowli_core._jobs.records import JobRecord, Page, ScheduleRecord, to_job_record, to_schedule_record
from flowli_core._jobs.runtime import Runtime
from flowli_core._schedules.spec import DEFAULT_RUNS, next_runs
from flowli_core.errors import ValidationError
from flowli_core.stored import (
    STATES,
    Overview,
    Position,
    QueueCounts,
    RecordsInState,
    ScheduleByKey,
    SchedulesAfter,
    State,
    position,
)

MOST_PER_PAGE = 1_000
DEFAULT_PER_PAGE = 25


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
        return None if stored is None else to_job_record(stored)

    async def get_queue_counts(self) -> QueueCounts:
        """Count the records in each state, in total and by queue."""
        return (await self.get_overview()).counts

    async def get_overview(self) -> Overview:
        """Count the records, list the workers that are alive, and find the oldest due job of each queue."""
        return await (await self._runtime.store()).overview()

    async def get_jobs_by_state(
        self, state: State, *, limit: int = DEFAULT_PER_PAGE, cursor: str | None = None
    ) -> Page[JobRecord]:
        """Return a page of `limit` (1 to 1,000) records in a state, newest first. `cursor` is that of the page before.

        Finished records are ordered by the time of finishing, waiting ones by due time, and active ones by id. Pages
        are stable: a record that is added or removed between two pages neither repeats nor hides another.
        """
        _checks.one_of(state, STATES, argument="state", error=ValidationError)
        _check_limit(limit)
        after = None if cursor is None else decode_cursor(cursor, _read_position)
        query = RecordsInState(state=state, limit=limit + 1, after=after)
        found = await (await self._runtime.store()).records(query)
        items = tuple(map(to_job_record, found[:limit]))
        if len(found) <= limit:
            return Page(items)
        last = position(found[limit - 1])
        return Page(items, encode_cursor(last.at.isoformat(), last.id))

    async def get_schedule(self, key: str) -> ScheduleRecord | None:
        """Return a schedule, or None if there is none with this key."""
        _checks.key(key)
        _, found = await (await self._runtime.store()).schedules(ScheduleByKey(key))
        return to_schedule_record(found[0]) if found else None

    async def get_schedules(self, *, limit: int = DEFAULT_PER_PAGE, cursor: str | None = None) -> Page[ScheduleRecord]:
        """Return a page of `limit` schedules, in the order of their keys. `cursor` is that of the page before."""
        _check_limit(limit)
        after = None if cursor is None else decode_cursor(cursor, _checks.key)
        _, found = await (await self._runtime.store()).schedules(SchedulesAfter(limit=limit + 1, after=after))
        items = tuple(map(to_schedule_record, found[:limit]))
        return Page(items, encode_cursor(items[-1].key) if len(found) > limit else None)

    async def next_runs(self, key: str, n: int = DEFAULT_RUNS) -> tuple[datetime, ...]:
        """Return the next `n` (1 to 1,000) ticks of a schedule, in UTC.

        There are none if the schedule is paused, has ended or does not exist.
        """
        _checks.key(key)
        _check_limit(n, argument="n")
        _, found = await (await self._runtime.store()).schedules(ScheduleByKey(key))
        return next_runs(found[0], n) if found else ()


def _read_position(at: str, id: str) -> Position:
    return Position(_checks.aware(datetime.fromisoformat(at), argument="cursor"), _checks.record_id(id))


def _check_limit(limit: object, *, argument: str = "limit") -> None:
    _checks.whole_number(limit, argument=argument, low=1, high=MOST_PER_PAGE, error=ValidationError)
