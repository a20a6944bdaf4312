"""A driver around another that counts the calls."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from flowli_core.drivers.memory import MemoryDriver

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from flowli_core.driver import Driver, HeartbeatAnswer, Lease, Step, StepAnswer
    from flowli_core.history import HistoryEntry, HistoryQuery
    from flowli_core.new_records import Enqueued, NewRecord
    from flowli_core.reports import Report
    from flowli_core.stored import (
        FinishedState,
        Found,
        Overview,
        RecordQuery,
        ScheduleByKey,
        SchedulesAfter,
        SchedulesDue,
        StoredSchedule,
        Watch,
    )
    from flowli_core.targets import CancelAnswer, RequeueAnswer, Target

WRITES = frozenset(
    {"enqueue", "step", "wait", "heartbeat", "cancel", "requeue", "purge", "pause_queue", "put_schedule"}
)


class CountingDriver:
    """A driver that counts the calls of each method, and keeps the records and steps that it passes on.

    A step that waits is counted as "wait".
    """

    def __init__(self, inner: Driver | None = None) -> None:
        self.inner: Driver = inner or MemoryDriver()
        self.calls: Counter[str] = Counter()
        self.enqueued: list[NewRecord] = []
        self.steps: list[Step] = []
        self.answers: list[StepAnswer] = []

    @property
    def writes(self) -> int:
        """Return the number of calls that may change something."""
        return sum(self.calls[name] for name in WRITES)

    async def open(self) -> None:
        self.calls["open"] += 1
        await self.inner.open()

    async def close(self) -> None:
        self.calls["close"] += 1
        await self.inner.close()

    async def enqueue(self, records: Sequence[NewRecord]) -> list[Enqueued]:
        self.calls["enqueue"] += 1
        self.enqueued += records
        return await self.inner.enqueue(records)

    async def step(self, step: Step) -> StepAnswer:
        self.calls["wait" if step.wait else "step"] += 1
        self.steps.append(step)
        answer = await self.inner.step(step)
        self.answers.append(answer)
        return answer

    async def heartbeat(
        self, worker: str, leases: Sequence[Lease], lease: timedelta, reports: Sequence[Report] = ()
    ) -> HeartbeatAnswer:
        self.calls["heartbeat"] += 1
        return await self.inner.heartbeat(worker, leases, lease, reports)

    async def cancel(self, targets: Sequence[Target]) -> list[CancelAnswer]:
        self.calls["cancel"] += 1
        return await self.inner.cancel(targets)

    async def requeue(self, targets: Sequence[Target]) -> list[RequeueAnswer]:
        self.calls["requeue"] += 1
        return await self.inner.requeue(targets)

    async def purge(
        self, state: FinishedState, *, older_than: timedelta, limit: int, ids: Sequence[str] | None = None
    ) -> int:
        self.calls["purge"] += 1
        return await self.inner.purge(state, older_than=older_than, limit=limit, ids=ids)

    async def records(self, query: RecordQuery) -> Found:
        self.calls["records"] += 1
        return await self.inner.records(query)

    async def watch(self, watch: Watch) -> list[str]:
        self.calls["watch"] += 1
        return await self.inner.watch(watch)

    async def history(self, query: HistoryQuery) -> tuple[datetime, list[HistoryEntry]]:
        self.calls["history"] += 1
        return await self.inner.history(query)

    async def pause_queue(self, queue: str, *, paused: bool) -> bool:
        self.calls["pause_queue"] += 1
        return await self.inner.pause_queue(queue, paused=paused)

    async def overview(self) -> Overview:
        self.calls["overview"] += 1
        return await self.inner.overview()

    async def put_schedule(
        self, key: str, schedule: StoredSchedule | None, *, revision: int, records: Sequence[NewRecord] = ()
    ) -> bool:
        self.calls["put_schedule"] += 1
        return await self.inner.put_schedule(key, schedule, revision=revision, records=records)

    async def schedules(
        self, query: ScheduleByKey | SchedulesDue | SchedulesAfter
    ) -> tuple[datetime, list[StoredSchedule]]:
        self.calls["schedules"] += 1
        return await self.inner.schedules(query)
