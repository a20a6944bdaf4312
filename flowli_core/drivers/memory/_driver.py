"""The methods of the contract. Each does its work under one lock and without awaiting, so it is one transition."""

import asyncio
import threading
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from heapq import nlargest, nsmallest

from flowli_core.clock import Clock, SystemClock
from flowli_core.diagnosis import Check
from flowli_core.driver import HeartbeatAnswer, Lease, Step, StepAnswer
from flowli_core.drivers._times import due_at, milliseconds, moment, stamp
from flowli_core.drivers._wakeups import Lines, Waiter
from flowli_core.drivers.memory._step import Steps
from flowli_core.drivers.memory._store import Store
from flowli_core.drivers.memory._watchers import Watchers
from flowli_core.durations import ZERO
from flowli_core.errors import StoreUnavailable
from flowli_core.history import HistoryEntry, HistoryQuery
from flowli_core.limits import MOST_LOOKED_AT, WORKER_LISTED
from flowli_core.new_records import Enqueued, NewRecord
from flowli_core.reports import Report
from flowli_core.stored import (
    FinishedState,
    Found,
    Overview,
    Position,
    QueueCounts,
    RecordById,
    RecordQuery,
    RecordsById,
    RecordsInState,
    ScheduleByKey,
    SchedulesAfter,
    SchedulesDue,
    StateCounts,
    StoredRecord,
    StoredSchedule,
    Watch,
)
from flowli_core.targets import CancelAnswer, RequeueAnswer, Target, check_number


class MemoryDriver:
    """A driver that keeps its records in this process: `close` loses none of them, the end of the process all."""

    is_private = True
    """No other process sees the records, so commands warn of it."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock: Clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._closed = False
        self._lines = Lines()
        self._store = Store()
        self._steps = Steps(self._store)
        self._watchers = Watchers()

    def __repr__(self) -> str:
        return "MemoryDriver()"

    @contextmanager
    def _transition(self) -> Generator[int]:
        """Hold the lock, yield the time, and then wake who waits for what has changed."""
        with self._lock:
            now = stamp(self._clock.now())
            self._store.follow_clock(now)
            yield now
            for queue in self._store.queues.changed:
                self._lines.wake(queue, keep=bool(self._store.queues.due(queue, 1, suspect=True)))
            self._store.queues.changed.clear()
            self._watchers.notify(self._store.moved)
            self._store.moved.clear()

    async def open(self) -> None:
        self._closed = False

    async def close(self) -> None:
        with self._lock:
            self._closed = True
            self._lines.wake_all()
            self._watchers.wake_all()

    async def enqueue(self, records: Sequence[NewRecord]) -> list[Enqueued]:
        with self._transition() as now:
            return self._enqueue(records, now)

    def _enqueue(self, records: Sequence[NewRecord], now: int) -> list[Enqueued]:
        dues = [due_at(record.due, now) for record in records]  # a naive moment raises, before anything is stored
        return [self._store.add(record, due) for record, due in zip(records, dues, strict=True)]

    async def step(self, step: Step) -> StepAnswer:
        if step.wait:
            await self._wait(step, step.wait)
        with self._transition():
            answer = self._steps.take(step)
            for queue in step.queues:
                if not self._store.queues.has_due(queue):
                    self._lines.forget(queue)
            for ack, result in zip(step.acks, answer.acks, strict=True):
                if result == "lost":
                    self._store.take_back_recovery(ack.id, ack.token)
            return answer

    async def _wait(self, step: Step, wait: timedelta) -> None:
        waiter = Waiter(step.queues)
        try:
            with self._transition():
                next_due = self._steps.next_due(step)
                self._lines.join(waiter)
            if self._closed or next_due == ZERO:
                await asyncio.sleep(0)  # a worker that always finds work must let others run
            else:
                await waiter.wait(min(wait, next_due or wait))
        except asyncio.CancelledError:
            with self._lock:
                if waiter.woken_by is not None:
                    self._lines.wake(waiter.woken_by, keep=True)
            raise
        finally:
            with self._lock:
                self._lines.leave(waiter)
        if self._closed:
            raise StoreUnavailable("the driver was closed during a wait")

    async def heartbeat(
        self, worker: str, leases: Sequence[Lease], lease: timedelta, reports: Sequence[Report] = ()
    ) -> HeartbeatAnswer:
        """Extend the leases that the worker holds, also one that has ended but was not recovered yet."""
        lost: set[str] = set()
        cancelled: set[str] = set()
        with self._transition() as now:
            self._steps.note_seen(worker)
            self._steps.store_reports(reports, worker)
            for held in leases:
                record = self._store.records.get(held.id)
                if record is None or not record.is_held(held.token, worker):
                    self._store.take_back_recovery(held.id, held.token)
                    lost.add(held.id)
                    continue
                self._store.renew(record, now + milliseconds(lease))
                if record.cancel_requested:
                    cancelled.add(held.id)
        return HeartbeatAnswer(frozenset(lost), frozenset(cancelled))

    async def cancel(self, targets: Sequence[Target]) -> list[CancelAnswer]:
        check_number(targets)
        with self._transition():
            return [self._cancel(target) for target in targets]

    def _cancel(self, target: Target) -> CancelAnswer:
        record = self._store.records.get(target.id)
        if record is None:
            return "unknown"
        if target.state not in {None, record.state(self._store.now)}:
            return "changed"
        if record.status == "active":
            record.cancel_requested = True
            return "requested"
        if record.status != "waiting":
            return "finished"
        self._store.take_out(record)
        record.expires = None
        self._store.finish(record, "cancelled")
        return "cancelled"

    async def requeue(self, targets: Sequence[Target]) -> list[RequeueAnswer]:
        check_number(targets)
        with self._transition():
            return [self._requeue(target) for target in targets]

    def _requeue(self, target: Target) -> RequeueAnswer:
        record, now = self._store.records.get(target.id), self._store.now
        if record is None:
            return "unknown"
        if target.state not in {None, record.state(now)}:
            return "changed"
        if record.state(now) in {"queued", "active"}:
            return "unfinished"
        if not self._store.holds_key(record):
            return "key_taken"
        self._store.take_out(record)
        record.attempts, record.progress, record.result, record.finished = target.attempts, None, None, None
        record.cancel_requested, record.recoveries, record.expires = False, 0, None
        record.recovered_token, record.taken_back = None, 0
        self._store.make_waiting(record, now)
        return "requeued"

    async def purge(
        self, state: FinishedState, *, older_than: timedelta, limit: int, ids: Sequence[str] | None = None
    ) -> int:
        check_number(ids or ())
        with self._transition() as now:
            before = now - milliseconds(older_than)
            old = self._store.finished[state].until(before - 1, limit if ids is None else None)
            if ids is not None:
                old = [entry for entry in old if entry[1] in ids][: max(limit, 0)]
            return self._store.remove(old)

    async def records(self, query: RecordQuery) -> Found:
        with self._transition() as now:
            if isinstance(query, RecordsInState):
                return self._list(query, now)
            records = self._store.records
            ids = (query.id,) if isinstance(query, RecordById) else query.ids
            found = [records[record_id].stored(now) for record_id in ids if record_id in records]
            if isinstance(query, RecordsById):
                found = [replace(record, input=b"", meta=None, log=()) for record in found]
            return Found(found, looked_at=len(found))

    def _list(self, query: RecordsInState, now: int) -> Found:
        entries = self._store.list_state(query.state)
        if query.after is not None:
            after = (stamp(query.after.at), query.after.id)
            entries = [entry for entry in entries if entry < after]
        page = nlargest(MOST_LOOKED_AT if query.is_filtered() else query.limit, entries)
        found, looked_at = list[StoredRecord](), 0
        for _, record_id in page:
            looked_at += 1
            record = self._store.records[record_id]
            if record.matches(query, now):
                found.append(replace(record.stored(now), log=()))
            if len(found) == query.limit:
                break
        if not query.payloads:
            found = [replace(record, input=b"", meta=None, result=None) for record in found]
        rest = page[looked_at - 1] if 0 < looked_at < len(entries) else None
        return Found(found, rest and Position(moment(rest[0]), rest[1]), looked_at)

    async def watch(self, watch: Watch) -> list[str]:
        waiter = Waiter()
        with self._transition() as now:
            changed = self._watchers.call(watch, now)
            if changed or not watch.wait:
                return changed
            self._watchers.join(watch.watcher, waiter)
        if not self._closed:
            await waiter.wait(watch.wait)
        if self._closed:
            raise StoreUnavailable("the driver was closed during a wait")
        with self._transition() as now:
            return self._watchers.call(Watch(watcher=watch.watcher), now)

    async def history(self, query: HistoryQuery) -> tuple[datetime, list[HistoryEntry]]:
        with self._transition() as now:
            return moment(now), self._store.history.read(query, now)

    async def pause_queue(self, queue: str, *, paused: bool) -> bool:
        with self._transition():
            return self._store.queues.pause(queue) if paused else self._store.queues.resume(queue)

    async def overview(self) -> Overview:
        with self._transition() as now:
            counts, oldest = dict[str, Counter[str]](), dict[str, datetime]()
            for record in self._store.records.values():
                queue, due = record.new.queue, moment(record.due)
                counts.setdefault(queue, Counter())[record.state(now)] += 1
                if record.state(now) == "queued" and record.behind is None:
                    oldest[queue] = min(due, oldest.get(queue, due))
            lanes, lane_count = self._store.lanes.listed()
            return Overview(
                now=moment(now),
                counts=QueueCounts.of({queue: StateCounts(**states) for queue, states in counts.items()}),
                oldest=oldest,
                workers=self._steps.seen_since(now - milliseconds(WORKER_LISTED)),
                paused={queue: moment(since) for queue, since in self._store.queues.paused.items()},
                lanes=lanes,
                lane_count=lane_count,
            )

    async def put_schedule(
        self, key: str, schedule: StoredSchedule | None, *, revision: int, records: Sequence[NewRecord] = ()
    ) -> bool:
        with self._transition() as now:
            current = self._store.schedules.get(key)
            if revision != (0 if current is None else current.revision):
                return False
            accepted = [answer.id for answer in self._enqueue(records, now) if answer.disposition == "accepted"]
            self._store.put_schedule(key, schedule, last_record_id=accepted[-1] if accepted else None)
            return True

    async def schedules(
        self, query: ScheduleByKey | SchedulesDue | SchedulesAfter
    ) -> tuple[datetime, list[StoredSchedule]]:
        with self._transition() as now:
            stored = self._store.schedules
            if isinstance(query, ScheduleByKey):
                keys = [query.key] if query.key in stored else []
            elif isinstance(query, SchedulesDue):
                keys = [key for _, key in self._store.ticks.until(now, query.limit)]
            else:
                keys = nsmallest(query.limit, [key for key in stored if key > (query.after or "")])
            return moment(now), [stored[key] for key in keys]

    async def diagnose(self, *, quick: bool = False) -> list[Check]:  # noqa: ARG002 - it is always quick
        value = "the memory of this process"
        cure = "no other process sees these jobs, and they are lost when it ends: use SQLite or Redis outside of tests"
        return [Check(name="persistence", value=value, verdict="bad", cure=cure)]
