"""Tokens, lost and renewed leases, recovery, and what may be what kills its workers."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowli_core.driver import RECOVER_PER_STEP, Ack, Cancelled, HeartbeatAnswer, Lease, Recovered, Released, Retried
from flowli_core.durations import ZERO
from tests.conformance.builders import BROKEN, DONE, HOUR, LEASE, Worker, ack, ids, lease_of, record, stored

if TYPE_CHECKING:
    from flowli_core.driver import Driver, Outcome
    from flowli_core.testing import ManualClock

OUTCOMES: list[Outcome] = [DONE, BROKEN, Cancelled(), Retried(ZERO, b"{}"), Released()]


async def test_a_reserved_record_carries_what_its_handler_needs(driver: Driver, worker: Worker) -> None:
    """The worker is given all that was enqueued, and a token."""
    await driver.enqueue([record("a", name="n", input=b"1", meta=b"2", policy=b"3")])
    held = await worker.take_one()
    assert (held.id, held.name, held.queue, held.input, held.meta, held.policy) == ("a", "n", "q", b"1", b"2", b"3")
    assert (held.progress, held.recoveries, held.suspect) == (None, 0, False)
    assert held.token > 0


async def test_a_reserved_record_is_active(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A record that is handed out shows who has it since when."""
    await driver.enqueue([record("a")])
    clock.advance("5s")
    await worker.take_one()
    found = await stored(driver, "a")
    assert (found.state, found.worker, found.started_at, found.updated_at) == ("active", "w", clock.now(), clock.now())


async def test_an_active_record_is_not_handed_out_again(driver: Driver, worker: Worker, other: Worker) -> None:
    """While a lease runs nobody else is given the record."""
    await driver.enqueue([record()])
    await worker.take_one()
    assert await other.take() == ()
    assert await worker.take() == ()


async def test_one_token_serves_a_batch(driver: Driver, worker: Worker) -> None:
    """All records of a step have the same token."""
    await driver.enqueue([record() for _ in range(5)])
    assert len({held.token for held in await worker.take(5)}) == 1


async def test_tokens_grow_with_every_reserving_step(driver: Driver, worker: Worker, other: Worker) -> None:
    """Every delivery has a greater token than all before, also of the same record."""
    await driver.enqueue([record() for _ in range(3)])
    tokens: list[int] = []
    for one in (worker, other, worker, other):
        held = await one.take_one()
        tokens.append(held.token)
        await one.settle(held, Released())
    assert tokens == sorted(set(tokens))


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_only_the_holder_may_ack(driver: Driver, worker: Worker, clock: ManualClock, outcome: Outcome) -> None:
    """A token that is not the current one changes nothing."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    before = await stored(driver, "a")
    clock.advance("1s")
    answer = await worker.step(Ack("a", held.token + 1, outcome), Ack("a", held.token - 1, outcome))
    assert answer.acks == ("lost", "lost")
    assert await stored(driver, "a") == before
    assert await worker.settle(held) == "ok"


async def test_a_record_that_waits_cannot_be_acked(driver: Driver, worker: Worker) -> None:
    """There is no token while a record is not active."""
    await driver.enqueue([record("a", due=timedelta(seconds=5)), record("b")])
    assert (await worker.step(Ack("a", 0, DONE), Ack("b", 1, DONE), Ack("nobody", 1, DONE))).acks == ("lost",) * 3


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_an_ack_sent_again_is_a_duplicate(
    driver: Driver, worker: Worker, clock: ManualClock, outcome: Outcome
) -> None:
    """What was settled under a token stays settled: the same ack, or another, is answered and writes nothing."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    assert await worker.settle(held, outcome) == "ok"
    before = await stored(driver, "a")
    clock.advance("1s")
    assert (await worker.step(ack(held, outcome), ack(held, BROKEN))).acks == ("duplicate", "duplicate")
    assert await stored(driver, "a") == before


async def test_the_same_ack_twice_in_a_step_counts_once(driver: Driver, worker: Worker) -> None:
    """The second of a step is a duplicate of the first."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    assert (await worker.step(ack(held), ack(held, BROKEN))).acks == ("ok", "duplicate")
    assert (await stored(driver, "a")).state == "completed"


async def test_only_the_last_settled_token_is_a_duplicate(driver: Driver, worker: Worker) -> None:
    """A token from before the last settled one is just lost."""
    await driver.enqueue([record("a")])
    first = await worker.take_one()
    await worker.settle(first, Released())
    second = await worker.take_one()
    assert await worker.settle(first) == "duplicate"
    assert await worker.settle(second, Released()) == "ok"
    assert (await worker.step(ack(first), ack(second))).acks == ("lost", "duplicate")


async def test_acks_are_answered_in_their_order(driver: Driver, worker: Worker) -> None:
    """Good and bad acks of one step each have their answer in their place."""
    await driver.enqueue([record(name) for name in "abc"])
    a, b, c = await worker.take(3)
    answer = await worker.step(ack(b), Ack("a", a.token + 5, DONE), ack(c, BROKEN), ack(b))
    assert answer.acks == ("ok", "lost", "ok", "duplicate")


async def test_an_expired_lease_is_recovered(driver: Driver, worker: Worker, other: Worker, clock: ManualClock) -> None:
    """When a lease ends the record waits again, and the next step of anybody says so and may take it."""
    await driver.enqueue([record("a", name="n")])
    first = await worker.take_one()
    clock.advance("29999ms")
    assert (await other.step(want=1)).reserved == ()
    clock.advance("1ms")
    answer = await other.step(want=1)
    assert answer.recovered == (Recovered(id="a", name="n", queue="q", recoveries=1, state="queued"),)
    (second,) = answer.reserved
    assert (second.id, second.recoveries) == ("a", 1)
    assert second.token > first.token


async def test_a_recovered_record_waits(driver: Driver, worker: Worker, other: Worker, clock: ManualClock) -> None:
    """Recovery is no attempt: only the recoveries are counted."""
    await driver.enqueue([record("a")])
    await worker.settle(await worker.take_one(), Retried(ZERO, b'{"failures":1}'))
    failed_at = clock.now()
    clock.advance("1s")
    await worker.take_one()
    clock.advance(LEASE)
    await other.step()
    found = await stored(driver, "a")
    assert (found.state, found.recoveries, found.progress) == ("queued", 1, b'{"failures":1}')
    assert (found.failed_at, found.finished_at) == (failed_at, None)


async def test_leases_of_any_queue_are_recovered(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A worker recovers also what it could not take."""
    await driver.enqueue([record("a", queue="elsewhere")])
    await Worker(driver, "there", queues=("elsewhere",)).take_one()
    clock.advance(LEASE)
    answer = await worker.step(want=1)
    assert (ids(answer.reserved), [one.id for one in answer.recovered]) == ([], ["a"])


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_the_ack_of_a_recovered_lease_is_lost(
    driver: Driver, worker: Worker, other: Worker, clock: ManualClock, outcome: Outcome
) -> None:
    """One who comes back after others have gone on cannot settle, whether the record waits or runs again."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    clock.advance(LEASE)
    await other.step()
    before = await stored(driver, "a")
    assert await worker.settle(held, outcome) == "lost"
    assert await stored(driver, "a") == before
    again = await other.take_one()
    assert await worker.settle(held, outcome) == "lost"
    assert await other.settle(again) == "ok"
    assert await worker.settle(held, outcome) == "lost"


async def test_a_late_ack_counts_while_nobody_has_recovered(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """The end of a lease is not the end of its token: settling comes before recovering, also in the same step."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    clock.advance("1h")
    answer = await worker.step(ack(held), want=1)
    assert (answer.acks, answer.recovered, answer.reserved) == (("ok",), (), ())
    assert (await stored(driver, "a")).recoveries == 0


async def test_a_heartbeat_extends_a_lease(driver: Driver, worker: Worker, other: Worker, clock: ManualClock) -> None:
    """A renewed lease runs from the heartbeat on."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    clock.advance("20s")
    assert await driver.heartbeat("w", [lease_of(held)], LEASE) == HeartbeatAnswer()
    clock.advance("29999ms")
    assert (await other.step()).recovered == ()
    clock.advance("1ms")
    assert [one.id for one in (await other.step()).recovered] == ["a"]


async def test_a_heartbeat_of_nothing_is_answered(driver: Driver) -> None:
    """A worker that holds nothing may still be heard."""
    assert await driver.heartbeat("w", [], LEASE) == HeartbeatAnswer()


async def test_a_heartbeat_tells_what_is_lost(
    driver: Driver, worker: Worker, other: Worker, clock: ManualClock
) -> None:
    """A lease that has gone to another, was settled, or never was, is lost; it is not renewed."""
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


async def test_a_heartbeat_revives_an_expired_lease_that_nobody_recovered(
    driver: Driver, worker: Worker, other: Worker, clock: ManualClock
) -> None:
    """When all workers were paused, the first to come back may go on."""
    await driver.enqueue([record("a")])
    held = await worker.take_one()
    clock.advance("1h")
    assert await driver.heartbeat("w", [lease_of(held)], LEASE) == HeartbeatAnswer()
    assert (await other.step(want=1)).reserved == ()
    assert await worker.settle(held) == "ok"


async def test_heartbeats_come_from_another_loop(driver: Driver, worker: Worker, clock: ManualClock) -> None:
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


async def test_a_record_recovered_too_often_fails(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """Over the limit a lost worker is the end: the record fails, with what it had, and nobody has acked it."""
    await driver.enqueue([record("a", max_recoveries=2)])
    for _ in range(3):
        await worker.take_one()
        clock.advance(LEASE)
    answer = await worker.step(want=1)
    assert answer.reserved == ()
    assert [(one.id, one.recoveries, one.state) for one in answer.recovered] == [("a", 3, "failed")]
    found = await stored(driver, "a")
    assert (found.state, found.recoveries, found.progress, found.failed_at) == ("failed", 3, None, None)
    assert found.finished_at == clock.now()


async def test_failing_by_recovery_leaves_what_earlier_failures_wrote(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """Progress and the time of the last failure stay as they were."""
    await driver.enqueue([record("a", max_recoveries=0)])
    await worker.settle(await worker.take_one(), Retried(ZERO, b'{"failures":1}'))
    failed_at = clock.now()
    clock.advance("1s")
    await worker.take_one()
    clock.advance(LEASE)
    await worker.step()
    found = await stored(driver, "a")
    assert (found.state, found.progress, found.failed_at) == ("failed", b'{"failures":1}', failed_at)


async def test_attempts_do_not_count_as_recoveries(driver: Driver, worker: Worker) -> None:
    """A record that was retried and released many times has been recovered never."""
    await driver.enqueue([record(max_recoveries=1)])
    for outcome in (Retried(ZERO, b"{}"), Released(), Retried(ZERO, b"{}")):
        assert await worker.settle(await worker.take_one(), outcome) == "ok"
    assert (await worker.take_one()).recoveries == 0


async def _make_suspects(driver: Driver, clock: ManualClock, names: str) -> None:
    """Store records and lose a worker with each, so often that it may be no accident."""
    await driver.enqueue([record(name, max_recoveries=1) for name in names])
    victim = Worker(driver, f"victim of {names}")
    assert len(await victim.take(len(names))) == len(names)
    clock.advance(LEASE)
    await victim.step()


async def test_a_suspect_is_handed_out_only_to_one_who_asks(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A record that was recovered as often as it may be is passed over, and does not count as due."""
    await _make_suspects(driver, clock, "a")
    clock.advance("1s")
    await driver.enqueue([record("b")])
    answer = await worker.step(want=5, suspect=False)
    assert ids(answer.reserved) == ["b"]
    await worker.settle(answer.reserved[0])
    answer = await worker.step(want=5, suspect=False)
    assert (answer.reserved, answer.next_due) == ((), None)
    assert [(held.id, held.suspect) for held in await worker.take(5)] == [("a", True)]


async def test_suspects_are_handed_out_one_at_a_time(
    driver: Driver, worker: Worker, other: Worker, clock: ManualClock
) -> None:
    """No step takes two suspects, and what it could not take does not count as due."""
    await _make_suspects(driver, clock, "ac")
    await driver.enqueue([record("x")])
    answer = await worker.step(want=5)
    assert ids(answer.reserved) == ["a", "x"]
    assert answer.next_due == LEASE
    assert ids(await other.take(5)) == ["c"]


async def test_a_suspect_keeps_its_place(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """One who asks for suspects is given them in the order of all."""
    await _make_suspects(driver, clock, "m")
    due = (await stored(driver, "m")).scheduled_for
    await driver.enqueue([record("z", due=due), record("a", due=due + timedelta(days=1))])
    clock.advance("2d")
    assert ids(await worker.take(5)) == ["m", "z", "a"]


async def test_many_suspects_do_not_hide_the_others(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """A step that wants no suspects passes over all of them."""
    await _make_suspects(driver, clock, "abcdefghijklmnopqrst")
    await driver.enqueue([record("z")])
    assert ids(await worker.take(1, suspect=False)) == ["z"]


async def test_a_delayed_suspect_is_foreseen_by_those_who_ask(
    driver: Driver, worker: Worker, clock: ManualClock
) -> None:
    """A scheduled suspect counts for a step that would take it, and for no other."""
    await _make_suspects(driver, clock, "a")
    await worker.settle(await worker.take_one(), Retried(timedelta(seconds=10), b"{}"))
    assert (await worker.step(suspect=False)).next_due is None
    assert (await worker.step()).next_due == timedelta(seconds=10)
    clock.advance("10s")
    assert ids(await worker.take()) == ["a"]


async def test_a_record_that_allows_no_recovery_is_a_suspect_from_the_start(driver: Driver, worker: Worker) -> None:
    """With a limit of zero even the first run is one that nobody may survive."""
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
    """When the store's clock is corrected by an hour, a dead worker's record is back within its lease all the same."""
    await driver.enqueue([record("a")])
    await worker.take_one()
    clock.back(timedelta(hours=1))
    await other.step()
    clock.advance(2 * LEASE)
    assert [one.id for one in (await other.step()).recovered] == ["a"]


async def test_a_clock_set_back_keeps_nothing_from_running(driver: Driver, worker: Worker, clock: ManualClock) -> None:
    """What was due before the clock was corrected is due after it."""
    await driver.enqueue([record("b")])
    assert (await worker.step()).next_due == ZERO
    clock.back(timedelta(hours=1))
    await driver.enqueue([record("a")])
    assert sorted(ids(await worker.take(5))) == ["a", "b"]


async def test_a_token_that_never_was_is_lost(driver: Driver, worker: Worker) -> None:
    """Zero is no token: a record that was never settled is not taken for settled under it."""
    await driver.enqueue([record("a", due=HOUR)])
    await driver.cancel("a")
    assert (await worker.step(Ack("a", 0, DONE))).acks == ("lost",)
