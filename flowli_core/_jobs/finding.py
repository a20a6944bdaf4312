"""Finding stored jobs by state, name, queue, error and age."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from datetime import timedelta

from pydantic_core import to_json

from flowli_core import _checks
from flowli_core._jobs.pages import read_page
from flowli_core._jobs.past_attempts import DERIVED_ERRORS, find_last_error
from flowli_core._wire.attempts import unpack_attempts
from flowli_core.driver import Driver
from flowli_core.durations import Duration, duration
from flowli_core.errors import ValidationError
from flowli_core.stored import STATES, Found, Position, RecordsInState, State, StoredRecord

_MOST_PER_CALL, _MOST_WITHOUT_PAYLOADS = 32, 1_000
_FIRST_CALL, _FIRST_WITHOUT_PAYLOADS = 4, 250
"""The number of records that a call reads. The first reads few, until their size is known."""

SEARCH_FOR = 1.0
"""Seconds after which a page with filters ends, however few records it has found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """The records that a caller wants: all in a state, or those of a name, a queue, an error or an age."""

    state: State
    name: str | None = None
    queue: str | None = None
    error: str | None = None
    older_than: timedelta | None = None

    def query(self, *, limit: int, after: Position | None, payloads: bool) -> RecordsInState:
        """Return the query that finds the records. It may find records with other errors."""
        return RecordsInState(
            state=self.state,
            limit=limit,
            after=after,
            payloads=payloads,
            name=self.name,
            queue=self.queue,
            attempts_hold=self._attempts_hold(),
            older_than=self.older_than,
        )

    def accept(self, stored: StoredRecord) -> bool:
        """Return True if a record has the wanted error."""
        if self.error is None:
            return True
        error = find_last_error(stored, unpack_attempts(stored.attempts))
        return error is not None and f".{error.type}".endswith(f".{self.error}")

    def _attempts_hold(self) -> bytes | None:
        """Return the bytes that the attempts of a record hold if they have the wanted error, or None if these vary."""
        if self.error is None or self.error in DERIVED_ERRORS:
            return None
        return to_json(self.error)[1:] + b',"message":'


def check_filters(
    state: State,
    *,
    name: str | None,
    queue: str | None,
    error: str | None,
    older_than: Duration | None,
) -> Filters:
    """Return the filters that a caller gave. Raises ValidationError for an invalid one."""
    _checks.one_of(state, STATES, argument="state", error=ValidationError)
    for argument, value in (("name", name), ("queue", queue)):
        if value is not None:
            _checks.name(value, argument=argument, error=ValidationError)
    if error is not None:
        _checks.key(error, argument="error")
    age = None
    if older_than is not None:
        age = duration(older_than, argument="older_than", zero=True, error=ValidationError)
    return Filters(state=state, name=name, queue=queue, error=error, older_than=age)


async def find_page(
    driver: Driver, filters: Filters, *, limit: int, after: Position | None, payloads: bool
) -> tuple[list[StoredRecord], Position | None]:
    """Return a page of records, and the position from which the next page goes on. No record is in it twice."""
    seen: set[str] = set()

    async def read(count: int, position: Position | None) -> tuple[list[StoredRecord], Position | None]:
        found = await driver.records(filters.query(limit=count, after=position, payloads=payloads))
        new = [one for one in found.records if one.id not in seen and filters.accept(one)]
        seen.update([one.id for one in new])
        return new, found.rest

    return await read_page(
        read,
        limit,
        after=after,
        size=_size,
        first=_FIRST_CALL if payloads else _FIRST_WITHOUT_PAYLOADS,
        most=_MOST_PER_CALL if payloads else _MOST_WITHOUT_PAYLOADS,
        seconds=None if filters == Filters(state=filters.state) else SEARCH_FOR,
    )


async def find_all(driver: Driver, filters: Filters, *, per_call: int) -> AsyncGenerator[Found]:
    """Yield all records without their payloads, newest first, up to `per_call` at once."""
    after: Position | None = None
    while True:
        found = await driver.records(filters.query(limit=per_call, after=after, payloads=False))
        yield replace(found, records=[one for one in found.records if filters.accept(one)])
        after = found.rest
        if after is None:
            return


async def count_records(driver: Driver, filters: Filters) -> int:
    """Return the number of records."""
    if (filters.name, filters.error, filters.older_than) == (None, None, None):
        counts = (await driver.overview()).counts
        of_queue = counts if filters.queue is None else counts.by_queue.get(filters.queue)
        return 0 if of_queue is None else getattr(of_queue, filters.state)
    total = 0
    async for found in find_all(driver, filters, per_call=_MOST_WITHOUT_PAYLOADS):
        total += len(found.records)
    return total


def _size(record: StoredRecord) -> int:
    return len(record.input) + sum([len(part or b"") for part in (record.meta, record.result, record.attempts)])
