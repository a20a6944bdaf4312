"""What every driver does, method by method.

Each method does all of its work under one lock and without awaiting, so each is one transition, whatever threads and
event loops call it. Being in an index of the store is the state of a record, and its token is there only while it is
active: so nothing can be settled twice, and nothing be in two places.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from heapq import nlargest

from flowli_core.clock import Clock, SystemClock
from flowli_core.driver import (
    WORKER_ALIVE,
    CancelAnswer,
    Check,
    Enqueued,
    HeartbeatAnswer,
    Lease,
    NewRecord,
    RequeueAnswer,
    Step,
    StepAnswer,
)
from flowli_core.drivers._times import due_at, milliseconds, moment, stamp
from flowli_core.drivers.memory._schedules import Schedules
from flowli_core.drivers.memory._steps import Steps
from flowli_core.drivers.memory._store import Store
from flowli_core.drivers.memory._wakeups import Waiter, WakeUps
from flowli_core.errors import StoreUnavailable
from flowli_core.stored import (
    FinishedState,
    Overview,
    RecordById,
    RecordsInState,
    ScheduleByKey,
    SchedulesAfter,
    SchedulesDue,
    StoredRecord,
    StoredSchedule,
)


class MemoryDriver:
    """A driver that keeps its records in this process: `close` loses none of them, the end of the process all."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock: Clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._store = Store()
        self._schedules = Schedules()
        self._steps = Steps(self._store, self._schedules)
        self._wakeups = WakeUps()
        self._closed = False

    def __repr__(self) -> str:
        return "MemoryDriver()"

    async def open(self) -> None:
        """Let `wait` wait again after a `close`."""
        with self._lock:
            self._closed = False

    async def close(self) -> None:
        """Let the waiters return. The records stay."""
        with self._lock:
            self._closed = True
            self._wakeups.release_all()

    async def enqueue(self, records: Sequence[NewRecord]) -> list[Enqueued]:
        """Store the records, all or none, and answer for each in its place."""
        with self._lock:
            now = self._read_clock()
            dues = [due_at(record.due, now) for record in records]  # a naive moment raises, before anything is stored
            answers = [self._store.add(record, due) for record, due in zip(records, dues, strict=True)]
            self._wake()
            return answers

    async def step(self, step: Step) -> StepAnswer:
        """Wait if the step says so; then settle, recover, reserve, trim."""
        if step.wait:
            await self._wait(step.queues, step.wait)
        with self._lock:
            now = self._read_clock()
            self._store.promote(step.queues)
            answer = self._steps.take(step, now)
            self._wake_after(step)
            return answer

    async def _wait(self, queues: tuple[str, ...], timeout: timedelta) -> None:
        """Take the wake-up of one of the queues, or wait for one."""
        waiter = Waiter(queues, timeout)
        try:
            with self._lock:
                self._read_clock()
                self._store.promote(queues)
                self._wake()
                ready = self._closed or self._wakeups.join(waiter)
            if ready:
                waiter.call(waiter.release)  # soon, not now: a worker that always finds work must let others run
            else:
                self._keep_time(waiter)
            await waiter.future
        except asyncio.CancelledError:
            with self._lock:
                if waiter.woken_by is not None:  # no step will follow, so the wake-up is the next one's
                    self._wakeups.arm(waiter.woken_by)
            raise
        finally:
            waiter.stop_alarm()
            with self._lock:
                self._wakeups.leave(waiter)
        if self._closed:
            raise StoreUnavailable("the driver was closed during a wait")

    async def heartbeat(self, worker: str, leases: Sequence[Lease], lease: timedelta) -> HeartbeatAnswer:
        """Extend the leases whose token is current: also one that has ended, where nobody has recovered it yet."""
        lost: set[str] = set()
        cancelled: set[str] = set()
        with self._lock:
            now = self._read_clock()
            self._steps.note_seen(worker, now)
            for held in leases:
                record = self._store.records.get(held.id)
                if record is None or record.token != held.token:
                    lost.add(held.id)
                    continue
                self._store.leases.put(held.id, now + milliseconds(lease))
                if record.cancel:
                    cancelled.add(held.id)
        return HeartbeatAnswer(frozenset(lost), frozenset(cancelled))

    async def cancel(self, record_id: str) -> CancelAnswer:
        """Cancel a waiting record at once; ask for an active one."""
        with self._lock:
            self._read_clock()
            record = self._store.records.get(record_id)
            if record is None:
                return "unknown"
            if record.status == "active":
                record.cancel = True
                return "requested"
            if record.status != "waiting":
                return "finished"
            self._store.leave(record)
            self._store.finish(record, "cancelled")
            return "cancelled"

    async def requeue(self, record_id: str, *, progress: bytes | None = None) -> RequeueAnswer:
        """Make a finished or scheduled record due now, as if no worker had ever been lost with it."""
        with self._lock:
            now = self._read_clock()
            record = self._store.records.get(record_id)
            if record is None:
                return "unknown"
            if record.state(now) in {"queued", "active"}:
                return "unfinished"
            key = record.new.key
            if key is not None and self._store.keys.setdefault(key, record_id) != record_id:
                return "key_taken"
            self._store.leave(record)
            record.progress = progress
            record.result = None
            record.finished = None
            record.cancel = False
            record.recoveries = 0
            self._store.put_back(record, now)
            self._wake()
            return "requeued"

    async def purge(self, state: FinishedState, *, older_than: timedelta, limit: int) -> int:
        """Remove up to `limit` records that finished in this state more than `older_than` ago, the oldest first."""
        with self._lock:
            until = self._read_clock() - milliseconds(older_than) - 1
            removed = 0
            while removed < limit and (oldest := self._store.finished[state].first_until(until)) is not None:
                self._store.remove(oldest)
                removed += 1
            self._wake()
            return removed

    async def records(self, query: RecordById | RecordsInState) -> list[StoredRecord]:
        with self._lock:
            now = self._read_clock()
            records = self._store.records
            if isinstance(query, RecordById):
                return [records[query.id].stored(now)] if query.id in records else []
            places = self._store.places(query.state)
            if query.after is not None:
                end = (stamp(query.after.at), query.after.id)
                places = (place for place in places if place < end)
            page = [records[record_id].stored(now) for _, record_id in nlargest(query.limit, places)]
            self._wake()
            return page

    async def overview(self) -> Overview:
        with self._lock:
            now = self._read_clock()
            counts = self._store.counts()
            seen = self._steps.seen_since(now - milliseconds(WORKER_ALIVE))
            oldest: dict[str, int] = {}
            for due, record_id in self._store.places("queued"):
                queue = self._store.records[record_id].new.queue
                oldest[queue] = min(due, oldest.get(queue, due))
            self._wake()
            return Overview(
                now=moment(now),
                counts=counts,
                oldest={name: moment(due) for name, due in oldest.items()},
                workers={name: moment(at) for name, at in seen.items()},
            )

    async def put_schedule(
        self, key: str, schedule: StoredSchedule | None, *, revision: int, records: Sequence[NewRecord] = ()
    ) -> bool:
        with self._lock:
            now = self._read_clock()
            if not self._schedules.is_current(key, revision):
                return False
            if schedule is None:
                self._schedules.remove(key)
                return True
            dues = [due_at(record.due, now) for record in records]
            answers = [self._store.add(record, due) for record, due in zip(records, dues, strict=True)]
            accepted = [answer.id for answer in answers if answer.disposition == "accepted"]
            before = self._schedules.first_tick()
            self._schedules.put(schedule, last_record_id=accepted[-1] if accepted else None)
            self._wake()
            first = self._schedules.first_tick()
            if first is not None and (before is None or first < before):
                self._wakeups.arm(schedule.queue)  # somebody must learn of the time
            return True

    async def schedules(
        self, query: ScheduleByKey | SchedulesDue | SchedulesAfter
    ) -> tuple[datetime, list[StoredSchedule]]:
        with self._lock:
            now = self._read_clock()
            return moment(now), self._schedules.find(query, now)

    async def diagnose(self) -> list[Check]:
        """Tell how the store is: for `flowli doctor`."""
        value = "the memory of this process"
        cure = "nobody else sees these jobs, and its end loses them: use SQLite or Redis beside tests"
        return [Check(name="persistence", value=value, verdict="warning", cure=cure)]

    # Time, and who is told what it brings.

    def _read_clock(self) -> int:
        return self._store.tick(stamp(self._clock.now()))

    def _wake(self) -> None:
        """Wake one waiter of each stirred queue where something is due; the others may have to watch for less long."""
        for name in self._store.stirred:
            queue = self._store.queues.get(name)
            if queue is None:
                self._wakeups.disarm(name)
                continue
            if queue.has_due():
                self._wakeups.arm(name)
            later = queue.next_later()
            for waiter in self._wakeups.line(name):
                if later is not None and (waiter.alarm_for is None or later < waiter.alarm_for):
                    waiter.alarm_for = later
                    waiter.call(partial(self._keep_time, waiter))
        self._store.stirred.clear()

    def _wake_after(self, step: Step) -> None:
        """Let another take what this step has left; but not what it would not take, or its runner ran in circles."""
        for name in step.queues:
            queue = self._store.queues.get(name)
            if queue is None or not queue.has_due():
                self._wakeups.disarm(name)
            elif queue.has_due(suspects=step.suspect):
                self._store.stirred.add(name)
        self._wake()

    def _keep_time(self, waiter: Waiter) -> None:
        """Wake one waiter when a scheduled record becomes due; release this one when its time is up."""
        with self._lock:
            now = self._read_clock()
            self._store.promote(waiter.queues)
            self._wake()
            left = waiter.deadline - waiter.loop.time()
            if left <= 0:
                waiter.call(waiter.release)
            if left <= 0 or waiter.future.done():
                return
            laters = [queue.next_later() for queue in self._store.named(waiter.queues)]
            waiter.alarm_for = min((later for later in laters if later is not None), default=None)
            if waiter.alarm_for is not None:
                left = min(left, (waiter.alarm_for - now) / 1000)
            waiter.set_alarm(left, partial(self._keep_time, waiter))
