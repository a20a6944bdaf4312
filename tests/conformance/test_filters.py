"""Listings with filters."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.driver import Ack, Failed, Released
from flowli_core.durations import ZERO
from flowli_core.limits import MOST_LOOKED_AT
from flowli_core.stored import FINISHED, STATES, Found, RecordsInState, State, StoredRecord, position
from flowli_core.targets import Target
from tests.conformance.builders import BROKEN, DONE, HOUR, Worker, ack, everything, finish, ids, record
from tests.support.store import cancel_one, requeue_one

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flowli_core.driver import Driver
    from flowli_core.testing import ManualClock

QUEUES = ("mail", "bulk")
NAMES = ("send_email", "make_report")
ERRORS = (b'{"type":"%d+"}', b'{"type":"KeyError"}')


SECOND = timedelta(seconds=1)


async def fill(driver: Driver, clock: ManualClock, state: State, names: Iterable[str]) -> dict[str, tuple[Worker, Ack]]:
    """Bring records into a state, a second after each other, with the queues, names and errors in all combinations.

    Return the worker and the ack of each active record.
    """
    kinds = itertools.cycle(itertools.product(QUEUES, NAMES, ERRORS))
    held_by = dict[str, tuple[Worker, Ack]]()
    for number, (record_id, (queue, name, error)) in enumerate(zip(names, kinds, strict=False)):
        await driver.enqueue([record(record_id, queue=queue, name=name)])
        worker = Worker(driver, f"filler {record_id}", queues=(queue,))
        delay = HOUR + number * SECOND if state == "scheduled" else ZERO
        await worker.settle(await worker.take_one(), Released(delay, attempts=error))
        if state in {"queued", "cancelled"}:  # a queued one is requeued below, or the next worker would take it
            await cancel_one(driver, record_id)
        elif state != "scheduled":
            held = await worker.take_one(lease=timedelta(days=1))
            held_by[record_id] = (worker, ack(held))
            if state != "active":
                await worker.settle(held, Failed(error) if state == "failed" else DONE)
        clock.advance("1s")
    for one in reversed(await everything(driver, "cancelled")) if state == "queued" else ():
        await requeue_one(driver, one.id, attempts=one.attempts)
        clock.advance("1s")
    return held_by


def time_of(one: StoredRecord) -> datetime:
    """Return the time with which a filter by age compares."""
    return (one.started_at if one.state == "active" else one.finished_at) or one.scheduled_for


async def read_all(driver: Driver, query: RecordsInState) -> tuple[list[StoredRecord], list[Found]]:
    """Read a listing to its end. Return its records and all answers."""
    answers = [await driver.records(query)]
    while (rest := answers[-1].rest) is not None:
        assert answers[-1].looked_at > 0
        answers.append(await driver.records(replace(query, after=rest)))
    assert max(len(answer.records) for answer in answers) <= query.limit
    return [one for answer in answers for one in answer.records], answers


@pytest.mark.parametrize("state", STATES)
async def test_filters_leave_out_other_records(driver: Driver, clock: ManualClock, state: State) -> None:
    """Each filter alone, and all together, for pages of every length."""
    await fill(driver, clock, state, (f"r{number:02}" for number in range(11)))
    whole = await everything(driver, state)
    ages = {one.id: clock.now() - time_of(one) for one in whole}
    age = sorted(ages.values())[5]
    assert len(set(ages.values())) == 11
    filters = ((None, NAMES[0]), (None, QUEUES[1]), (None, b'"%d+"'), (None, age))
    for name, queue, error, older in itertools.product(*filters):
        expected = [
            one
            for one in whole
            if name in {None, one.name}
            and queue in {None, one.queue}
            and (error is None or error in (one.attempts or b""))
            and (older is None or ages[one.id] > older)
        ]
        for limit in (1, 2, 100):
            query = RecordsInState(
                state=state, limit=limit, name=name, queue=queue, attempts_hold=error, older_than=older
            )
            assert (await read_all(driver, query))[0] == expected, query


@pytest.mark.parametrize("state", STATES)
async def test_a_listing_without_filters_returns_where_it_goes_on(
    driver: Driver, clock: ManualClock, state: State
) -> None:
    await fill(driver, clock, state, "abcde")
    found = await driver.records(RecordsInState(state=state, limit=2))
    assert (found.rest, found.looked_at) == (position(found.records[-1]), 2)
    found = await driver.records(RecordsInState(state=state, limit=4, after=found.rest))
    assert (len(found.records), found.rest, found.looked_at) == (3, None, 3)


@pytest.mark.parametrize("state", ["queued", "failed"])
async def test_a_filtered_listing_may_leave_out_payloads(driver: Driver, clock: ManualClock, state: State) -> None:
    await fill(driver, clock, state, "abcdefgh")
    query = RecordsInState(state=state, limit=3, name=NAMES[0])
    with_payloads, without = [(await read_all(driver, one))[0] for one in (query, replace(query, payloads=False))]
    assert [replace(one, input=b"", meta=None, result=None) for one in with_payloads] == without
    assert len(without) == 4


async def test_nothing_is_found_if_no_record_matches(driver: Driver, clock: ManualClock) -> None:
    """Names are compared whole; a part of the attempts is no pattern."""
    await fill(driver, clock, "failed", "abcdefgh")
    query = RecordsInState(state="failed", limit=5)
    for none in (
        replace(query, name="send"),
        replace(query, queue="mai"),
        replace(query, queue="nobody"),
        replace(query, attempts_hold=b"Key.rror"),
        replace(query, attempts_hold=b"%a"),
        replace(query, older_than=HOUR),
    ):
        assert (await read_all(driver, none))[0] == []
    assert len((await read_all(driver, replace(query, older_than=-HOUR)))[0]) == 8


async def test_a_record_without_attempts_holds_none(driver: Driver) -> None:
    await driver.enqueue([record("a")])
    query = RecordsInState(state="queued", limit=5, attempts_hold=b"{")
    assert (await driver.records(query)).records == []


@pytest.mark.parametrize("state", ["queued", "cancelled"])
async def test_a_call_looks_at_a_limited_number_of_records(driver: Driver, state: State) -> None:
    """It may find nothing, and then says where to go on."""
    rare = {0, 1, 300, 599}
    names = [f"r{number:03}" for number in range(600)]
    for start in range(0, 600, 200):
        await driver.enqueue(
            [record(names[n], name="rare" if n in rare else "usual") for n in range(start, start + 200)]
        )
    if state == "cancelled":
        for start in range(0, 600, 100):
            await driver.cancel([Target(id=name) for name in names[start : start + 100]])
    found, answers = await read_all(driver, RecordsInState(state=state, limit=10, name="rare"))
    assert ids(found) == ["r599", "r300", "r001", "r000"]
    assert max(answer.looked_at for answer in answers) <= MOST_LOOKED_AT
    assert sum(answer.looked_at for answer in answers) == 600
    _, answers = await read_all(driver, RecordsInState(state=state, limit=1, name="rare"))
    assert [len(answer.records) for answer in answers if answer.records] == [1, 1, 1, 1]


async def test_a_call_looks_at_fewer_records_if_they_are_large(driver: Driver, driver_name: str) -> None:
    """The memory driver reads nothing that it would have to copy."""
    attempts = b'"' + b"x" * 300_000 + b'"'
    await driver.enqueue([record(name, due=HOUR) for name in "abcdefgh"])
    for name in "abcdefgh":
        await requeue_one(driver, name, attempts=attempts)
    query = RecordsInState(state="queued", limit=100, attempts_hold=b"KeyError")
    found, answers = await read_all(driver, query)
    assert found == []
    assert sum(answer.looked_at for answer in answers) == 8
    assert max(answer.looked_at for answer in answers) <= (8 if driver_name == "memory" else 4)


@pytest.mark.parametrize("state", ["queued", "scheduled"])
async def test_a_queue_among_many_is_listed(driver: Driver, clock: ManualClock, state: State) -> None:
    """Also its suspects, and with other filters."""
    due = HOUR if state == "scheduled" else ZERO
    for start in range(0, 450, 150):
        await driver.enqueue(
            [
                record(f"r{number:03}", queue=f"q{number % 225}", due=due, max_recoveries=number % 2)
                for number in range(start, start + 150)
            ]
        )
    await driver.enqueue([record("other", queue="q7", name="other", due=due)])
    for limit in (1, 10):
        query = RecordsInState(state=state, limit=limit, queue="q7")
        assert ids((await read_all(driver, query))[0]) == ["r232", "r007", "other"]
        assert ids((await read_all(driver, replace(query, name="other")))[0]) == ["other"]
        every = RecordsInState(state=state, limit=limit, name="other")
        assert ids((await read_all(driver, every))[0]) == ["other"]


@pytest.mark.parametrize("state", STATES)
async def test_each_record_that_stays_is_listed_once_while_others_move(
    driver: Driver, clock: ManualClock, state: State
) -> None:
    """Between two pages records are added, and some that were listed or not leave the state."""
    held_by = await fill(driver, clock, state, [f"m{number:02}" for number in range(24)])
    query = RecordsInState(state=state, limit=3, name=NAMES[1])
    whole = ids((await read_all(driver, query))[0])
    listed, gone, turn = list[str](), set[str](), 0
    found = await driver.records(query)
    while True:
        listed += ids(found.records)
        if found.rest is None:
            break
        turn += 1
        for leaving in (listed[-1], whole[-turn]):
            gone.add(leaving)
            if state == "active":
                worker, settled = held_by[leaving]
                await worker.step(settled)
            elif state in FINISHED:
                await requeue_one(driver, leaving)
            else:
                await cancel_one(driver, leaving)
        clock.advance("1s")
        await finish(driver, f"z{turn}", DONE if state == "completed" else BROKEN, queue="other")
        await driver.enqueue([record(f"n{turn}", name=NAMES[1], due=10 * HOUR)])
        found = await driver.records(replace(query, after=found.rest))
    assert len(listed) == len(set(listed))
    assert [one for one in listed if one not in gone] == [one for one in whole if one not in gone]
