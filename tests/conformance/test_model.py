"""Random calls to a driver and to the model: both must give the same answers and hold the same records.

The calls include the effects of faults: steps sent again because the reply was lost, late copies of old calls, acks and
heartbeats with old and invented tokens, workers that die with reserved records and report later, clocks that are set
back, and stores that forget what they may forget. The search is short by default. With FLOWLI_MODEL=long each driver
runs 50 seeds of 2,000 operations, which takes long.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from flowli_core.driver import Ack, Cancelled, Completed, Failed, Lease, Outcome, Released, Retried, Step
from flowli_core.durations import ZERO
from flowli_core.history import HistoryQuery
from flowli_core.limits import MOST_LOG_LINES, Keep
from flowli_core.new_records import NewRecord
from flowli_core.reports import Report
from flowli_core.stored import FINISHED, STATES
from flowli_core.targets import Target
from flowli_core.testing import ManualClock
from tests.conformance.builders import HOUR, everything, ids, record, step, stored
from tests.conformance.drivers import CANDIDATES, Candidate
from tests.conformance.model import Model

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable
    from pathlib import Path

    import pytest

    from flowli_core.stored import FinishedState, State

T = TypeVar("T")

LONG = os.environ.get("FLOWLI_MODEL") == "long"
EXAMPLES = {"memory": 20 if LONG else 250}
OTHERS = 20 if LONG else 70
SAME_STORE = {"valkey": 10, "coredis": 10}
"""These use the driver of another candidate with another client; a short search is enough to check the client."""
STEPS = 100 if LONG else 40
SEEDS = range(int(os.environ.get("FLOWLI_MODEL_SEEDS", "50"))) if LONG else range(5)
"""By default a search ends with the first seed after which everything was reached."""

# A search that reaches nothing finds no faults, so it must have reached each of these.
MUST_REACH = (
    "ack ok",
    "ack duplicate",
    "ack lost",
    "cancel cancelled",
    "cancel changed",
    "cancel finished",
    "cancel requested",
    "cancel unknown",
    "enqueue accepted",
    "enqueue duplicate",
    "enqueue existing",
    "expired",
    "expired suspect",
    "heartbeat cancelled",
    "heartbeat lost",
    "left in a paused queue",
    "log cut",
    "log of a record that is active",
    "log of a record that is completed",
    "purged",
    "recovered cancelled",
    "recovered failed",
    "recovered queued",
    "requeue changed",
    "requeue key_taken",
    "requeue requeued",
    "requeue unfinished",
    "requeue unknown",
    "waiting step reserved",
    "waiting step recalled",
    "zombie ok",
    "zombie lost",
    "clock back",
    "recovery taken back",
    "history read",
    "reserved, recovered 0 times",
    "reserved, recovered 1 times",
    "reserved, recovered 2 times",
)

SECOND = timedelta(seconds=1)
QUEUES = ("q1", "q2", "q3")


@dataclass(frozen=True)
class Claim:
    """The lease that an ack or a heartbeat claims: that of its worker, of another, an old or an invented one."""

    kind: str
    pick: int


GivenReport = tuple[Claim, bytes | None, list[bytes], int]

record_ids = st.integers(0, 30).map("r{:02d}".format)
delays = st.sampled_from([ZERO, ZERO, ZERO, timedelta(milliseconds=1), SECOND, 10 * SECOND, -10 * SECOND])
leases = st.sampled_from([SECOND, 10 * SECOND, 30 * SECOND])
payloads = st.sampled_from([b"1", b"2", b"3"])
claims = st.builds(
    Claim, kind=st.sampled_from(["current"] * 6 + ["of another", "old", "invented"]), pick=st.integers(0, 200)
)
outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Completed, payloads),
    st.builds(Failed, payloads),
    st.builds(Retried, st.sampled_from([ZERO, SECOND, 10 * SECOND]), payloads),
    st.builds(Released, st.sampled_from([ZERO, SECOND]), st.none() | payloads),
    st.just(Cancelled()),
)
records = st.builds(
    record,
    record_ids,
    queue=st.sampled_from(QUEUES),
    input=payloads,
    meta=st.none() | payloads,
    key=st.sampled_from([None, None, None, "k1", "k2", "k3"]),
    due=delays.filter(lambda delay: delay >= ZERO),
    expires=st.sampled_from([None, None, SECOND, 10 * SECOND, 300 * SECOND]),
    max_recoveries=st.sampled_from([2, 1, 0]),
    keep_completed=st.sampled_from([600 * SECOND, 10 * SECOND, ZERO]),
    keep_failed=st.sampled_from([900 * SECOND, 5 * SECOND]),
)
keeps = st.builds(Keep, st.sampled_from([100, 100, 3, 1]), st.sampled_from([100, 100, 2, 0]), st.sampled_from([100, 1]))
picks = st.integers(0, 200)
histories = st.builds(
    HistoryQuery,
    resolution=st.sampled_from(["minute", "minute", "hour", "total"]),
    periods=st.sampled_from([150, 100, 2, 1]),
    name=st.sampled_from([None, None, "send_email", "nobody"]),
    queue=st.sampled_from([None, None, "q1", "q2"]),
)


# Few numbers, so that lines come again, in part or after a gap; and sometimes more lines than are kept.
reports = st.tuples(
    claims,
    st.none() | payloads,
    st.lists(payloads, max_size=3) | st.just([b"x"] * (MOST_LOG_LINES - 1)),
    st.integers(0, 4),
)
drafts = st.builds(
    step,
    queues=st.sampled_from([QUEUES, QUEUES, ("q1",), ("q3", "q2")]),
    want=st.sampled_from([4, 2, 1, 0]),
    lease=leases,
    suspect=st.sampled_from([True, False]),
    keep=keeps,
)


class DriverMachine(RuleBasedStateMachine):
    """A driver, its model, and three workers that misbehave."""

    def __init__(self, candidate: Candidate, directory: Path, reached: Counter[str]) -> None:
        super().__init__()
        self.candidate = candidate
        self.reached = reached
        self.clock = ManualClock()
        self.model = Model(self.clock.now())
        self.driver = candidate.make(directory, self.clock)
        self.loop = asyncio.Runner()
        self.names = ["w0", "w1", "w2"]
        self.sent: dict[str, list[Step]] = {name: [] for name in self.names}
        self.waits: defaultdict[str, list[Step]] = defaultdict(list)
        self.dead: list[str] = []
        self.held_at_death: dict[str, list[tuple[str, int]]] = {}
        self.batches: list[list[NewRecord]] = []
        self.beats: list[tuple[str, dict[str, int], timedelta, tuple[Report, ...]]] = []
        self.seen: list[tuple[str, int]] = [("r00", 0)]
        self.run(self.driver.open())

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.loop.run(call)

    def teardown(self) -> None:
        for resolution in ("minute", "hour", "total"):
            self.read_history(HistoryQuery(resolution=resolution, periods=150), HOUR)
        self.run(self.driver.close())
        self.loop.close()

    def claimed(self, claim: Claim, name: str) -> tuple[str, int]:
        current = [
            (one, call.token)
            for one, call in self.model.calls.items()
            if call.token is not None and (call.worker == name) == (claim.kind == "current")
        ]
        if claim.kind in {"current", "of another"} and current:
            return current[claim.pick % len(current)]
        record_id, token = self.seen[claim.pick % len(self.seen)]
        return (record_id, token) if claim.kind != "invented" else (record_id, claim.pick)

    def send(self, step: Step) -> tuple[str, ...]:
        answer = self.run(self.driver.step(step))
        self.model.step(step, answer)
        self.seen += [(one.id, one.token) for one in answer.reserved]
        self.reached.update([f"ack {ack}" for ack in answer.acks])
        self.reached["recovery taken back"] += self.model.taken_back
        self.reached.update([f"recovered {one.state}" for one in answer.recovered])
        self.reached["expired"] += len(answer.expired)
        kept = [self.model.calls[one.id] for one in answer.expired if one.id in self.model.calls]
        self.reached["expired suspect"] += any(call.is_suspect() for call in kept)
        self.reached.update([f"reserved, recovered {one.recoveries} times" for one in answer.reserved])
        return answer.acks

    @initialize(batch=st.lists(records, min_size=3, max_size=8))
    def begin(self, batch: list[NewRecord]) -> None:
        """Start with some records, because a search may leave out any of the rules below."""
        self.enqueue(batch, past=False)

    @rule(batch=st.lists(records, min_size=1, max_size=4), past=st.booleans())
    def enqueue(self, batch: list[NewRecord], past: bool) -> None:  # noqa: FBT001 - hypothesis passes by name
        if past:
            batch = [record(one.id, queue=one.queue, key=one.key, due=self.clock.now() - SECOND) for one in batch]
        self.batches.append(batch)
        self.send_batch(batch)

    @rule(new=records, late=st.booleans(), worker=st.integers(0, 2), draft=drafts)
    def a_record_expires(self, new: NewRecord, late: bool, worker: int, draft: Step) -> None:  # noqa: FBT001
        """A record is enqueued with a moment as its expiry, and a worker comes at that moment or before it."""
        self.enqueue([replace(new, due=ZERO, expires=self.clock.now() + SECOND)], past=False)
        self.time_passes_by(SECOND - timedelta(milliseconds=0 if late else 1))
        self.step(worker, replace(draft, want=4), [])

    @rule(queue=st.sampled_from(QUEUES), worker=st.integers(0, 2), draft=drafts, outcome=outcomes)
    def a_queue_is_paused(self, queue: str, worker: int, draft: Step, outcome: Outcome) -> None:
        assert self.run(self.driver.pause_queue(queue, paused=True)) == (queue not in self.model.paused)
        self.model.paused.add(queue)
        self.settle_all(worker, replace(draft, want=4), outcome)
        left = [call for call in self.model.calls.values() if call.new.queue == queue and call.state == "queued"]
        self.reached["left in a paused queue"] += bool(left)

    @precondition(lambda self: self.model.paused)
    @rule(pick=picks)
    def a_queue_is_resumed(self, pick: int) -> None:
        queue = QUEUES[pick % 3]
        assert self.run(self.driver.pause_queue(queue, paused=False)) == (queue in self.model.paused)
        self.model.paused.discard(queue)

    @rule(pick=picks)
    def an_enqueue_is_sent_again(self, pick: int) -> None:
        """It is a repetition, or a copy that the network delayed."""
        self.send_batch(self.batches[pick % len(self.batches)])

    def send_batch(self, batch: list[NewRecord]) -> None:
        answers = self.run(self.driver.enqueue(batch))
        assert answers == self.model.enqueue(batch)
        self.reached.update([f"enqueue {one.disposition}" for one in answers])

    def reports_of(self, given: list[GivenReport], name: str) -> tuple[Report, ...]:
        return tuple(
            [Report(*self.claimed(claim, name), progress, tuple(log), first) for claim, progress, log, first in given]
        )

    @rule(
        worker=st.integers(0, 2),
        draft=drafts,
        acks=st.lists(st.tuples(claims, outcomes, st.booleans()), max_size=4),
        given=st.lists(reports, max_size=3),
    )
    def step(
        self, worker: int, draft: Step, acks: list[tuple[Claim, Outcome, bool]], given: list[GivenReport] | None = None
    ) -> None:
        name = self.names[worker]
        started = self.clock.now() - timedelta(milliseconds=5)
        new = replace(
            draft,
            worker=name,
            sequence=len(self.sent[name]) + 1,
            acks=tuple(
                [Ack(*self.claimed(one, name), outcome, started if known else None) for one, outcome, known in acks]
            ),
            reports=self.reports_of(given or [], name),
        )
        self.sent[name].append(new)
        self.send(new)

    @rule(worker=st.integers(0, 2), draft=drafts, outcome=outcomes)
    def settle_all(self, worker: int, draft: Step, outcome: Outcome) -> None:
        """Settle all that the worker holds, as a runner does, whether the leases have ended or not."""
        name = self.names[worker]
        held = [(one, call.token) for one, call in self.model.calls.items() if call.worker == name]
        reports = [Ack(one, token, outcome) for one, token in held if token is not None]
        self.sent[name].append(replace(draft, worker=name, sequence=len(self.sent[name]) + 1, acks=tuple(reports)))
        self.send(self.sent[name][-1])

    @rule(worker=st.integers(0, 2), draft=drafts, lost=st.booleans())
    def a_waiting_step(self, worker: int, draft: Step, lost: bool) -> None:  # noqa: FBT001
        """Send a waiting step, and again if its answer was lost. Time stands still here, so it does not wait."""
        name = self.names[worker]
        self.waits[name].append(replace(draft, worker=name, sequence=len(self.waits[name]) + 1, wait=ZERO))
        self.send(self.waits[name][-1])
        last = self.model.last_step(name, waits=True)
        self.reached["waiting step reserved"] += bool(last and last.batch)
        if lost:
            self.send_a_waiting_step_again(worker, 0)

    @rule(worker=st.integers(0, 2), age=st.sampled_from([0, 1]))
    def send_a_waiting_step_again(self, worker: int, age: int) -> None:
        """Ask for what it had reserved, because the reply was lost; or send a copy that the network delayed."""
        name = self.names[worker]
        last = self.model.last_step(name, waits=True)
        if last is not None and last.sequence > age:
            self.send(replace(self.waits[name][last.sequence - age - 1], want=0))
            self.reached["waiting step recalled"] += bool(last.batch) and age == 0

    @rule(worker=st.integers(0, 2))
    def send_the_last_step_again(self, worker: int) -> None:
        """The reply was lost, and the store may have restarted meanwhile; or this is a copy that comes late."""
        self.candidate.forget()
        name = self.names[worker]
        if self.model.last_step(name, waits=False) is not None:
            self.send(self.sent[name][-1])

    @rule(worker=st.integers(0, 2), pick=st.integers(0, 100))
    def send_an_old_step_again(self, worker: int, pick: int) -> None:
        """Send a copy that the network delayed."""
        name = self.names[worker]
        if self.model.last_step(name, waits=False) is not None:
            self.send(self.sent[name][pick % len(self.sent[name])])

    @precondition(lambda self: any(call.token is not None for call in self.model.calls.values()))
    @rule(pick=picks, draft=drafts, outcome=outcomes, wakes=st.booleans())
    def a_worker_dies(self, pick: int, draft: Step, outcome: Outcome, wakes: bool) -> None:  # noqa: FBT001
        """Its leases go on without it, and another worker replaces it. Or it was only paused, and reports after all."""
        holders = {call.worker for call in self.model.calls.values() if call.token is not None}
        places = [place for place, name in enumerate(self.names) if name in holders] or [0]
        place = places[pick % len(places)]
        name = self.names[place]
        self.dead.append(name)
        self.held_at_death[name] = [
            (one, call.token)
            for one, call in self.model.calls.items()
            if call.worker == name and call.token is not None
        ]
        self.names[place] += "'"
        self.sent[self.names[place]] = []
        if wakes:
            self.report_of(name, draft, outcome)

    @precondition(lambda self: self.dead)
    @rule(pick=picks, draft=drafts, outcome=outcomes, late=st.booleans())
    def a_zombie_reports(self, pick: int, draft: Step, outcome: Outcome, late: bool) -> None:  # noqa: FBT001
        """A worker that was considered dead reports everything that it held then, perhaps after its leases ended."""
        if late and any(call.ends is not None for call in self.model.calls.values()):
            self.all_leases_end(0, draft)
        holders = {call.worker for call in self.model.calls.values() if call.token is not None}
        zombies = [name for name in self.dead if name in holders] or self.dead
        self.report_of(zombies[pick % len(zombies)], draft, outcome)

    def report_of(self, name: str, draft: Step, outcome: Outcome) -> None:
        reports = tuple(Ack(one, token, outcome) for one, token in self.held_at_death[name])
        self.sent[name].append(replace(draft, worker=name, sequence=len(self.sent[name]) + 1, acks=reports))
        self.reached.update([f"zombie {ack}" for ack in self.send(self.sent[name][-1])])

    @precondition(lambda self: self.beats)
    @rule(pick=picks)
    def a_heartbeat_is_sent_again(self, pick: int) -> None:
        """Send a copy that the network delayed."""
        self.beat(*self.beats[pick % len(self.beats)])

    @rule(
        worker=st.integers(0, 2),
        held=st.lists(claims, min_size=1, max_size=5),
        lease=leases,
        given=st.lists(reports, max_size=3),
    )
    def heartbeat(self, worker: int, held: list[Claim], lease: timedelta, given: list[GivenReport]) -> None:
        name = self.names[worker]
        self.beats.append(
            (name, dict(self.claimed(claim, name) for claim in held), lease, self.reports_of(given, name))
        )
        self.beat(*self.beats[-1])

    def beat(self, name: str, held: dict[str, int], lease: timedelta, reports: tuple[Report, ...] = ()) -> None:
        leases = [Lease(record_id, token) for record_id, token in held.items()]
        answer = self.run(self.driver.heartbeat(name, leases, lease, reports))
        assert answer == self.model.heartbeat(name, leases, lease, reports)
        self.reached["heartbeat lost"] += len(answer.lost)
        self.reached["recovery taken back"] += self.model.taken_back
        self.reached["heartbeat cancelled"] += len(answer.cancelled)

    def known(self, pick: int) -> str:
        """Return the id of a record or, now and then, of none."""
        return sorted([*self.model.calls, "nobody"])[pick % (len(self.model.calls) + 1)]

    @rule(some=st.lists(picks, min_size=1, max_size=4), state=st.none() | st.sampled_from(STATES))
    def cancel(self, some: list[int], state: State | None) -> None:
        self.cancel_all(Target(id=self.known(pick), state=state) for pick in some)

    @precondition(lambda self: any(call.state == "active" for call in self.model.calls.values()))
    @rule(pick=picks, lease=leases)
    def cancel_an_active_record(self, pick: int, lease: timedelta) -> None:
        """Request to cancel a record, and let its worker send a heartbeat."""
        active = self.model.listed("active")
        self.cancel_all([Target(id=active[pick % len(active)])])
        worker = self.model.calls[active[pick % len(active)]].worker
        calls = [call for call in self.model.calls.values() if call.worker == worker]
        self.beat(worker or "", {call.new.id: call.token for call in calls if call.token is not None}, lease)

    def cancel_all(self, targets: Iterable[Target]) -> None:
        chosen = list(targets)
        answers = self.run(self.driver.cancel(chosen))
        assert answers == [self.model.cancel(target) for target in chosen]
        self.reached.update([f"cancel {answer}" for answer in answers])

    @rule(
        some=st.lists(st.tuples(picks, st.none() | payloads), min_size=1, max_size=4),
        state=st.none() | st.sampled_from(STATES),
    )
    def requeue(self, some: list[tuple[int, bytes | None]], state: State | None) -> None:
        self.requeue_all(Target(id=self.known(pick), state=state, attempts=attempts) for pick, attempts in some)

    @precondition(lambda self: any(call.state in FINISHED for call in self.model.calls.values()))
    @rule(pick=picks, attempts=st.none() | payloads)
    def requeue_what_has_finished(self, pick: int, attempts: bytes | None) -> None:
        finished = [one for state in FINISHED for one in self.model.listed(state)]
        self.requeue_all([Target(id=finished[pick % len(finished)], attempts=attempts)])

    @precondition(lambda self: any(call.state in FINISHED and call.new.key for call in self.model.calls.values()))
    @rule(pick=picks, new=records)
    def requeue_when_the_key_may_have_gone(self, pick: int, new: NewRecord) -> None:
        finished = [call.new for call in self.model.calls.values() if call.state in FINISHED and call.new.key]
        old = finished[pick % len(finished)]
        self.enqueue([replace(new, key=old.key)], past=False)
        self.requeue_all([Target(id=old.id)])

    def requeue_all(self, targets: Iterable[Target]) -> None:
        chosen = list(targets)
        answers = self.run(self.driver.requeue(chosen))
        assert answers == [self.model.requeue(target) for target in chosen]
        self.reached.update([f"requeue {answer}" for answer in answers])

    @precondition(lambda self: any(call.state in FINISHED for call in self.model.calls.values()))
    @rule(
        pick=picks,
        after=st.sampled_from([timedelta(milliseconds=1), SECOND, ZERO]),
        older_than=st.sampled_from([ZERO, SECOND]),
        limit=st.sampled_from([3, 1, 0]),
        named=st.none() | st.lists(picks, max_size=4),
    )
    def purge(self, pick: int, after: timedelta, older_than: timedelta, limit: int, named: list[int] | None) -> None:
        states: list[FinishedState] = [state for state in FINISHED if self.model.listed(state)]
        state = states[pick % len(states)]
        self.time_passes_by(after)
        ids = None if named is None else [self.known(pick) for pick in named]
        answer = self.run(self.driver.purge(state, older_than=older_than, limit=limit, ids=ids))
        assert answer == self.model.purge(state, older_than, limit, ids)
        self.reached["purged"] += answer

    @rule(by=st.sampled_from([timedelta(milliseconds=1), SECOND, SECOND, 10 * SECOND, 30 * SECOND, 300 * SECOND]))
    def time_passes(self, by: timedelta) -> None:
        self.time_passes_by(by)

    @precondition(lambda self: any(call.ends is not None for call in self.model.calls.values()))
    @rule(over=st.sampled_from([ZERO, timedelta(milliseconds=1), -timedelta(milliseconds=1)]))
    def a_lease_ends(self, over: timedelta) -> None:
        """Let time pass until just before, at, or just after the end of the first lease."""
        end = min(call.ends for call in self.model.calls.values() if call.ends is not None)
        self.time_passes_by(max(end - self.clock.now() + over, ZERO))

    @precondition(lambda self: any(call.ends is not None for call in self.model.calls.values()))
    @rule(worker=st.integers(0, 2), draft=drafts)
    def all_leases_end(self, worker: int, draft: Step) -> None:
        """All workers were paused; one of them returns first, with nothing to report."""
        end = max(call.ends for call in self.model.calls.values() if call.ends is not None)
        self.time_passes_by(max(end - self.clock.now(), ZERO))
        self.step(worker, draft, [])

    @rule(
        by=st.sampled_from([timedelta(milliseconds=1), SECOND, 30 * SECOND, 3600 * SECOND]),
        worker=st.integers(0, 2),
        draft=drafts,
    )
    def the_clock_is_set_back(self, by: timedelta, worker: int, draft: Step) -> None:
        """The next step notices it. Something is written before, so that the store knows the old time."""
        self.enqueue([record(f"c{len(self.batches)}", queue="q1")], past=False)
        self.step(worker, replace(draft, queues=QUEUES, want=0), [])
        self.clock.back(by)
        self.model.back(by)
        self.step((worker + 1) % 3, draft, [])
        self.reached["clock back"] += 1

    @rule(query=histories, before=st.sampled_from([None, ZERO, 60 * SECOND, 3600 * SECOND, -61 * SECOND]))
    def read_history(self, query: HistoryQuery, before: timedelta | None) -> None:
        now = self.clock.now()
        query = replace(query, before=None if before is None else now + before)
        answer = self.run(self.driver.history(query))
        assert answer == (now, self.model.history.read(query, now))
        self.reached["history read"] += bool(answer[1])

    def time_passes_by(self, by: timedelta) -> None:
        self.clock.advance(by)
        self.model.advance(by)

    @invariant()
    def both_hold_the_same(self) -> None:
        self.run(self.compare())

    async def compare(self) -> None:
        by_queue: dict[tuple[str, str], int] = {}
        for state in STATES:
            found = await everything(self.driver, state, limit=7)
            assert ids(found) == self.model.listed(state), state
            for one in found:
                assert self.model.calls[one.id].differences(one) == {}
                if log := self.model.calls[one.id].log:
                    assert (await stored(self.driver, one.id)).log == tuple(log)
                    self.reached["log cut"] += len(log) == MOST_LOG_LINES
                    self.reached[f"log of a record that is {state}"] += 1
                by_queue[one.queue, state] = by_queue.get((one.queue, state), 0) + 1
        overview = await self.driver.overview()
        counts = overview.counts
        counted = {(queue, state): getattr(some, state) for queue, some in counts.by_queue.items() for state in STATES}
        assert {place: number for place, number in counted.items() if number} == by_queue
        assert {queue for queue, _ in counted} == {queue for queue, _ in by_queue}
        assert set(overview.paused) == self.model.paused
        for state in STATES:
            assert getattr(counts, state) == len(self.model.listed(state))


def test_a_driver_does_what_the_model_does(driver_name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever is called in whatever order, answers and records are those of the model."""
    reached: Counter[str] = Counter()

    class Machine(DriverMachine):
        def __init__(self) -> None:
            super().__init__(CANDIDATES[driver_name], tmp_path_factory.mktemp("model"), reached)

    missed: list[str] = []
    for number in SEEDS:
        search(seed(number)(Machine), driver_name)
        missed = [what for what in MUST_REACH if not reached[what] and driver_name not in SAME_STORE]
        if not missed and not LONG:
            break
    assert not missed, f"the search never saw: {missed}"


def search(machine: type[DriverMachine], driver_name: str) -> None:
    """Search once."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=SAME_STORE.get(driver_name) or EXAMPLES.get(driver_name, OTHERS),
            stateful_step_count=STEPS,
            deadline=None,
            phases=(Phase.generate,),  # shrinking a failure takes minutes
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
