"""Tokens, lost and renewed leases, recovery, and suspects."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.driver import Ack, Cancelled, HeartbeatAnswer, Lease, Recovered, Released, Retried
from flowli_core.durations import ZERO
from flowli_core.limits import RECOVER_PER_STEP
from tests.conformance.builders import (
    BROKEN,
    DONE,
    HOUR,
    LEASE,
    Worker,
    ack,
    everything,
    ids,
    lease_of,
    lose,
    record,
    step,
    stored,
)
from tests.support.store import cancel_one, read_page

if TYPE_CHECKING:
    from flowli_core.driver import Driver, Outcome
    from flowli_core.testing import ManualClock

OUTCOMES: list[Outcome] = [DONE, BROKEN, Cancelled(), Retried(ZERO, b"{}"), Released()]


async def test_a_reserved_record_carries_what_its_handler_needs(driver: Driver, worker: Worker) -> None:
    """The worker gets everything that was enqueued, and a token."""
    await driver.enqueue([record("a", name="n", input=b"1", meta=b"2", policy=b"3")])
    held = await worker.take_one()
    assert (held.id, held.name, held.queue, held.input, held.meta, held.policy) == ("a", "n", "q", b"1", b"2", b"3")
    assert (held.attempts, held.recoveries, held.suspect) == (None, 0, False)
    assert held.token > 0


async def test_a_reserved_record_is_active(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """It shows its worker and when it was reserved."""
    await driver.enqueue([record("a")])
    clock.advance("5s")
    await worker.take_one()
    found = await stored(driver, "a")
    assert (found.state, found.worker, found.started_at, found.updated_at) == ("active", "w", clock.now(), clock.now())


async def test_a_record_shows_the_end_of_its_lease_while_it_is_active(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """A heartbeat extends it. A record without a lease shows none."""
    await driver.enqueue([record("a")])
    assert (await stored(driver, "a")).lease_until is None
    held = await worker.take_one(lease=timedelta(seconds=10))
    assert (await stored(driver, "a")).lease_until == clock.now() + timedelta(seconds=10)
    clock.advance("4s")
    await driver.heartbeat("w", [lease_of(held)], timedelta(seconds=20))
    assert (await stored(driver, "a")).lease_until == clock.now() + timedelta(seconds=20)
    clock.advance("30s")
    (listed,) = await everything(driver, "active", payloads=False)
    assert listed.lease_until == clock.now() - timedelta(seconds=10)
    await worker.step()
    assert (await stored(driver, "a")).lease_until is None


async def test_an_active_record_is_not_reserved_again(driver: Driver, worker: Worker, other: Worker) -> None:
    """Until its lease ends, no other worker gets the record."""
    await driver.enqueue([record()])
    await worker.take_one()
    assert await other.take() == ()
    assert await worker.take() == ()


async def test_a_batch_has_one_token(driver: Driver, worker: Worker) -> None:
    """All records of a step have the same token."""
    await driver.enqueue([record() for _ in range(5)])
    assert len({held.token for held in await worker.take(5)}) == 1


async def test_tokens_grow_with_every_reserving_step(driver: Driver, worker: Worker, other: Worker) -> None:
    """Every reservation has a greater token than all earlier ones, also of the same record."""
    await driver.enqueue([record() for _ in range(3)])
    tokens: list[int] = []
    for one in (worker, other, worker, other):
        held = await one.take_one()
        tokens.append(held.token)
        await one.settle(held, Released())
    assert tokens == sorted(set(tokens))


async def test_a_token_is_at_least_the_time_in_microseconds(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """So a store that has lost its last writes, and with them its last token, does not use that token again."""
    await driver.enqueue([record("a")])
    for _ in range(3):
        clock.advance("1ms")
        held = await worker.take_one()
        assert held.token >= clock.now().timestamp() * 1_000_000
        await worker.settle(held, Released())


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_only_the_current_token_may_settle(
    driver: Driver, worker: Worker, clock: ManualClock, outcome: Outcome
) -> None:
    """Another token changes nothing."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    before = await stored(driver, "a")
    clock.advance("1s")
    answer = await worker.step(Ack("a", held.token + 1, outcome), Ack("a", held.token - 1, outcome))
    assert answer.acks == ("lost", "lost")
    assert await stored(driver, "a") == before
    assert await worker.settle(held) == "ok"


async def test_a_waiting_record_cannot_be_settled(driver: Driver, worker: Worker) -> None:
    """A record has a token only while it is active."""
    await driver.enqueue([record("a", due=timedelta(seconds=5)), record("b")])
    assert (await worker.step(Ack("a", 0, DONE), Ack("b", 1, DONE), Ack("nobody", 1, DONE))).acks == ("lost",) * 3


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_an_ack_sent_again_is_a_duplicate(
    driver: Driver, worker: Worker, clock: ManualClock, outcome: Outcome
) -> None:
    """A record that was settled under a token stays settled: any later ack with it writes nothing."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    assert await worker.settle(held, outcome) == "ok"
    before = await stored(driver, "a")
    clock.advance("1s")
    assert (await worker.step(ack(held, outcome), ack(held, BROKEN))).acks == ("duplicate", "duplicate")
    assert await stored(driver, "a") == before


async def test_the_same_ack_twice_in_a_step_counts_once(driver: Driver, worker: Worker) -> None:
    """The second ack of the step is a duplicate of the first."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    assert (await worker.step(ack(held), ack(held, BROKEN))).acks == ("ok", "duplicate")
    assert (await stored(driver, "a")).state == "completed"


async def test_only_the_last_settled_token_is_a_duplicate(driver: Driver, worker: Worker) -> None:
    """An ack with an earlier token is lost."""
    await driver.enqueue([record("a")])
    first = await worker.take_one()
    await worker.settle(first, Released())
    second = await worker.take_one()
    assert await worker.settle(first) == "duplicate"
    assert await worker.settle(second, Released()) == "ok"
    assert (await worker.step(ack(first), ack(second))).acks == ("lost", "duplicate")


async def test_acks_are_answered_in_their_order(driver: Driver, worker: Worker) -> None:
    """The answers are in the order of the acks."""
    await driver.enqueue([record(name) for name in "abc"])
    a, b, c = await worker.take(3)
    answer = await worker.step(ack(b), Ack("a", a.token + 5, DONE), ack(c, BROKEN), ack(b))
    assert answer.acks == ("ok", "lost", "ok", "duplicate")


async def test_an_expired_lease_is_recovered(driver: Driver, worker: Worker, other: Worker, clock: ManualClock) -> None:
    """The next step of any worker returns the record to its queue, reports that, and may reserve it."""
    await driver.enqueue([record("a", name="n")])
    first = await worker.take_one()
    clock.advance("29999ms")
    assert (await other.step(want=1)).reserved == ()
    clock.advance("1ms")
    answer = await other.step(want=1)
    assert answer.recovered == (Recovered(id="a", name="n", queue="q", meta=None, recoveries=1, state="queued"),)
    (second,) = answer.reserved
    assert (second.id, second.recoveries) == ("a", 1)
    assert second.token > first.token


async def test_a_recovered_record_is_reported_with_its_meta(
    driver: Driver, worker: Worker, other: Worker, clock: ManualClock
) -> None:
    """The meta is that of the record, whatever bytes it has, and whatever becomes of the record."""
    metas = {"a": b"@{}\n\n 5\n", "b": b"", "c": None, "d": b"\x00\xff"}
    await driver.enqueue([record(name, meta=meta, max_recoveries=1) for name, meta in metas.items()])
    await worker.take(4)
    await cancel_one(driver, "a")
    clock.advance(LEASE)
    answer = await other.step()
    assert {one.id: one.meta for one in answer.recovered} == metas
    for name in "bcd":
        await worker.take_one()
        clock.advance(LEASE)
        (recovered,) = (await other.step()).recovered
        assert (recovered.id, recovered.meta, recovered.state) == (name, metas[name], "failed")


async def test_a_recovered_record_waits(driver: Driver, worker: Worker, other: Worker, clock: ManualClock) -> None:
    """A recovery is no attempt: only the recoveries are counted."""
    await driver.enqueue([record("a")])
    await worker.settle(await worker.take_one(), Retried(ZERO, b'{"failures":1}'))
    failed_at = clock.now()
    clock.advance("1s")
    await worker.take_one()
    clock.advance(LEASE)
    await other.step()
    found = await stored(driver, "a")
    assert (found.state, found.recoveries, found.attempts) == ("queued", 1, b'{"failures":1}')
    assert (found.failed_at, found.finished_at) == (failed_at, None)


async def test_leases_of_any_queue_are_recovered(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A worker also recovers records of queues that it does not serve."""
    await driver.enqueue([record("a", queue="elsewhere")])
    await Worker(driver, "there", queues=("elsewhere",)).take_one()
    clock.advance(LEASE)
    answer = await worker.step(want=1)
    assert (ids(answer.reserved), [one.id for one in answer.recovered]) == ([], ["a"])


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_the_ack_of_a_recovered_lease_is_lost(
    driver: Driver, worker: Worker, other: Worker, clock: ManualClock, outcome: Outcome
) -> None:
    """The lost worker cannot settle the record later, whether it waits or runs again.

    Its ack only takes the recovery back.
    """
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    clock.advance(LEASE)
    await other.step()
    before = await stored(driver, "a")
    assert await worker.settle(held, outcome) == "lost"
    assert await stored(driver, "a") == replace(before, recoveries=0)
    again = await other.take_one()
    assert await worker.settle(held, outcome) == "lost"
    assert await other.settle(again) == "ok"
    assert await worker.settle(held, outcome) == "lost"


async def test_a_late_ack_counts_until_the_lease_is_recovered(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """The token outlives the end of the lease: settling comes before recovering, also in the same step."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    clock.advance("1h")
    answer = await worker.step(ack(held), want=1)
    assert (answer.acks, answer.recovered, answer.reserved) == (("ok",), (), ())
    assert (await stored(driver, "a")).recoveries == 0


async def test_a_heartbeat_extends_a_lease(driver: Driver, worker: Worker, other: Worker, clock: ManualClock) -> None:
    """A renewed lease counts from the heartbeat."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    clock.advance("20s")
    assert await driver.heartbeat("w", [lease_of(held)], LEASE) == HeartbeatAnswer()
    clock.advance("29999ms")
    assert (await other.step()).recovered == ()
    clock.advance("1ms")
    assert [one.id for one in (await other.step()).recovered] == ["a"]


async def test_a_heartbeat_without_leases_is_answered(driver: Driver) -> None:
    """A worker that holds nothing may send a heartbeat."""
    assert await driver.heartbeat("w", [], LEASE) == HeartbeatAnswer()


async def test_a_heartbeat_reports_lost_leases(
    driver: Driver, worker: Worker, other: Worker, clock: ManualClock
) -> None:
    """A lease that another worker holds, that was settled or that never existed is lost, and not renewed."""
    await driver.enqueue([record(name) for name in "abc"])
    a, b, c = await worker.take(3)
    await worker.settle(b)
    clock.advance("20s")
    assert await driver.heartbeat("w", [lease_of(c)], LEASE) == HeartbeatAnswer()
    clock.advance("10s")
    taken = await other.take_one(lease=timedelta(seconds=5))
    assert taken.id == "a"
    leases = [lease_of(a), lease_of(b), lease_of(c), Lease("nobody", 1)]
    assert await driver.heartbeat("w", leases, timedelta(days=1)) == HeartbeatAnswer(frozenset({"a", "b", "nobody"}))
    clock.advance("5s")
    assert [one.id for one in (await other.step()).recovered] == ["a"]


async def test_a_heartbeat_renews_an_expired_lease_that_was_not_recovered(
    driver: Driver, worker: Worker, other: Worker, clock: ManualClock
) -> None:
    """After all workers were paused, the first to return keeps its records."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    clock.advance("1h")
    assert await driver.heartbeat("w", [lease_of(held)], LEASE) == HeartbeatAnswer()
    assert (await other.step(want=1)).reserved == ()
    assert await worker.settle(held) == "ok"


async def test_heartbeats_may_come_from_another_loop(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """Leases are renewed from a thread with an event loop of its own, while the main one is blocked."""
    await driver.enqueue([record()])
    held = await worker.take_one()
    clock.advance("20s")

    def renew() -> HeartbeatAnswer:
        return asyncio.run(_renew())

    async def _renew() -> HeartbeatAnswer:
        return await driver.heartbeat("w", [lease_of(held)], LEASE)

    assert await asyncio.to_thread(renew) == HeartbeatAnswer()
    clock.advance("20s")
    assert (await worker.step()).recovered == ()


async def test_a_record_recovered_too_often_fails(driver: Driver, clock: ManualClock) -> None:
    """Over the limit the record fails with the attempts that it had, without an ack."""
    await driver.enqueue([record("a", max_recoveries=2)])
    for _ in range(2):
        await lose(driver, clock)
    answer = await lose(driver, clock)
    assert [(one.id, one.recoveries, one.state) for one in answer.recovered] == [("a", 3, "failed")]
    found = await stored(driver, "a")
    assert (found.state, found.recoveries, found.attempts, found.failed_at) == ("failed", 3, None, None)
    assert found.finished_at == clock.now()


async def test_failing_by_recovery_keeps_the_attempts_of_earlier_failures(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """Attempts and the time of the last failure do not change."""
    await driver.enqueue([record("a", max_recoveries=0)])
    await worker.settle(await worker.take_one(), Retried(ZERO, b'{"failures":1}'))
    failed_at = clock.now()
    clock.advance("1s")
    await lose(driver, clock)
    found = await stored(driver, "a")
    assert (found.state, found.attempts, found.failed_at) == ("failed", b'{"failures":1}', failed_at)


async def test_a_recovery_by_its_own_worker_does_not_count(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """The worker is alive, so the record did not kill it: it never fails because of such recoveries."""
    await driver.enqueue([record("a", max_recoveries=1)])
    held = await worker.take_one()
    for _ in range(3):
        clock.advance(LEASE)
        answer = await worker.step(want=1)
        assert [(one.id, one.recoveries, one.state) for one in answer.recovered] == [("a", 0, "queued")]
        (held,) = answer.reserved
        assert (held.recoveries, held.suspect) == (0, False)
    await worker.settle(held, Released())
    assert [one.recoveries for one in (await lose(driver, clock)).recovered] == [1]


async def test_a_waiting_step_leaves_the_expired_leases_of_its_own_worker(
    driver: Driver, worker: Worker, other: Worker, clock: ManualClock
) -> None:
    """Its process may stand still, and would not run what it reserves. Another worker gets that."""
    await driver.enqueue([record("a"), record("b"), record("c", queue="elsewhere")])
    held = await worker.take_one()
    await Worker(driver, "dead", queues=("elsewhere",)).take_one()
    clock.advance(LEASE)
    answer = await driver.step(step("w", wait=HOUR, want=5))
    assert (ids(answer.reserved), [one.id for one in answer.recovered]) == ([], ["c"])
    assert answer.next_due == ZERO
    assert await driver.heartbeat("w", [lease_of(held)], LEASE) == HeartbeatAnswer(), "it may still renew them"
    assert ids((await driver.step(step("idle", wait=HOUR, want=5))).reserved) == ["b"]
    clock.advance(LEASE)
    answer = await other.step(want=5)
    assert sorted((one.id, one.recoveries) for one in answer.recovered) == [("a", 1), ("b", 1)]


async def test_attempts_do_not_count_as_recoveries(driver: Driver, worker: Worker) -> None:
    """A record that was retried and released many times has no recoveries."""
    await driver.enqueue([record(max_recoveries=1)])
    for outcome in (Retried(ZERO, b"{}"), Released(), Retried(ZERO, b"{}")):
        assert await worker.settle(await worker.take_one(), outcome) == "ok"
    assert (await worker.take_one()).recoveries == 0


async def _make_suspects(driver: Driver, clock: ManualClock, names: str) -> None:
    """Store records and lose their workers until they are suspects."""
    await driver.enqueue([record(name, max_recoveries=1) for name in names])
    await lose(driver, clock, len(names))


async def test_a_suspect_is_reserved_only_if_the_step_allows_it(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """Other steps pass it over, and it does not count as due for them."""
    await _make_suspects(driver, clock, "a")
    clock.advance("1s")
    await driver.enqueue([record("b")])
    answer = await worker.step(want=5, suspect=False)
    assert ids(answer.reserved) == ["b"]
    await worker.settle(answer.reserved[0])
    answer = await worker.step(want=5, suspect=False)
    assert (answer.reserved, answer.next_due) == ((), None)
    assert [(held.id, held.suspect) for held in await worker.take(5)] == [("a", True)]


async def test_a_suspect_is_reserved_alone(driver: Driver, worker: Worker, other: Worker, clock: ManualClock) -> None:
    """No other record may be the cause if its worker is lost. The suspects that the step leaves do not count as due."""
    await _make_suspects(driver, clock, "ac")
    answer = await worker.step(want=5)
    assert ids(answer.reserved) == ["a"]
    assert (answer.next_due, answer.suspect_due) == (LEASE, True)
    await driver.enqueue([record("x")])
    assert ids(await other.take(5)) == ["c"]
    answer = await Worker(driver, "third").step(want=5)
    assert (ids(answer.reserved), answer.suspect_due) == (["x"], False)


async def test_a_suspect_keeps_its_position(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A step reserves the records that are due before it, and the next such step reserves it."""
    await driver.enqueue([record("first"), record("m", max_recoveries=0, due=timedelta(seconds=1))])
    answer = await worker.step()
    assert (answer.next_due, answer.suspect_due) == (ZERO, False)
    clock.advance("1s")
    await driver.enqueue([record("z"), record("a"), record("last", due=timedelta(seconds=1))])
    assert not (await worker.step()).suspect_due
    answer = await worker.step(want=2)
    assert (ids(answer.reserved), answer.suspect_due) == (["first", "a"], False)
    assert ids(await worker.take(5)) == ["m"]
    assert ids(await worker.take(5)) == ["z"]


async def test_a_suspect_waits_for_the_records_of_earlier_queues(driver: Driver, clock: ManualClock) -> None:
    """A step serves the queues in their order, with or without suspects."""
    await driver.enqueue([record("suspect", queue="r", max_recoveries=0)])
    clock.advance("1s")
    await driver.enqueue([record("a"), record("b"), record("z", queue="r")])
    worker = Worker(driver, queues=("q", "r"))
    answer = await worker.step(want=1)
    assert (ids(answer.reserved), answer.suspect_due) == (["a"], False)
    answer = await worker.step(want=5)
    assert (ids(answer.reserved), answer.suspect_due) == (["b", "z"], True)
    assert ids(await worker.take(5)) == ["suspect"]


async def test_a_suspect_is_reserved_without_the_records_of_later_queues(driver: Driver) -> None:
    """The step ends with it, whatever else is due."""
    await driver.enqueue([record("suspect", max_recoveries=0), record("z", queue="r")])
    worker = Worker(driver, queues=("q", "r"))
    assert [ids(await worker.take(5)) for _ in range(2)] == [["suspect"], ["z"]]


async def test_a_waiting_step_reserves_no_suspect(driver: Driver, clock: ManualClock) -> None:
    """Another step of its worker may be in flight. Its answer says that a suspect is due."""
    await driver.enqueue([record("a", max_recoveries=0)])
    answer = await driver.step(step("waiter", wait=timedelta(milliseconds=1), want=5))
    assert (answer.reserved, answer.next_due, answer.suspect_due) == ((), None, True)
    await driver.enqueue([record("z")])
    answer = await driver.step(step("another", wait=timedelta(milliseconds=1), want=5))
    assert ids(answer.reserved) == ["z"]


async def test_many_suspects_do_not_hide_the_others(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A step that allows no suspects passes over all of them."""
    await _make_suspects(driver, clock, "abcdefghijklmnopqrst")
    await driver.enqueue([record("z")])
    assert ids(await worker.take(1, suspect=False)) == ["z"]


async def test_a_scheduled_suspect_counts_until_it_is_due(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """It is part of `next_due`, so that workers step when it is due. Then the answers say so in `suspect_due`."""
    await _make_suspects(driver, clock, "a")
    await worker.settle(await worker.take_one(), Retried(timedelta(seconds=10), b"{}"))
    for suspect in (True, False):
        answer = await worker.step(suspect=suspect)
        assert (answer.next_due, answer.suspect_due) == (timedelta(seconds=10), False)
    clock.advance("10s")
    answer = await worker.step(suspect=False, want=5)
    assert (answer.reserved, answer.next_due, answer.suspect_due) == ((), None, True)
    assert ids(await worker.take()) == ["a"]


async def test_a_record_that_allows_no_recovery_is_a_suspect_from_the_start(driver: Driver, worker: Worker) -> None:
    """With a limit of zero, even the first run may kill the worker for good."""
    await driver.enqueue([record("a", max_recoveries=0), record("b", max_recoveries=0)])
    assert await worker.take(5, suspect=False) == ()
    assert ids(await worker.take(5)) == ["a"]


async def test_recovery_is_bounded(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A step recovers a limited number of leases, and says that there is more to do."""
    await driver.enqueue([record() for _ in range(RECOVER_PER_STEP + 3)])
    await worker.take(RECOVER_PER_STEP + 3)
    clock.advance(LEASE)
    answer = await worker.step(want=0)
    assert (len(answer.recovered), answer.next_due) == (RECOVER_PER_STEP, ZERO)
    assert len((await worker.step(want=0)).recovered) == 3
    assert (await worker.step(want=0)).recovered == ()


async def test_a_clock_set_back_does_not_lengthen_a_lease(
    driver: Driver, worker: Worker, other: Worker, clock: ManualClock
) -> None:
    """After the store's clock was set back by an hour, a dead worker's record is recovered within its lease."""
    await driver.enqueue([record("a")])
    await worker.take_one()
    clock.back(timedelta(hours=1))
    await other.step()
    clock.advance(2 * LEASE)
    assert [one.id for one in (await other.step()).recovered] == ["a"]


async def test_a_lease_that_is_renewed_after_the_clock_was_set_back_keeps_its_length(
    driver: Driver, worker: Worker, other: Worker, clock: ManualClock
) -> None:
    """A heartbeat comes before the next step. That step does not shorten the lease again."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    clock.back(timedelta(hours=1))
    assert (await driver.heartbeat("w", [lease_of(held)], LEASE)).lost == frozenset()
    assert (await other.step()).recovered == ()
    clock.advance(LEASE - timedelta(milliseconds=1))
    assert (await other.step()).recovered == ()
    clock.advance("1ms")
    assert [one.id for one in (await other.step()).recovered] == ["a"]


async def test_a_delay_is_kept_if_the_clock_was_set_back_before_it_began(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """The record is stored before the next step. That step does not make it due at once."""
    await worker.step()
    clock.back(timedelta(hours=1))
    await driver.enqueue([record("a", due=timedelta(minutes=10))])
    answer = await worker.step(want=1)
    assert (answer.reserved, answer.next_due) == ((), timedelta(minutes=10))


async def test_a_clock_set_back_hides_no_due_record_from_readers(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """Even if no worker has stepped since."""
    await driver.enqueue([record("a"), record("b", due=HOUR)])
    await worker.step()
    clock.back(timedelta(minutes=30))
    overview = await driver.overview()
    assert (overview.counts.queued, overview.counts.scheduled, set(overview.oldest)) == (1, 1, {"q"})
    assert (await stored(driver, "a")).state == "queued"
    assert ids(await read_page(driver, "queued", limit=5)) == ["a"]


async def test_a_clock_set_back_delays_no_due_record(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A record that was due before the clock was set back is due afterwards."""
    await driver.enqueue([record("b")])
    assert (await worker.step()).next_due == ZERO
    clock.back(timedelta(hours=1))
    await driver.enqueue([record("a")])
    assert sorted(ids(await worker.take(5))) == ["a", "b"]


async def test_an_invented_token_is_lost(driver: Driver, worker: Worker) -> None:
    """Zero is no token: a record that was never settled does not count as settled under it."""
    await driver.enqueue([record("a", due=HOUR)])
    await cancel_one(driver, "a")
    assert (await worker.step(Ack("a", 0, DONE))).acks == ("lost",)
