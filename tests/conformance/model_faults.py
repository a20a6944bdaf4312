"""A machine that also makes the calls of faults: those that are repeated, late, or made by workers that had died."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from flowli_core.driver import Ack, Outcome, Step
from flowli_core.durations import ZERO
from tests.conformance.builders import record
from tests.conformance.model_calls import QUEUES, SECOND, drafts, outcomes, picks
from tests.conformance.model_machine import DriverMachine


class FaultyMachine(DriverMachine):
    """A driver, its model, and three workers that misbehave."""

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

    @rule(pick=picks)
    def an_enqueue_is_sent_again(self, pick: int) -> None:
        """It is a repetition, or a copy that the network delayed."""
        self.send_batch(self.batches[pick % len(self.batches)])

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
        """The next step notices it. Something is written before, so that the store knows the old time.

        There must be no start that counts: a driver may have forgotten it, or let it count as now when it is read.
        There must be no turn to come: a driver may let it begin now, and compute it when a step comes to it.
        """
        self.enqueue([record(f"c{len(self.batches)}", queue="q1")], past=False)
        self.step(worker, replace(draft, queues=QUEUES, want=0), [])
        lanes, now = self.model.lanes, self.clock.now()
        if lanes.has_late_start(now, by) or any(turn > now for turn in lanes.turns.values()):
            return
        self.clock.back(by)
        self.model.back(by)
        self.step((worker + 1) % 3, draft, [])
        self.reached["clock back"] += 1
