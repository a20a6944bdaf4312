"""Short ways to make records, steps and acks, and to use them as a worker."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, TypeVar

from flowli_core.driver import Ack, AckAnswer, Completed, Driver, Failed, Lease, Outcome, Reserved, Step, StepAnswer
from flowli_core.durations import ZERO
from flowli_core.history import MOST_HISTORY_JOBS
from flowli_core.limits import Keep
from flowli_core.new_records import NewRecord
from flowli_core.reports import Report
from flowli_core.stored import STATES, Position, State, StateCounts, StoredRecord, position
from tests.support.store import find, read_page

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Sequence
    from datetime import datetime

    from flowli_core.lanes import Lane
    from flowli_core.testing import ManualClock

T = TypeVar("T")

LEASE = timedelta(seconds=30)
HOUR = timedelta(hours=1)
DONE = Completed(b'"done"')
BROKEN = Failed(b'{"failures":1}')
PATIENCE = 20
"""Seconds after which a test that waits for an event fails, far longer than any test takes."""

_numbers = itertools.count(1)


def fresh_id() -> str:
    """Return an id that is greater than all earlier ones."""
    return f"id-{next(_numbers):08d}"


def record(
    record_id: str | None = None,
    *,
    name: str = "send_email",
    queue: str = "q",
    input: bytes = b"{}",
    meta: bytes | None = None,
    key: str | None = None,
    due: timedelta | datetime = ZERO,
    expires: timedelta | datetime | None = None,
    policy: bytes = b"{}",
    max_recoveries: int = 3,
    keep_completed: timedelta = HOUR,
    keep_failed: timedelta = timedelta(days=14),
    keep_id: timedelta = ZERO,
    on_conflict: Literal["keep", "replace"] = "keep",
    max_wait: timedelta | None = None,
    unique_for: timedelta = ZERO,
    lane: Lane | None = None,
) -> NewRecord:
    """Make a record that is due now."""
    return NewRecord(
        id=fresh_id() if record_id is None else record_id,
        name=name,
        queue=queue,
        input=input,
        meta=meta,
        key=key,
        due=due,
        expires=expires,
        policy=policy,
        max_recoveries=max_recoveries,
        keep_completed=keep_completed,
        keep_failed=keep_failed,
        keep_id=keep_id,
        on_conflict=on_conflict,
        max_wait=max_wait,
        unique_for=unique_for,
        lane=lane,
    )


def step(
    worker: str = "w",
    *,
    sequence: int = 1,
    queues: tuple[str, ...] = ("q",),
    want: int = 1,
    lease: timedelta = LEASE,
    acks: Iterable[Ack] = (),
    suspect: bool = True,
    keep: Keep = Keep(),  # noqa: B008 - frozen
    wait: timedelta | None = None,
    about: bytes | None = None,
    leaving: bool = False,
) -> Step:
    """Make a step that reserves one record."""
    return Step(
        worker=worker,
        sequence=sequence,
        queues=queues,
        want=want,
        lease=lease,
        acks=tuple(acks),
        suspect=suspect,
        keep=keep,
        wait=wait,
        about=about,
        leaving=leaving,
    )


def waiting_step(*queues: str, want: int = 1, wait: timedelta = HOUR) -> Step:
    """Make the waiting step of a new worker. By default it waits until a wake-up."""
    return step(f"waiter {fresh_id()}", queues=queues or ("q",), want=want, wait=wait)


def ack(held: Reserved, outcome: Outcome = DONE, *, started_at: datetime | None = None) -> Ack:
    """Make the ack of a reserved record."""
    return Ack(held.id, held.token, outcome, started_at)


def lease_of(held: Reserved) -> Lease:
    """Make the lease of a reserved record, for a heartbeat."""
    return Lease(held.id, held.token)


class Worker:
    """A worker: it numbers its steps, and keeps the last one to send it again."""

    def __init__(self, driver: Driver, name: str = "w", *, queues: tuple[str, ...] = ("q",)) -> None:
        self.driver = driver
        self.last = step(name, sequence=0, queues=queues, want=0)

    async def step(
        self,
        *acks: Ack,
        reports: tuple[Report, ...] = (),
        want: int = 0,
        lease: timedelta = LEASE,
        suspect: bool = True,
        keep: Keep | None = None,
    ) -> StepAnswer:
        """Make the next step."""
        self.last = replace(
            self.last,
            sequence=self.last.sequence + 1,
            acks=acks,
            reports=reports,
            want=want,
            lease=lease,
            suspect=suspect,
            keep=keep or Keep(),
        )
        return await self.driver.step(self.last)

    async def again(self) -> StepAnswer:
        """Send the last step again, like a worker that did not get the answer."""
        return await self.driver.step(self.last)

    async def take(self, want: int = 1, *, lease: timedelta = LEASE, suspect: bool = True) -> tuple[Reserved, ...]:
        """Reserve up to `want` records."""
        return (await self.step(want=want, lease=lease, suspect=suspect)).reserved

    async def take_one(self, *, lease: timedelta = LEASE) -> Reserved:
        """Reserve a record that must be due."""
        (held,) = await self.take(lease=lease)
        return held

    async def settle(self, held: Reserved, outcome: Outcome = DONE, *, started_at: datetime | None = None) -> AckAnswer:
        """Settle a record with an outcome."""
        (answer,) = (await self.step(ack(held, outcome, started_at=started_at))).acks
        return answer


async def finish(driver: Driver, record_id: str, outcome: Outcome, *, queue: str = "q") -> None:
    """Store a record, run it and settle it. Nothing else may be due in its queue."""
    worker = Worker(driver, f"finisher of {record_id}", queues=(queue,))
    await driver.enqueue([record(record_id, queue=queue)])
    assert await worker.settle(await worker.take_one(), outcome) == "ok"


async def fill_history(driver: Driver) -> None:
    """Count so many jobs that the total counts all later ones together. Their records are removed."""
    await driver.enqueue([record(name=f"job {number}", queue="many jobs") for number in range(MOST_HISTORY_JOBS)])
    worker = Worker(driver, "many jobs", queues=("many jobs",))
    await worker.step(*[ack(held) for held in await worker.take(MOST_HISTORY_JOBS)], keep=Keep(completed=0))


async def lose(driver: Driver, clock: ManualClock, want: int = 1) -> StepAnswer:
    """Reserve records with a worker that dies, and recover them with another. Return the answer of that step."""
    assert len(await Worker(driver, f"victim {fresh_id()}").take(want)) == want
    clock.advance(LEASE)
    return await Worker(driver, f"heir {fresh_id()}").step()


async def stored(driver: Driver, record_id: str) -> StoredRecord:
    """Return a record that must be stored."""
    found = await find(driver, record_id)
    assert found is not None, f"{record_id} is gone"
    return found


async def everything(driver: Driver, state: State, *, limit: int = 100, payloads: bool = True) -> list[StoredRecord]:
    """List all records in a state, page by page."""
    found: list[StoredRecord] = []
    after: Position | None = None
    while page := await read_page(driver, state, limit=limit, after=after, payloads=payloads):
        assert position(page[-1]) != after, "the listing does not advance"
        found += page
        after = position(page[-1])
    return found


async def assert_consistent(driver: Driver) -> None:
    """Check that each record is listed in its own state only, and that the counts agree with the listings."""
    listed = {state: await everything(driver, state) for state in STATES}
    ids = [one.id for state in STATES for one in listed[state]]
    assert len(ids) == len(set(ids)), "a record is listed twice"
    by_queue: dict[str, dict[str, int]] = {}
    for state in STATES:
        places = [position(one) for one in listed[state]]
        assert places == sorted(places, key=lambda place: (place.at, place.id), reverse=True)
        for one in listed[state]:
            assert one.state == state
            found = await find(driver, one.id)
            assert found is not None
            assert replace(found, log=()) == one
            in_queue = by_queue.setdefault(one.queue, {})
            in_queue[state] = in_queue.get(state, 0) + 1
    counts = (await driver.overview()).counts
    assert counts.by_queue == {queue: StateCounts(**states) for queue, states in by_queue.items()}
    assert {state: getattr(counts, state) for state in STATES} == {state: len(listed[state]) for state in STATES}


def ids(records: Sequence[Reserved | StoredRecord]) -> list[str]:
    """Return the ids, in order."""
    return [one.id for one in records]


async def soon(waiting: Awaitable[T]) -> T:
    """Wait for something that must happen soon."""
    async with asyncio.timeout(PATIENCE):
        return await waiting
