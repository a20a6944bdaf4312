"""A driver that counts what it is asked, in front of another."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from flowli_core.drivers.memory import MemoryDriver

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from flowli_core.driver import (
        Activity,
        CancelAnswer,
        Driver,
        Enqueued,
        FinishedState,
        HeartbeatAnswer,
        Lease,
        NewRecord,
        Position,
        QueueCounts,
        RequeueAnswer,
        State,
        Step,
        StepAnswer,
        StoredRecord,
        StoredSchedule,
    )

WRITES = frozenset({"enqueue", "step", "heartbeat", "cancel", "requeue", "purge", "put_schedule", "remove_schedule"})


class CountingDriver:
    """Counts the calls of each method, keeps what was enqueued and stepped, and passes everything on."""

    def __init__(self, inner: Driver | None = None) -> None:
        self.inner: Driver = inner or MemoryDriver()
        self.calls: Counter[str] = Counter()
        self.enqueued: list[NewRecord] = []
        self.steps: list[Step] = []
        self.answers: list[StepAnswer] = []

    @property
    def writes(self) -> int:
        """How many calls there were that may change something."""
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
        self.calls["step"] += 1
        self.steps.append(step)
        answer = await self.inner.step(step)
        self.answers.append(answer)
        return answer

    async def wait(self, queues: tuple[str, ...], timeout: timedelta) -> None:
        self.calls["wait"] += 1
        await self.inner.wait(queues, timeout)

    async def heartbeat(self, worker: str, leases: Sequence[Lease], lease: timedelta) -> HeartbeatAnswer:
        self.calls["heartbeat"] += 1
        return await self.inner.heartbeat(worker, leases, lease)

    async def cancel(self, record_id: str) -> CancelAnswer:
        self.calls["cancel"] += 1
        return await self.inner.cancel(record_id)

    async def requeue(self, record_id: str, *, progress: bytes | None = None) -> RequeueAnswer:
        self.calls["requeue"] += 1
        return await self.inner.requeue(record_id, progress=progress)

    async def purge(self, state: FinishedState, *, older_than: timedelta, limit: int) -> int:
        self.calls["purge"] += 1
        return await self.inner.purge(state, older_than=older_than, limit=limit)

    async def get(self, record_id: str) -> StoredRecord | None:
        self.calls["get"] += 1
        return await self.inner.get(record_id)

    async def page(self, state: State, *, limit: int, after: Position | None = None) -> list[StoredRecord]:
        self.calls["page"] += 1
        return await self.inner.page(state, limit=limit, after=after)

    async def counts(self) -> QueueCounts:
        self.calls["counts"] += 1
        return await self.inner.counts()

    async def activity(self) -> Activity:
        self.calls["activity"] += 1
        return await self.inner.activity()

    async def put_schedule(self, schedule: StoredSchedule, records: Sequence[NewRecord] = ()) -> bool:
        self.calls["put_schedule"] += 1
        return await self.inner.put_schedule(schedule, records)

    async def remove_schedule(self, key: str) -> bool:
        self.calls["remove_schedule"] += 1
        return await self.inner.remove_schedule(key)

    async def get_schedule(self, key: str) -> tuple[datetime, StoredSchedule | None]:
        self.calls["get_schedule"] += 1
        return await self.inner.get_schedule(key)

    async def due_schedules(self, limit: int) -> tuple[datetime, list[StoredSchedule]]:
        self.calls["due_schedules"] += 1
        return await self.inner.due_schedules(limit)

    async def page_schedules(self, *, limit: int, after: str | None = None) -> list[StoredSchedule]:
        self.calls["page_schedules"] += 1
        return await self.inner.page_schedules(limit=limit, after=after)
