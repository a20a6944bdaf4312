"""The rules of the contract in the simplest form: a dict of records that is searched from end to end each time.

It is slow and has no indexes, so that it is easy to see that it is right. Times are those of the ManualClock.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from hypothesis import assume

from flowli_core.driver import (
    Ack,
    AckAnswer,
    Cancelled,
    Completed,
    Failed,
    HeartbeatAnswer,
    Lease,
    Released,
    Retried,
    Step,
    StepAnswer,
)
from flowli_core.durations import ZERO
from flowli_core.limits import MOST_TAKEN_BACK, WORKER_MEMORY
from flowli_core.new_records import Enqueued
from flowli_core.stored import FINISHED
from tests.conformance.model_history import HistoryModel
from tests.conformance.model_lanes import Entry, LanesModel, lane_key
from tests.conformance.model_records import Call, LastStep, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flowli_core.new_records import NewRecord
    from flowli_core.reports import Report
    from flowli_core.stored import FinishedState, State
    from flowli_core.targets import CancelAnswer, RequeueAnswer, Target


@dataclass(slots=True)
class Model:
    """A model of a driver. It follows and checks the tokens, which a driver may choose."""

    now: datetime
    calls: dict[str, Call] = field(default_factory=dict[str, Call])
    workers: dict[str, Worker] = field(default_factory=dict[str, Worker])
    tokens: list[int] = field(default_factory=lambda: [0])
    history: HistoryModel = field(default_factory=HistoryModel)
    taken_back: int = 0
    """The number of recoveries that were taken back."""
    paused: set[str] = field(default_factory=set[str])
    """The paused queues."""
    lanes: LanesModel = field(default_factory=LanesModel)
    kept_keys: dict[str, tuple[datetime, str]] = field(default_factory=dict[str, tuple[datetime, str]])
    """The keys of completed records: until when, and whose."""

    def refresh(self, served: tuple[str, str] | None = None) -> None:
        """Set the turns of all lanes anew. One lane of a queue may have been served."""
        self.lanes.refresh(self.calls.values(), self.now, served)

    def advance(self, by: timedelta) -> None:
        """Let time pass: scheduled records become due, and workers not seen for long are forgotten."""
        self.now += by
        for call in self.calls.values():
            if call.state == "scheduled" and call.due <= self.now:
                call.state = "queued"
        self.workers = {name: one for name, one in self.workers.items() if one.seen + WORKER_MEMORY > self.now}

    def back(self, by: timedelta) -> None:
        """Set the clock back between two steps: what was due stays due, and leases keep the time that they had left."""
        seen, self.now = self.now, self.now - by
        self.kept_keys = {key: kept for key, kept in self.kept_keys.items() if kept[0] > seen}  # the others are gone
        for call in self.calls.values():
            if call.ends is not None and call.ends > self.now:
                call.ends = max(call.ends - by, self.now)
            if call.state == "queued" and self.now < call.due <= seen:
                call.due = self.now
        self.lanes.follow_clock(self.now)
        self.refresh()

    def enqueue(self, records: Sequence[NewRecord]) -> list[Enqueued]:
        """Store the records that are new."""
        return [self._enqueue(new) for new in records]

    def _enqueue(self, new: NewRecord) -> Enqueued:
        if new.id in self.calls:
            return self.calls[new.id].enqueued("duplicate")
        if new.key in self.kept_keys and self.kept_keys[new.key][0] > self.now:
            kept = self.kept_keys[new.key][1]
            if kept in self.calls and self.calls[kept].new.key == new.key:
                return self.calls[kept].enqueued("existing")
            return Enqueued(id=kept, disposition="existing", state="completed", scheduled_for=self.now)
        holder = self._holder(new.key)
        if holder is not None and new.on_conflict == "keep":
            return holder.enqueued("existing")
        if holder is not None and holder.state != "active":
            del self.calls[holder.new.id]
            self.refresh()
            call = self._store(replace(new, id=holder.new.id), created_at=holder.created_at, behind=holder.behind)
            return call.enqueued("replaced")
        call = self._store(new, created_at=self.now, behind=None if holder is None else holder.new.id)
        self.history.count(self.now, new, "enqueued")
        return call.enqueued("accepted")

    def _store(self, new: NewRecord, *, created_at: datetime, behind: str | None) -> Call:
        due = new.due if isinstance(new.due, datetime) else self.now + new.due
        latest = due if new.max_wait is None else created_at + new.max_wait
        call = self.calls[new.id] = Call(new, created_at, self.now, "queued", behind=behind)
        if new.lane is not None:
            self.lanes.limits[new.lane.limit] = new.lane
        self._wait(call, max(min(due, latest), self.now))
        call.expires = call.due + new.expires if isinstance(new.expires, timedelta) else new.expires
        return call

    def step(self, step: Step, answer: StepAnswer) -> None:
        """Do a step, and check the driver's answer against it."""
        self._step(step, answer)
        for ack, result in zip(step.acks, answer.acks, strict=True):
            if result == "lost":
                self._take_back_recovery(ack.id, ack.token)

    def _step(self, step: Step, answer: StepAnswer) -> None:
        assert answer.now == self.now
        waits = step.wait is not None
        last = self.last_step(step.worker, waits=waits)
        if last is not None and step.sequence < last.sequence:
            assert answer.acks == ("lost",) * len(step.acks)
            assert (answer.reserved, answer.recovered, answer.expired) == ((), (), ())
            return
        if last is not None and step.sequence == last.sequence:
            held = [(one, token) for one, token in last.batch if self._is_held(one, token, step.worker)]
            assert answer.acks == last.acks
            assert sorted([(one.id, one.token) for one in answer.reserved]) == sorted(held), (answer.reserved, held)
            assert (answer.recovered, answer.expired) == ((), ())
            for record_id, _ in held:
                self.calls[record_id].ends = self.now + step.lease
            self.workers[step.worker].seen = self.now
        else:
            self._report(step.reports, step.worker)
            assert answer.acks == tuple(self._settle(ack, step.worker) for ack in step.acks)
            left_own = self._recover(step, answer)
            batch = self._reserve(replace(step, want=0) if left_own else step, answer)
            if step.acks or not batch:
                self._trim(step)
            worker = self.workers.setdefault(step.worker, Worker(self.now))
            worker.seen = self.now
            worker.steps[waits] = LastStep(step.sequence, answer.acks, batch)
        for one in answer.reserved:
            call = self.calls[one.id]
            new = call.new
            assert (one.name, one.queue, one.input, one.meta) == (new.name, new.queue, new.input, new.meta)
            assert (one.policy, one.attempts) == (new.policy, call.attempts)
            assert (one.recoveries, one.suspect) == (call.recoveries, call.is_suspect())
        assert answer.next_due == self._next_due(step)
        assert answer.suspect_due == self._suspect_due(step)

    def last_step(self, worker: str, *, waits: bool) -> LastStep | None:
        """Return the last step of a worker, or its last waiting step."""
        return self.workers[worker].steps.get(waits) if worker in self.workers else None

    def heartbeat(
        self, worker: str, leases: Sequence[Lease], lease: timedelta, reports: Sequence[Report]
    ) -> HeartbeatAnswer:
        """Extend the leases that are held, and store the reports."""
        self._report(reports, worker)
        held = {one.id for one in leases if self._is_held(one.id, one.token, worker)}
        for one in held:
            self.calls[one].ends = self.now + lease
        if worker in self.workers:
            self.workers[worker].seen = self.now
        lost = frozenset(one.id for one in leases if one.id not in held)
        for lease_of in leases:
            if lease_of.id in lost:
                self._take_back_recovery(lease_of.id, lease_of.token)
        return HeartbeatAnswer(lost, frozenset(one for one in held if self.calls[one].cancel))

    def cancel(self, target: Target) -> CancelAnswer:
        """Cancel a record, or request it."""
        call = self.calls.get(target.id)
        if call is None:
            return "unknown"
        if target.state not in {None, call.state}:
            return "changed"
        if call.state == "active":
            call.cancel = True
            return "requested"
        if call.state in FINISHED:
            return "finished"
        call.expires = None
        self._finish(call, "cancelled")
        return "cancelled"

    def requeue(self, target: Target) -> RequeueAnswer:
        """Return a record to its queue."""
        call = self.calls.get(target.id)
        if call is None:
            return "unknown"
        if target.state not in {None, call.state}:
            return "changed"
        if call.state in {"queued", "active"}:
            return "unfinished"
        if call.state in FINISHED and call.new.key is not None:
            until, kept = self.kept_keys.get(call.new.key, (self.now, ""))
            if self._holder(call.new.key) or (until > self.now and kept != call.new.id):
                return "key_taken"
            self.kept_keys.pop(call.new.key, None)
        call.recovered_token, call.taken_back = None, 0
        call.recoveries, call.cancel, call.attempts = 0, False, target.attempts
        call.result = call.finished_at = call.progress = call.expires = None
        self._wait(call, self.now)
        return "requeued"

    def purge(self, state: FinishedState, older_than: timedelta, limit: int, ids: Sequence[str] | None) -> int:
        """Remove the oldest finished records, or the oldest of some."""
        old = [call for call in self.oldest_first(state) if call.end() < self.now - older_than]
        old = [call for call in old if ids is None or call.new.id in ids][:limit]
        for call in old:
            del self.calls[call.new.id]
        return len(old)

    def listed(self, state: State) -> list[str]:
        """Return the ids of the records in a state, newest first."""
        times: dict[State, dict[str, datetime | None]] = {
            "queued": {one: call.due for one, call in self.calls.items()},
            "scheduled": {one: call.due for one, call in self.calls.items()},
            "active": dict.fromkeys(self.calls, self.now),
        }
        ends = {one: call.finished_at for one, call in self.calls.items()}
        here = [one for one, call in self.calls.items() if call.state == state]
        return sorted(here, key=lambda one: (times.get(state, ends)[one] or self.now, one), reverse=True)

    def oldest_first(self, state: FinishedState) -> list[Call]:
        """Return the records that finished in a state."""
        here = [call for call in self.calls.values() if call.state == state]
        return sorted(here, key=lambda call: (call.end(), call.new.id))

    def _report(self, reports: Sequence[Report], worker: str) -> None:
        for report in reports:
            if not self._is_held(report.id, report.token, worker):
                continue
            self.calls[report.id].report(report)

    def _settle(self, ack: Ack, worker: str) -> AckAnswer:
        call = self.calls.get(ack.id)
        if call is None or not self._is_held(ack.id, ack.token, worker):
            return "duplicate" if call is not None and call.settled == ack.token else "lost"
        call.token, call.settled, call.ends = None, ack.token, None
        call.started_at = ack.started_at or call.started_at
        if not isinstance(ack.outcome, Released):
            self.history.count_attempt(self.now, call.new, due=call.due, started=call.started_at)
        match ack.outcome:
            case Completed(result):
                call.result = result
                self._finish(call, "completed")
            case Failed(attempts):
                call.attempts, call.failed_at = attempts, self.now
                self._finish(call, "failed")
            case Retried(delay, attempts):
                call.attempts, call.failed_at = attempts, self.now
                if not call.cancel:
                    self.history.count(self.now, call.new, "retried")
                self._wait(call, self.now + delay)
            case Released(delay, attempts):
                call.attempts = call.attempts if attempts is None else attempts
                self._wait(call, self.now + delay if delay else min(call.due, self.now))
            case Cancelled():
                self._finish(call, "cancelled")
        return "ok"

    def _recover(self, step: Step, answer: StepAnswer) -> bool:
        """Recover the expired leases. Return True if those of the worker are left as they are."""
        expired = [call for call in self.calls.values() if call.ends is not None and call.ends <= self.now]
        own = [call for call in expired if call.worker == step.worker]
        if step.wait is not None:
            expired = [call for call in expired if call not in own]
        for call in expired:
            if call.worker != step.worker:
                call.recoveries, call.recovered_token = call.recoveries + 1, call.token
            call.token = call.ends = None
            call.state = "queued"
            self.refresh()
            self.history.count(self.now, call.new, "recovered")
            if call.recoveries > call.new.max_recoveries and not call.cancel:
                self._finish(call, "failed")
            else:
                self._wait(call, min(call.due, self.now))
        reported = sorted(answer.recovered, key=lambda one: one.id)
        mine = [(call.new.id, call.new.name, call.new.queue, call.recoveries, call.state) for call in expired]
        assert [(one.id, one.name, one.queue, one.recoveries, one.state) for one in reported] == sorted(mine)
        assert all(one.meta == self.calls[one.id].new.meta for one in reported)
        return step.wait is not None and bool(own)

    def _take_back_recovery(self, record_id: str, token: int) -> None:
        call = self.calls.get(record_id)
        unfinished = call is not None and call.state not in FINISHED
        if call is not None and unfinished and call.recovered_token == token and call.taken_back < MOST_TAKEN_BACK:
            call.recoveries, call.recovered_token, call.taken_back = call.recoveries - 1, None, call.taken_back + 1
            self.taken_back += 1
            self.refresh()

    def _trim(self, step: Step) -> None:
        for state in FINISHED:
            for call in self.oldest_first(state):
                keep = call.new.keep_completed if state == "completed" else call.new.keep_failed
                if call.end() + keep <= self.now:
                    del self.calls[call.new.id]
            most: int = getattr(step.keep, state)
            left = self.oldest_first(state)
            for call in left[: max(len(left) - most, 0)]:
                del self.calls[call.new.id]

    def _reserve(self, step: Step, answer: StepAnswer) -> list[tuple[str, int]]:
        expected: list[Call] = []
        expired: list[tuple[str, str, str]] = []
        suspects = [entry for queue in step.queues for entry in self._entries(queue) if entry.suspect and step.suspect]
        for call in self._turns(step, expected):
            if call.expires is not None and call.expires <= self.now:
                self._finish(call, "cancelled")
                expired.append((call.new.id, call.new.name, call.new.queue))
            else:
                call.state, call.expires = "active", None
                self.lanes.start(call.new.lane, self.now)
                expected.append(call)
            self.refresh(served=(call.new.queue, lane_key(call.new.lane)))
        # After an expired record, the stores differ in whether a suspect or a lane comes next.
        assume(not (expired and suspects) or [one.id for one in answer.reserved] == [call.new.id for call in expected])
        assert sorted([(one.id, one.name, one.queue) for one in answer.expired]) == sorted(expired)
        assert [one.id for one in answer.reserved] == [call.new.id for call in expected]
        if not expected:
            return []
        (token,) = {one.token for one in answer.reserved}
        assert token > max(*self.tokens, step.last_token), "a token was used before, or does not grow"
        self.tokens.append(token)
        for call in expected:
            call.token, call.worker = token, step.worker
            call.ends, call.started_at = self.now + step.lease, self.now
        return [(call.new.id, token) for call in expected]

    def _turns(self, step: Step, taken: list[Call]) -> Iterator[Call]:
        """Return the records in the order of their turns. What is due when a round begins has one turn in it."""
        for queue in dict.fromkeys(step.queues):
            while len(taken) < step.want and not (taken and taken[0].is_suspect()):
                entries = [one for one in self._entries(queue) if one.time <= self.now]
                ordinary = [one for one in entries if not one.suspect][: step.want - len(taken)]
                suspects = [one for one in entries if one.suspect and step.suspect and step.wait is None and not taken]
                if not ordinary and not suspects:
                    break
                room = step.want - len(taken)
                suspects = [one for one in suspects[:1] if len(ordinary) < room or one < ordinary[-1]]
                for entry in sorted([*ordinary, *suspects]):
                    if not (entry.suspect and taken):
                        yield self.calls[entry.record_id]
                        if entry.suspect:
                            break

    def _entries(self, queue: str) -> list[Entry]:
        """Return the entries in the order of a queue: its records in no lane, and its lanes that may go on."""
        if queue in self.paused:
            return []
        here = [call for call in self.calls.values() if call.new.queue == queue and call.is_waiting()]
        plain = [Entry(one.due, one.new.id, one.new.id, one.is_suspect()) for one in here if one.new.lane is None]
        return sorted([*plain, *self.lanes.entries(queue, here)])

    def _next_due(self, step: Step) -> timedelta | None:
        waits = [call.ends - self.now for call in self.calls.values() if call.ends is not None]
        entries = [entry for queue in step.queues for entry in self._entries(queue)]
        waits += [entry.time - self.now for entry in entries if entry.time > self.now or not entry.suspect]
        return max(min(waits), ZERO) if waits else None

    def _suspect_due(self, step: Step) -> bool:
        for queue in step.queues:
            if due := [entry for entry in self._entries(queue) if entry.time <= self.now]:
                return all(entry.suspect for entry in due if entry.time == due[0].time)
        return False

    def _wait(self, call: Call, due: datetime) -> None:
        if call.cancel:
            self._finish(call, "cancelled")
            return
        call.due = due
        call.state = "queued" if due <= self.now else "scheduled"
        self.refresh()

    def _finish(self, call: Call, state: FinishedState) -> None:
        key, until = call.new.key, call.created_at + call.new.unique_for
        is_kept = state == "completed" and bool(call.new.unique_for) and until > self.now
        if key is not None and self._holder(key) is call and is_kept:
            self.kept_keys[key] = (until, call.new.id)
        call.state, call.finished_at, call.behind = state, self.now, None
        for other in self.calls.values():
            other.behind = None if other.behind == call.new.id else other.behind
        self.refresh()
        self.history.count(self.now, call.new, state)

    def _holder(self, key: str | None) -> Call | None:
        """Return the unfinished record that holds a key: the one that is behind another, if there is one."""
        unfinished = [call for call in self.calls.values() if call.state not in FINISHED and call.new.key == key]
        return max(unfinished, key=lambda call: call.behind is not None, default=None) if key is not None else None

    def _is_held(self, record_id: str, token: int, worker: str) -> bool:
        call = self.calls.get(record_id)
        return call is not None and (call.token, call.worker) == (token, worker)
