"""A step with its stages: settle, recover, reserve, trim, next."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, assert_never

from flowli_core.driver import (
    Ack,
    AckAnswer,
    Cancelled,
    Completed,
    Expired,
    Failed,
    Recovered,
    Released,
    Retried,
    Step,
    StepAnswer,
)
from flowli_core.drivers._times import duration, milliseconds, moment, stamp
from flowli_core.drivers.memory._index import Entry
from flowli_core.drivers.memory._record import Record
from flowli_core.drivers.memory._store import Store
from flowli_core.history import bucket_of
from flowli_core.limits import EXPIRE_PER_STEP, MAX_BATCH_BYTES, RECOVER_PER_STEP, TRIM_PER_STEP, WORKER_MEMORY, Keep
from flowli_core.reports import Report
from flowli_core.stored import FinishedState, StoredWorker


@dataclass(frozen=True, slots=True)
class LastStep:
    """The last step of a sequence: its answer if it is sent again."""

    sequence: int
    acks: tuple[AckAnswer, ...]
    token: int
    batch: tuple[str, ...]


@dataclass(slots=True, eq=False)
class Worker:
    """A worker: when it was last seen, its description, its last step, and its last waiting step."""

    seen: int
    about: bytes = b""
    steps: dict[bool, LastStep] = field(default_factory=dict[bool, LastStep])


class Steps:
    """The steps of all workers. The driver holds its lock around each call."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._workers: OrderedDict[str, Worker] = OrderedDict()

    def take(self, step: Step) -> StepAnswer:
        """Do a new step, answer one that is sent again, or refuse an older one."""
        last = self._last_step(step)
        acks: tuple[AckAnswer, ...] = tuple(["lost" for _ in step.acks])
        recovered: list[Recovered] = []
        batch: list[Record] = []
        expired: list[Expired] = []
        if last is None or step.sequence > last.sequence:
            # In this order, so that late acks count, and recovered records can be reserved at once.
            self.store_reports(step.reports, step.worker)
            acks = tuple([self._settle(ack, step.worker) for ack in step.acks])
            recovered, left_own = self._recover(step)
            batch, expired = ([], []) if left_own else self._reserve(step)
            if step.acks or not batch:
                self._trim(step.keep)
            self._remember(step, acks, batch)
        elif step.sequence == last.sequence:
            acks = last.acks
            batch = self._reserve_again(step, last)
        if step.leaving:
            self._workers.pop(step.worker, None)
        self._wake_for_rest(step, took_suspect=any(record.is_suspect() for record in batch))
        now, tick = self._store.now, self._store.ticks.first_time()
        return StepAnswer(
            now=moment(now),
            acks=acks,
            reserved=tuple([record.reserved() for record in batch]),
            recovered=tuple(recovered),
            expired=tuple(expired),
            next_due=self.next_due(step),
            next_tick=None if tick is None else duration(max(tick - now, 0)),
            suspect_due=self._is_suspect_due(step),
            forgot=step.wait is None and step.sequence > 1 and (last is None or last.sequence < step.sequence - 1),
        )

    def store_reports(self, reports: Sequence[Report], worker: str) -> None:
        """Store the reports about leases that the worker holds."""
        for report in reports:
            record = self._store.records.get(report.id)
            if record is not None and record.is_held(report.token, worker):
                self._store.moved.append(report.id)
                record.progress = record.progress if report.progress is None else report.progress
                record.log = record.log.extended(report)

    def _settle(self, ack: Ack, worker: str) -> AckAnswer:
        store, record = self._store, self._store.records.get(ack.id)
        if record is None:
            return "lost"
        if not record.is_held(ack.token, worker):
            return "duplicate" if record.settled == ack.token else "lost"
        store.take_out(record)
        record.settled = ack.token
        record.started = record.started if ack.started_at is None else stamp(ack.started_at)
        if not isinstance(ack.outcome, Released):
            started = record.started or store.now
            waited, ran = bucket_of(started - record.due), bucket_of(store.now - started)
            store.history.count(record.new, ("waits", waited), ("runs", ran))
        match ack.outcome:
            case Completed(result):
                record.result = result
                store.finish(record, "completed")
            case Retried(delay, attempts):
                record.attempts, record.failed = attempts, store.now
                store.make_waiting(record, store.now + milliseconds(delay))
                if record.status == "waiting":  # else it was cancelled
                    store.history.count(record.new, "retried")
            case Failed(attempts):
                record.attempts, record.failed = attempts, store.now
                store.finish(record, "failed")
            case Released(delay, attempts):
                record.attempts = record.attempts if attempts is None else attempts
                # Without a delay it keeps its position in the queue.
                store.make_waiting(record, store.now + milliseconds(delay) if delay else min(record.due, store.now))
            case Cancelled():
                store.finish(record, "cancelled")
            case _ as never:
                assert_never(never)
        return "ok"

    def _recover(self, step: Step) -> tuple[list[Recovered], bool]:
        """Return the recovered records, and True if this waiting step has left leases of its own worker as they are."""
        store, left_own = self._store, False
        recovered: list[Recovered] = []
        for _, record_id in store.leases.until(store.now, RECOVER_PER_STEP):
            record = store.records[record_id]
            new = record.new
            is_own = record.worker == step.worker
            if is_own and step.wait is not None:
                left_own = True
                continue
            if not is_own:
                record.recoveries, record.recovered_token = record.recoveries + 1, record.token
            store.take_out(record)
            store.history.count(new, "recovered")
            state: Literal["queued", "failed", "cancelled"]
            if record.cancel_requested:
                state = "cancelled"
                store.finish(record, "cancelled")
            elif record.recoveries > new.max_recoveries:
                state = "failed"
                store.finish(record, "failed")
            else:
                state = "queued"
                store.make_waiting(record, min(record.due, store.now))
            recovered.append(
                Recovered(
                    id=new.id,
                    name=new.name,
                    queue=new.queue,
                    meta=new.meta,
                    recoveries=record.recoveries,
                    state=state,
                )
            )
        return recovered, left_own

    def _reserve(self, step: Step) -> tuple[list[Record], list[Expired]]:
        """Reserve records, and cancel those that have expired instead."""
        store = self._store
        token = store.next_number(store.token, step.last_token)
        lease_end = store.now + milliseconds(step.lease)
        batch: list[Record] = []
        expired: list[Expired] = []
        size = 0
        for record in self._find_due(step, batch):
            if record.expires is not None and record.expires <= store.now:
                if len(expired) == EXPIRE_PER_STEP:
                    break
                store.take_out(record)
                store.finish(record, "cancelled")
                store.lanes.refresh(record, served=True)
                expired.append(Expired(record.new.id, record.new.name, record.new.queue))
                continue
            size += len(record.new.input)
            if batch and size > MAX_BATCH_BYTES:
                break
            store.take_out(record)
            store.make_active(record, worker=step.worker, token=token, lease_end=lease_end)
            store.lanes.refresh(record, served=True)
            batch.append(record)
            if record.is_suspect():
                break
        return batch, expired

    def _find_due(self, step: Step, batch: list[Record]) -> Iterator[Record]:
        """Yield the due records in the order of their turns, in rounds, until the batch is full.

        What is due when a round begins has one turn in it. A suspect has a turn only if the batch is empty.
        """
        store = self._store
        for queue in dict.fromkeys(step.queues):
            while entries := self._begin_round(queue, step, batch):
                for _, key in entries:
                    record = store.find_first(queue, key)
                    if record is not None and not (batch and record.is_suspect()):
                        yield record
                        if record.is_suspect():
                            break  # it has expired; now the next suspect may come before the other entries

    def _begin_round(self, queue: str, step: Step, batch: list[Record]) -> list[Entry]:
        room = step.want - len(batch)
        due = self._store.queues.due(queue, room)
        if step.suspect and step.wait is None and not batch and room > 0:
            suspects = self._store.queues.due(queue, 1, suspect=True)
            # After a full round come the other records that are due.
            due = sorted(due + [one for one in suspects if len(due) < room or one < due[-1]])
        return due

    def _reserve_again(self, step: Step, last: LastStep) -> list[Record]:
        self.note_seen(step.worker)
        records = [self._store.records[record_id] for record_id in last.batch if record_id in self._store.records]
        batch = [record for record in records if record.is_held(last.token, step.worker)]
        for record in batch:
            self._store.renew(record, self._store.now + milliseconds(step.lease))
        return batch

    def _trim(self, keep: Keep) -> None:
        store = self._store
        budget = TRIM_PER_STEP - store.remove(store.expiries.until(store.now, TRIM_PER_STEP))
        limits: tuple[tuple[FinishedState, int], ...] = (
            ("completed", keep.completed),
            ("failed", keep.failed),
            ("cancelled", keep.cancelled),
        )
        for state, limit in limits:
            entries = store.finished[state].entries
            budget -= store.remove(entries[: max(min(len(entries) - limit, budget), 0)])
        store.taken_ids.trim(store.now, TRIM_PER_STEP)
        store.kept_keys.trim(store.now, TRIM_PER_STEP)
        store.lanes.trim(TRIM_PER_STEP)

    def next_due(self, step: Step) -> timedelta | None:
        """Return the time until there is something to do in the queues of a step: see StepAnswer."""
        store = self._store
        tick = store.ticks.first_time()
        times = [store.leases.first_time(), tick if tick is not None and tick > store.now else None]
        for queue in [queue for queue in step.queues if queue not in store.queues.paused]:
            if ordinary := store.queues.orders.get((queue, False)):
                times.append(ordinary.first_time())
            if suspects := store.queues.orders.get((queue, True)):
                due = len(suspects.until(store.now))
                times += [time for time, _ in suspects.entries[due : due + 1]]
        known = [time for time in times if time is not None]
        return duration(max(min(known) - store.now, 0)) if known else None

    def _is_suspect_due(self, step: Step) -> bool:
        for queue in step.queues:
            others, suspects = self._store.queues.due(queue, 1), self._store.queues.due(queue, 1, suspect=True)
            if suspects and (not others or suspects[0][0] < others[0][0]):
                return True
            if others:
                return False
        return False

    def _wake_for_rest(self, step: Step, *, took_suspect: bool) -> None:
        """Wake another waiter for what this step has left, and for the next suspect if this step has reserved one."""
        due, changed = self._store.queues.due, self._store.queues.changed
        changed.update(
            [queue for queue in step.queues if due(queue, 1) or (took_suspect and due(queue, 1, suspect=True))]
        )

    def _last_step(self, step: Step) -> LastStep | None:
        forgotten = self._store.now - milliseconds(WORKER_MEMORY)
        while self._workers and next(iter(self._workers.values())).seen <= forgotten:
            self._workers.popitem(last=False)
        worker = self._workers.get(step.worker)
        return None if worker is None else worker.steps.get(step.wait is not None)

    def _remember(self, step: Step, acks: tuple[AckAnswer, ...], batch: list[Record]) -> None:
        worker = self._workers.setdefault(step.worker, Worker(self._store.now))
        worker.about = worker.about if step.about is None else step.about
        ids = tuple([record.new.id for record in batch])
        worker.steps[step.wait is not None] = LastStep(step.sequence, acks, self._store.token, ids)
        self.note_seen(step.worker)

    def note_seen(self, worker: str) -> None:
        """Note that a worker is alive, if it has stepped before."""
        if worker in self._workers:
            self._workers[worker].seen = self._store.now
            self._workers.move_to_end(worker)

    def seen_since(self, time: int) -> dict[str, StoredWorker]:
        """Return the workers that were seen after a time."""
        return {
            name: StoredWorker(seen=moment(worker.seen), about=worker.about)
            for name, worker in self._workers.items()
            if worker.seen > time
        }
