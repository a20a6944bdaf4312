"""A step of the memory driver: settle, recover, reserve, trim; and what is remembered of each worker."""

from __future__ import annotations

from collections import OrderedDict
from datetime import timedelta
from typing import Literal, assert_never

from flowli_core.driver import (
    MAX_BATCH_BYTES,
    RECOVER_PER_STEP,
    TRIM_PER_STEP,
    WORKER_MEMORY,
    Ack,
    AckAnswer,
    Cancelled,
    Completed,
    Failed,
    Keep,
    Recovered,
    Released,
    Reserved,
    Retried,
    Step,
    StepAnswer,
)
from flowli_core.drivers._times import duration, milliseconds, moment, stamp
from flowli_core.drivers.memory._records import LastStep, Worker
from flowli_core.drivers.memory._schedules import Schedules
from flowli_core.drivers.memory._store import Store
from flowli_core.durations import ZERO
from flowli_core.stored import FinishedState


class Steps:
    """Takes the steps of all workers. Its caller holds the lock, and has let the store know the time."""

    def __init__(self, store: Store, schedules: Schedules) -> None:
        self._store = store
        self._schedules = schedules
        self._token = 0
        self._workers: OrderedDict[str, Worker] = OrderedDict()

    def take(self, step: Step, now: int) -> StepAnswer:
        """Do a new step, answer one that was sent before, or refuse one from before that."""
        last = self._last_step(step, now)
        acks: tuple[AckAnswer, ...] = tuple("lost" for _ in step.acks)
        recovered: list[Recovered] = []
        reserved: list[Reserved] = []
        if last is None or step.sequence > last.sequence:
            acks = tuple([self._settle(ack, now) for ack in step.acks])
            recovered = self._recover(now)
            reserved = self._reserve(step, now)
            if step.acks or not reserved:
                self._trim(step.keep, now)
            self._remember(step, acks, reserved, now)
        elif step.sequence == last.sequence:
            acks = last.acks
            reserved = self._reserve_again(step, last, now)
        tick = self._schedules.first_tick()
        return StepAnswer(
            now=moment(now),
            acks=acks,
            reserved=tuple(reserved),
            recovered=tuple(recovered),
            next_due=self._next_due(step, reserved, now),
            next_tick=None if tick is None else duration(max(tick - now, 0)),
            forgot=step.wait is None and step.sequence > 1 and (last is None or last.sequence < step.sequence - 1),
        )

    def note_seen(self, worker: str, now: int) -> None:
        """Note that a worker is alive."""
        known = self._workers.get(worker)
        if known is not None:
            known.seen = now
            self._workers.move_to_end(worker)

    def seen_since(self, moment: int) -> dict[str, int]:
        """Return the workers that were seen after a moment, and when each was last seen."""
        return {name: one.seen for name, one in self._workers.items() if one.seen > moment}

    def _settle(self, ack: Ack, now: int) -> AckAnswer:
        record = self._store.records.get(ack.id)
        if record is None:
            return "lost"
        if record.token != ack.token:
            return "duplicate" if record.settled == ack.token else "lost"
        started = record.started if ack.started_at is None else stamp(ack.started_at)
        self._store.leave(record)
        record.settled = ack.token
        record.started = started
        match ack.outcome:
            case Completed(result):
                record.result = result
                self._store.finish(record, "completed")
            case Retried(delay, progress):
                record.progress = progress
                record.failed = now
                self._store.put_back(record, now + milliseconds(delay))
            case Failed(progress):
                record.progress = progress
                record.failed = now
                self._store.finish(record, "failed")
            case Released(delay, progress):
                record.progress = record.progress if progress is None else progress
                self._store.put_back(record, now + milliseconds(delay) if delay else min(record.due, now))
            case Cancelled():
                self._store.finish(record, "cancelled")
            case _ as never:
                assert_never(never)
        return "ok"

    def _recover(self, now: int) -> list[Recovered]:
        recovered: list[Recovered] = []
        while len(recovered) < RECOVER_PER_STEP and (first := self._store.leases.first_until(now)) is not None:
            record = self._store.records[first]
            self._store.leave(record)
            record.recoveries += 1
            state: Literal["queued", "failed", "cancelled"] = "cancelled" if record.cancel else "queued"
            if record.recoveries > record.new.max_recoveries and not record.cancel:
                state = "failed"
                self._store.finish(record, "failed")
            else:
                self._store.put_back(record, min(record.due, now))
            recovered.append(
                Recovered(
                    id=first,
                    name=record.new.name,
                    queue=record.new.queue,
                    recoveries=record.recoveries,
                    state=state,
                )
            )
        return recovered

    def _trim(self, keep: Keep, now: int) -> None:
        budget = TRIM_PER_STEP
        while budget and (expired := self._store.expiries.first_until(now)) is not None:
            self._store.remove(expired)
            budget -= 1
        most: tuple[tuple[FinishedState, int], ...]
        most = (("completed", keep.completed), ("failed", keep.failed), ("cancelled", keep.cancelled))
        for state, limit in most:
            finished = self._store.finished[state]
            while budget and len(finished) > limit and (oldest := finished.first()) is not None:
                self._store.remove(oldest[1])
                budget -= 1

    def _reserve(self, step: Step, now: int) -> list[Reserved]:
        token = self._token + 1
        ends = now + milliseconds(step.lease)
        suspects = step.suspect
        size = 0
        reserved: list[Reserved] = []
        for queue in self._store.named(step.queues):
            while len(reserved) < step.want and (first := queue.next_due(suspects=suspects)) is not None:
                record = self._store.records[first[0]]
                size += len(record.new.input)
                if reserved and size > MAX_BATCH_BYTES:
                    return reserved
                self._token = token
                suspects = suspects and not record.is_suspect()
                first[1].discard(first[0])
                self._store.hand_out(record, worker=step.worker, token=token, ends=ends)
                reserved.append(record.reserved(token))
        return reserved

    def _reserve_again(self, step: Step, last: LastStep, now: int) -> list[Reserved]:
        self.note_seen(step.worker, now)
        records = self._store.records
        held = [record for one in last.batch if (record := records.get(one)) and record.token == last.token]
        for record in held:
            self._store.leases.put(record.new.id, now + milliseconds(step.lease))
        return [record.reserved(last.token) for record in held]

    def _last_step(self, step: Step, now: int) -> LastStep | None:
        """Return the last step of this sequence of the worker, once the silent workers are forgotten."""
        forgotten = now - milliseconds(WORKER_MEMORY)
        while self._workers and next(iter(self._workers.values())).seen <= forgotten:
            self._workers.popitem(last=False)
        worker = self._workers.get(step.worker)
        return None if worker is None else worker.steps.get(step.wait is not None)

    def _remember(self, step: Step, acks: tuple[AckAnswer, ...], reserved: list[Reserved], now: int) -> None:
        batch = tuple([one.id for one in reserved])
        worker = self._workers.setdefault(step.worker, Worker(now))
        worker.steps[step.wait is not None] = LastStep(step.sequence, acks, self._token, batch)
        self.note_seen(step.worker, now)

    def _next_due(self, step: Step, reserved: list[Reserved], now: int) -> timedelta | None:
        records = self._store.records
        times = [] if (lease := self._store.leases.first()) is None else [lease[0]]
        for queue in self._store.named(step.queues):
            if queue.has_due(suspects=False):
                return ZERO
            if step.suspect and queue.has_due() and not any(records[one.id].is_suspect() for one in reserved):
                return ZERO
            if (later := queue.next_later(suspects=step.suspect)) is not None:
                times.append(later)
        if (tick := self._schedules.first_tick()) is not None and tick > now:
            times.append(tick)
        return duration(max(min(times) - now, 0)) if times else None
