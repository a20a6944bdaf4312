"""A machine that makes random calls to a driver and to its model, and compares them after each."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flowli_core.driver import Ack, Completed, Lease, Outcome, Step
from flowli_core.durations import ZERO
from flowli_core.history import HistoryQuery
from flowli_core.lanes import Lane, Rate
from flowli_core.limits import MOST_LOG_LINES
from flowli_core.new_records import NewRecord
from flowli_core.reports import Report
from flowli_core.stored import FINISHED, STATES
from flowli_core.targets import Target
from flowli_core.testing import ManualClock
from tests.conformance.builders import HOUR, everything, ids, record, stored
from tests.conformance.drivers import Candidate
from tests.conformance.model import Model
from tests.conformance.model_calls import (
    LANES,
    PERIOD,
    QUEUES,
    SECOND,
    Claim,
    GivenReport,
    claims,
    drafts,
    histories,
    leases,
    limits,
    outcomes,
    payloads,
    picks,
    records,
    reports,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable
    from datetime import datetime
    from pathlib import Path

    from flowli_core.stored import FinishedState, Overview, State

T = TypeVar("T")


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
        self.limits = {"api": Lane("api", "", 2, Rate(2, PERIOD)), "tenant": Lane("tenant", "", 1)}
        self.numbers = 0
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

    def send_batch(self, batch: list[NewRecord]) -> None:
        batch = [replace(one, lane=one.lane and self.limited(one.lane)) for one in batch]
        answers = self.run(self.driver.enqueue(batch))
        assert answers == self.model.enqueue(batch)
        self.reached.update([f"enqueue {one.disposition}" for one in answers])
        self.reached["existing completed"] += any(
            one.disposition == "existing" and one.state == "completed" for one in answers
        )
        behind = {one.new.id for one in self.model.calls.values() if one.behind}
        self.reached["behind"] += bool(behind)
        self.reached["replaced behind"] += any(one.disposition == "replaced" and one.id in behind for one in answers)

    def limited(self, lane: Lane) -> Lane:
        """Return a lane with the present concurrency and rate of its limit."""
        return replace(self.limits[lane.limit], value=lane.value)

    @rule(limit=limits)
    def a_limit_changes(self, limit: Lane) -> None:
        """A limit changes in a process that enqueues to all its lanes in all queues, so each of them learns of it."""
        self.limits[limit.limit] = replace(limit, rate=limit.rate if limit.limit == "api" else None)
        lanes = [lane for lane in LANES if lane.limit == limit.limit]
        self.numbers += 1
        self.send_batch(
            [
                record(f"l{self.numbers}{queue}{lane.value}", queue=queue, lane=lane)
                for lane in lanes
                for queue in QUEUES
            ]
        )

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

    @rule(worker=st.integers(0, 2), draft=drafts)
    def a_key_is_kept(self, worker: int, draft: Step) -> None:
        """A record with a unique key completes, if its queue comes to it, and another has the same key."""
        self.numbers += 1
        key = f"u{self.numbers}"
        self.enqueue([record(key, queue="q3", key=key, unique_for=HOUR)], past=False)
        self.step(worker, replace(draft, queues=("q3",), want=4), [])
        self.settle_all(worker, replace(draft, want=0), Completed(b"1"))
        self.enqueue([record(f"v{self.numbers}", queue="q3", key=key)], past=False)

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
        self.compare_lanes(overview)
        for state in STATES:
            assert getattr(counts, state) == len(self.model.listed(state))

    def compare_lanes(self, overview: Overview) -> None:
        expected = self.model.lanes.listed(self.model.calls.values(), self.clock.now())
        # If the rate allows a start exactly when the first record is due, the lane waits for either.
        dues = {call.due for call in self.model.calls.values()}
        lanes, found = (
            {replace(one, blocked=None) if one.blocked == "rate" and one.next_turn in dues else one for one in some}
            for some in (expected, overview.lanes)
        )
        assert found == lanes, (found - lanes, lanes - found)
        assert overview.lane_count == len(overview.lanes) == len(lanes)
        depths = [lane.waiting for lane in overview.lanes]
        assert depths == sorted(depths, reverse=True)
        self.reached.update([f"blocked by {lane.blocked}" for lane in overview.lanes])
        oldest: dict[str, datetime] = {}
        for call in self.model.calls.values():
            if call.state == "queued" and call.behind is None:
                oldest[call.new.queue] = min(call.due, oldest.get(call.new.queue, call.due))
        assert overview.oldest == oldest
